/* SPDX-License-Identifier: GPL-2.0-only */
/* The input of bindgen: see Kbuild. */

#include "shim.h"
