// SPDX-License-Identifier: GPL-2.0-only

//! Loads the kernel module.

use std::process::{Command, Stdio};

/// The module's name.
pub const MODULE: &str = "dm-writeboost";

/// Runs modprobe, and returns its message.
pub fn load() -> String {
    // modprobe is in sbin, which a user's PATH often lacks.
    for program in ["modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"] {
        if let Ok(out) = Command::new(program).arg(MODULE).stdin(Stdio::null()).output() {
            let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
            return if said.is_empty() { out.status.to_string() } else { said };
        }
    }
    "there is no modprobe".to_owned()
}
