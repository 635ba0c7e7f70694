//! Running cargo on this workspace.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::lab::checkout;

/// The program.
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Cargo with `words`, in the checkout.
pub fn cargo(words: &str) -> Command {
    let mut command = Command::new(program());
    command.args(words.split_whitespace()).current_dir(checkout()).stdin(Stdio::null());
    forget_ours(&mut command);
    command
}

/// Leaves out of the environment of `command`, a build, what cargo has set there for this process: what is
/// built must not depend on which program asked for it.
pub fn forget_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
}
