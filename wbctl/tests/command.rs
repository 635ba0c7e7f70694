// SPDX-License-Identifier: GPL-2.0-only

//! The real `wbctl`, as far as it works without the kernel's part: usage, exit codes, JSON. The rest is
//! tested in guests.

use std::process::{Command, Output};

fn wbctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wbctl")).args(args).output().unwrap()
}

#[test]
fn help_documents_the_exit_codes() {
    for args in [&["--help"][..], &["create", "--help"], &["drain", "--help"]] {
        let out = wbctl(args);
        assert!(out.status.success());
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("130  interrupted"), "{text}");
    }
}

#[test]
fn usage() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["create", "v"],
        &["create", "v", "/dev/null", "/dev/null", "--opt", "x"],
        &["create", "a/b", "/dev/null", "/dev/null"],
        &["create", "", "/dev/null", "/dev/null"],
        &["create", "v", "/dev/null", "/dev/null", "-o", "x=1", "-o", "x=2"],
    ] {
        assert_eq!(wbctl(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let out = wbctl(&["create", "a b", "/dev/null", "/dev/null", "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(error["exit_code"], 2);
    assert!(error["error"].as_str().unwrap().contains("a b"));
    assert!(!out.stderr.is_empty());
}
