/* SPDX-License-Identifier: GPL-2.0-only */
/* What bindgen reads: see Kbuild. */

#include "shim.h"
