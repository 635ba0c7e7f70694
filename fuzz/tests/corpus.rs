// SPDX-License-Identifier: GPL-2.0-only

//! What the fuzzer has found worth keeping, run without it: inputs that reach code which no other input
//! reaches; as `found-*`, each that has once shown a fault; and some that people have made, named after what
//! must come of them.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use writeboost_fuzz::volume::Fate;
use writeboost_fuzz::{replay, TARGETS};

/// The inputs of a target: name and bytes.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut all: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        })
        .collect();
    assert!(all.len() >= 10, "{} holds {} inputs only", dir.display(), all.len());
    all.sort();
    all
}

fn run(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    for (name, input) in inputs(target) {
        assert!(catch_unwind(|| run(&input)).is_ok(), "fuzz/corpus/{target}/{name}");
    }
}

#[test]
fn superblock() {
    run("superblock");
}

#[test]
fn headers() {
    run("headers");
}

#[test]
fn arguments() {
    run("arguments");
}

#[test]
fn replay_of_every_kind() {
    let mut fates = Vec::new();
    for (name, input) in inputs("replay") {
        match catch_unwind(|| replay::run(&input)) {
            Ok(fate) => {
                let expected = format!("{fate:?}-").to_lowercase();
                let named = ["refused-", "damaged-", "works-"].iter().any(|f| name.starts_with(f));
                assert!(!named || name.starts_with(&expected), "fuzz/corpus/replay/{name}: {fate:?}");
                fates.push(fate);
            }
            Err(_) => panic!("fuzz/corpus/replay/{name}"),
        }
    }
    for fate in [Fate::Refused, Fate::Damaged, Fate::Works] {
        assert!(fates.contains(&fate), "{fate:?} never happens");
    }
}
