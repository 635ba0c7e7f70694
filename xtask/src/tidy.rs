//! Checks of text, whatever it is written in: lines fit a window, and shell scripts are clean for shellcheck.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use xtask::lab::{checkout, install_shellcheck};
use xtask::progress::Progress;

/// The columns of a line, as `rustfmt.toml` has them.
const COLUMNS: usize = 110;
/// A tab leads to the next column that is a multiple of this.
const TAB: usize = 8;

/// Files whose lines are up to a program or to other people, by name, by the end of it, and by directory.
const FOREIGN: [&str; 2] = ["Cargo.lock", "LICENSE"];
const FOREIGN_KINDS: [&str; 5] = ["csv", "json", "patch", "snap", "svg"];
const FOREIGN_DIRS: [&str; 1] = ["fuzz/corpus"];

/// The lines of this repository that are too long, as `file:line`; nothing if there are none.
pub fn width() -> Result<Option<String>> {
    let mut found = String::new();
    for path in tracked()?.iter().filter(|path| !is_foreign(path)) {
        // Binary files have no lines. A file may also be deleted, and git not know it yet.
        let Ok(text) = fs::read_to_string(checkout().join(path)) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_too_long(path, line)) {
            found += &format!("{}:{}: {} columns\n", path.display(), number + 1, columns(line));
        }
    }
    Ok((!found.is_empty()).then_some(found))
}

/// What shellcheck finds in the scripts of this repository; nothing if it finds nothing.
pub fn shell(progress: Progress) -> Result<Option<String>> {
    install_shellcheck(progress)?;
    let scripts: Vec<PathBuf> = tracked()?.into_iter().filter(|path| is_script(path)).collect();
    ensure!(!scripts.is_empty(), "git knows of no scripts");
    let output = Command::new("shellcheck")
        .args(["--format", "gcc", "--"])
        .args(scripts)
        .current_dir(checkout())
        .output()
        .context("cannot run shellcheck")?;
    let text = [output.stdout, output.stderr].concat();
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&text).into_owned()))
}

/// The files that git knows, relative to the checkout.
fn tracked() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    let output = git.args(["ls-files", "-z"]).current_dir(checkout()).output().context("cannot run git")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "this checks the files that git knows, and git says: {}", error.trim());
    let names = String::from_utf8(output.stdout).context("the name of a file is not UTF-8")?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn is_foreign(path: &Path) -> bool {
    let is = |part: Option<&std::ffi::OsStr>, of: &[&str]| {
        part.is_some_and(|part| of.iter().any(|is| *is == part))
    };
    is(path.file_name(), &FOREIGN)
        || is(path.extension(), &FOREIGN_KINDS)
        || FOREIGN_DIRS.iter().any(|dir| path.starts_with(dir))
}

fn is_script(path: &Path) -> bool {
    let begins = |bytes: Vec<u8>| {
        let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        first.starts_with(b"#!") && first.ends_with(b"sh")
    };
    match path.extension() {
        Some(extension) => extension == "sh",
        None => fs::read(checkout().join(path)).is_ok_and(begins),
    }
}

fn is_too_long(path: &Path, line: &str) -> bool {
    columns(line) > COLUMNS && !(is_row(path, line) || is_one_word(line))
}

/// A row of a table in Markdown is one line.
fn is_row(path: &Path, line: &str) -> bool {
    path.extension().is_some_and(|extension| extension == "md") && line.trim_start().starts_with('|')
}

/// Whether there is nothing to break behind the marks of a comment, a list or a string, such as with an
/// address.
fn is_one_word(line: &str) -> bool {
    let text = line.trim_start_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation());
    !text.trim_end().contains(char::is_whitespace)
}

fn columns(line: &str) -> usize {
    line.chars().fold(0, |at, c| if c == '\t' { (at / TAB + 1) * TAB } else { at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_and_tabs_are_counted() {
        assert_eq!(columns(""), 0);
        assert_eq!(columns("größer"), 6);
        assert_eq!(columns("\tx"), 9);
        assert_eq!(columns("1234567\t\tx"), 17);
        assert_eq!(columns("12345678\tx"), 17);
    }

    #[test]
    fn a_line_of_more_columns_is_too_long() {
        let source = Path::new("kmod/src/host/kernel/shim.c");
        let line = |columns: usize| format!("// {} x", "x".repeat(columns - 5));
        assert!(!is_too_long(source, &line(COLUMNS)));
        assert!(is_too_long(source, &line(COLUMNS + 1)));
        // Eight columns more, of which the tab itself is seven.
        assert!(!is_too_long(source, &format!("\t{}", line(COLUMNS - TAB))));
        assert!(is_too_long(source, &format!("\t{}", line(COLUMNS - TAB + 1))));
    }

    #[test]
    fn one_word_has_no_place_to_break() {
        let address = format!("https://example.org/{}", "x".repeat(COLUMNS));
        for mark in ["", "    // ", "/// ", "# ", " * ", "  - <", "    \""] {
            assert!(!is_too_long(Path::new("a.rs"), &format!("{mark}{address}\",")), "{mark}");
        }
        for line in
            [format!("// See {address}"), format!("// {address} has it"), format!("let a = \"{address}\";")]
        {
            assert!(is_too_long(Path::new("a.rs"), &line), "{line}");
        }
    }

    #[test]
    fn a_row_is_one_line_in_markdown_only() {
        let row = format!("| a | {} |", "b ".repeat(COLUMNS));
        assert!(!is_too_long(Path::new("docs/faults.md"), &row));
        assert!(is_too_long(Path::new("xtask/src/tidy.rs"), &row));
        assert!(is_too_long(Path::new("docs/faults.md"), &format!("The table: {row}")));
    }

    #[test]
    fn files_of_programs_are_left_alone() {
        for path in [
            "Cargo.lock",
            "LICENSE",
            "wbdaemon/loads/ext4.csv",
            "kmod/mutants/no_window.patch",
            "fuzz/corpus/a/1",
        ] {
            assert!(is_foreign(Path::new(path)), "{path}");
        }
        for path in ["Cargo.toml", "README.md", "fuzz/src/lib.rs", "kmod/Kbuild", ".ci/run"] {
            assert!(!is_foreign(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn scripts_are_found() {
        for path in [".ci/run", "xtask/src/lab/scripts/init.sh"] {
            assert!(is_script(Path::new(path)), "{path}");
        }
        for path in ["xtask/src/tidy.rs", "kmod/Kbuild", "LICENSE", "there/is/none"] {
            assert!(!is_script(Path::new(path)), "{path}");
        }
    }
}
