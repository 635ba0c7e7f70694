// SPDX-License-Identifier: GPL-2.0-only

//! Words of a table line and of messages.

use writeboost::interface::message::{Message, Who, DAEMON};
use writeboost::interface::report::MAX_CELLS;
use writeboost::interface::table::{options, Options, Table, TableError, MAX_BATCHED};
use writeboost::interface::write_pairs;

/// The first line of the input is a table line's words behind the devices, each other line a message to that
/// volume.
pub fn run(input: &[u8]) {
    let mut lines = input.split(|&b| b == b'\n');
    let line = words(lines.next().unwrap_or_default());
    let options = match options(line.iter().copied()) {
        Ok(options) => {
            assert!(line.is_empty() || line[0].and_then(|n| n.parse().ok()) == Some(line.len() - 1));
            options
        }
        Err(TableError::Count) => Options::default(),
        Err(TableError::Option { key, value, error }) => {
            // The error is about two words that are there, one behind the other.
            assert!(line[1..].chunks(2).any(|w| [key, value] == [0, 1].map(|i| w[i].unwrap_or(""))));
            assert!(error.to_string().len() < 200);
            Options::default()
        }
    };
    check(&options);
    for line in lines {
        let line = words(line);
        let before = shown(&options, true);
        match Message::parse(line.iter().copied()) {
            Ok(
                Message::Drain | Message::ClearCounters | Message::GiveUp | Message::Uuid | Message::Health,
            ) => assert_eq!(line.len(), 1),
            Ok(Message::Report(query)) => {
                assert!((1..=MAX_CELLS).contains(&query.cells) && matches!(line.len(), 1 | 2 | 4));
                for segments in [1, 16, 1 << 19, u32::MAX] {
                    if let Ok((first, count)) = query.segments(segments) {
                        assert!(count > 0 && first < segments && count <= segments - first);
                    }
                }
            }
            Ok(Message::Set { key, value, by }) => {
                assert_eq!(line[..2], [Some(key), Some(value)]);
                let who = if by == Who::Daemon { vec![Some(DAEMON)] } else { vec![] };
                assert_eq!(line[2..], who);
                match options.set(key, value) {
                    Ok(()) => assert!(shown(&options, false).contains(&format!(" {key} "))),
                    Err(e) => {
                        assert_eq!(shown(&options, true), before, "what is refused changes nothing");
                        assert!(e.to_string().len() < 200);
                    }
                }
            }
            Err(word) => assert_eq!(word, line.first().copied().flatten().unwrap_or("")),
        }
        check(&options);
    }
}

/// As device-mapper hands them over, but for what a backslash does.
fn words(line: &[u8]) -> Vec<Option<&str>> {
    line.split(|b| b.is_ascii_whitespace() || *b == 0)
        .filter(|w| !w.is_empty())
        .map(|w| std::str::from_utf8(w).ok())
        .collect()
}

fn shown(options: &Options, only_given: bool) -> String {
    let mut out = String::new();
    if only_given {
        write_pairs(&mut out, options.all_given()).unwrap();
    } else {
        write_pairs(&mut out, options.all()).unwrap();
    }
    out
}

fn check(now: &Options) {
    assert!(now.writeback_threshold().is_none_or(|n| n <= 100));
    assert!(now.nr_max_batched_writeback().is_none_or(|n| (1..=MAX_BATCHED).contains(&n)));
    assert!(now.sync_data_interval() <= 3600 && now.steering_timeout() <= 3600);
    assert!(now.writeback_rate_limit().is_none_or(|n| (1..=4 << 20).contains(&n)));
    // What status shows can be given to a table line, and is shown again.
    for only_given in [true, false] {
        let line = shown(now, only_given);
        let again = options(words(line.as_bytes()).into_iter()).unwrap();
        assert_eq!(shown(&again, only_given), line);
        assert!(Table::parse(&format!("a b {line}")).is_some());
        assert_eq!(shown(&again, false), shown(now, false));
    }
}
