// SPDX-License-Identifier: GPL-2.0-only

//! The engine.

pub mod format;
