// SPDX-License-Identifier: GPL-2.0-only

//! `docs/interface.md` against the code: options, messages, counters, keys, states, faults and the characters
//! of the map.
#![cfg(not(any(feature = "loom", feature = "races")))]

use writeboost::interface::{
    message::{Message, Who},
    report::{Cell, MAX_CELLS, VERSION},
    status::{trouble, Counters, Named, State, Status},
    table::Options,
    Words,
};

const TEXT: &str = include_str!("../../docs/interface.md");

/// The cells of the table behind `marker`, without its two head lines.
fn table(marker: &str) -> Vec<Vec<String>> {
    let (_, rest) = TEXT.split_once(&format!("<!-- {marker} -->\n")).unwrap_or_else(|| panic!("no {marker}"));
    let cells = |l: &str| -> Vec<String> {
        let l = l.strip_prefix('|').unwrap().strip_suffix('|').unwrap();
        l.split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect()
    };
    rest.lines().take_while(|l| l.starts_with('|')).skip(2).map(cells).collect()
}

fn column(marker: &str, i: usize) -> Vec<String> {
    table(marker).into_iter().map(|row| row[i].clone()).collect()
}

#[test]
fn options() {
    let known: Vec<_> = Options::known()
        .iter()
        .map(|k| [k.name.to_owned(), format!("{} to {}", k.min, k.max), k.unit.to_owned()])
        .collect();
    let written: Vec<_> = table("options").into_iter().map(|row| [0, 1, 2].map(|i| row[i].clone())).collect();
    assert_eq!(written, known);
}

#[test]
fn messages() {
    // A new message needs an arm here, and a line in the table.
    let place = |message: &Message<'_>| match message {
        Message::Set { by: Who::Hand, .. } => 0,
        Message::Set { by: Who::Daemon, .. } => 1,
        Message::Drain => 2,
        Message::GiveUp => 3,
        Message::ClearCounters => 4,
        Message::Uuid => 5,
        Message::Health => 6,
        Message::Report(_) => 7,
    };
    let written = column("messages", 0);
    assert_eq!(written.len(), 8);
    for (i, line) in written.iter().enumerate() {
        // Words in brackets may be left out.
        let (least, _) = line.split_once(" [").unwrap_or((line, ""));
        let most =
            line.replace(['[', ']'], "").replace("CELLS", "1").replace("FIRST", "2").replace("COUNT", "3");
        for line in [least, &most] {
            let message = Message::parse(Words::of(line)).unwrap_or_else(|word| panic!("{line}: {word}"));
            assert_eq!(place(&message), i, "{line}");
        }
    }
}

#[test]
fn counters() {
    let known: Vec<_> = (0..16)
        .map(|i| {
            let mut row = vec![(8 + i).to_string()];
            row.extend(Counters::words(i).map(str::to_owned));
            row
        })
        .collect();
    assert_eq!(table("counters"), known);
}

#[test]
fn keys() {
    assert_eq!(column("keys", 0), Named::WORDS);
    // The places of the numbers in front of the pairs.
    let numbers: Vec<String> = (1..=24).map(|n| n.to_string()).collect();
    let status = Status::parse(&numbers.join(" "), |_, _| ()).unwrap();
    assert_eq!((status.cursor, status.dirty_blocks, status.partial_flushed), (1, 7, 24));
    assert_eq!((status.counters.0[0], status.counters.0[15]), (8, 23));
}

#[test]
fn states_and_faults() {
    let states: Vec<_> =
        State::ALL.into_iter().map(|s| [(s as u32).to_string(), s.word().to_owned()]).collect();
    let faults: Vec<_> =
        trouble::WORDS.iter().map(|(bit, word)| [bit.to_string(), (*word).to_owned()]).collect();
    for (marker, known) in [("states", states), ("faults", faults)] {
        let written: Vec<_> = table(marker).into_iter().map(|row| [0, 1].map(|i| row[i].clone())).collect();
        assert_eq!(written, known);
    }
}

#[test]
fn the_map() {
    let written = column("cells", 0);
    let cells = [Cell::Free, Cell::Clean, Cell::Dirty(1), Cell::Writing, Cell::Open];
    let known: Vec<_> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Dirty(_) => "1` to `9".to_owned(),
            cell => cell.char().to_string(),
        })
        .collect();
    assert_eq!(written, known);
    assert!(cells.is_sorted(), "of several kinds, the lowest of the table is shown");
    let words = TEXT.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("4,096 at most") && MAX_CELLS == 4096);
    assert!(words.contains(&format!("A version ({VERSION})")));
}
