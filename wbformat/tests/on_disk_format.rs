// SPDX-License-Identifier: GPL-2.0-only

//! `docs/on-disk-format.md` against the code: its layout tables must cover every byte, its hex dumps must
//! decode to the values beside them, both by the tables and by the engine, and the engine must encode these
//! very bytes.

use std::collections::BTreeMap;
use writeboost::{
    format::{Block, Checkpoint, Entry, RecordHeader, Segment, Seq, Superblock, BLOCK, SECTOR},
    host::crc32c,
};

const TEXT: &str = include_str!("../../docs/on-disk-format.md");

/// The cells of the table behind `marker`, without its two head lines.
fn table(marker: &str) -> Vec<Vec<String>> {
    let (_, rest) = TEXT.split_once(&format!("<!-- {marker} -->\n")).unwrap_or_else(|| panic!("no {marker}"));
    rest.lines()
        .take_while(|l| l.starts_with('|'))
        .skip(2)
        .map(|l| l.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

/// Name, offset and length of each field in a layout table. They must cover `whole` bytes without a gap.
fn layout(name: &str, whole: usize) -> Vec<(String, usize, usize)> {
    let mut end = 0;
    let fields: Vec<_> = table(&format!("layout: {name}"))
        .into_iter()
        .map(|row| {
            let (at, len) = (row[0].parse().unwrap(), row[1].parse::<usize>().unwrap());
            assert_eq!(at, end, "{name}: {}", row[2]);
            end += len;
            (row[2].clone(), at, len)
        })
        .collect();
    assert_eq!(end, whole, "{name}");
    fields
}

/// The bytes of a hex dump, as `hexdump -C` prints them.
fn dump(name: &str) -> Vec<u8> {
    let (_, rest) =
        TEXT.split_once(&format!("```hex {name}\n")).unwrap_or_else(|| panic!("no dump of {name}"));
    let mut bytes = Vec::new();
    for line in rest.lines().take_while(|l| !l.starts_with("```")).filter(|l| *l != "*") {
        let (at, rest) = line.split_once("  ").unwrap_or((line, ""));
        bytes.resize(usize::from_str_radix(at, 16).unwrap(), 0);
        let (hex, chars) = rest.split_once("  |").unwrap_or(("", ""));
        let row: Vec<u8> = hex.split_whitespace().map(|h| u8::from_str_radix(h, 16).unwrap()).collect();
        let printed: String =
            row.iter().map(|&b| if (0x20..0x7f).contains(&b) { b as char } else { '.' }).collect();
        assert_eq!(printed, chars.trim_end_matches('|'), "{line}");
        bytes.extend(row);
    }
    bytes
}

fn values(name: &str) -> BTreeMap<String, String> {
    table(&format!("values: {name}")).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

fn number(text: &str) -> u64 {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Reads each number by the layout table, without the engine: it must be the value in the text.
#[track_caller]
fn by_table(name: &str, bytes: &[u8], values: &BTreeMap<String, String>, prefix: &str) {
    for (field, at, len) in layout(name, bytes.len()) {
        let raw = &bytes[at..at + len];
        match field.as_str() {
            "-" => assert!(raw.iter().all(|&b| b == 0), "{name}: unused bytes at {at}"),
            _ if len <= 8 && field != "magic" && field != "version" => {
                let text = &values[&format!("{prefix}{field}")];
                assert_eq!(little_endian(raw), number(text), "{name}: {field}");
            }
            _ => (),
        }
    }
}

fn superblock() -> Superblock {
    Superblock::decode(&dump("superblock").try_into().unwrap()).unwrap()
}

#[test]
fn superblock_example() {
    let bytes: [u8; SECTOR] = dump("superblock").try_into().unwrap();
    let v = values("superblock");
    by_table("superblock", &bytes, &v, "");
    let uuid = uuid::Uuid::parse_str(&v["uuid"]).unwrap();
    let mut sb = Superblock::new(
        64 << 11,
        number(&v["backing_sectors"]),
        number(&v["segment_blocks"]) as u32,
        uuid.into_bytes(),
        number(&v["nonce"]),
    )
    .unwrap();
    sb.set_name(&v["name"]).unwrap();
    sb.set_backing_id(&v["backing_id"]).unwrap();
    assert_eq!(u64::from(sb.nr_segments), number(&v["nr_segments"]));
    assert_eq!(u64::from(sb.first_block), number(&v["first_block"]));
    assert_eq!(Superblock::decode(&bytes), Ok(sb.clone()));
    assert_eq!(sb.encode(), bytes);
    // Text fields are read by the table, too.
    for (field, at, len) in layout("superblock", SECTOR) {
        if let "name" | "backing_id" = field.as_str() {
            let text = std::str::from_utf8(&bytes[at..at + len]).unwrap();
            assert_eq!(text.trim_end_matches('\0'), v[&field]);
        }
    }
}

#[test]
fn checkpoint_example() {
    let bytes: [u8; SECTOR] = dump("checkpoint").try_into().unwrap();
    let v = values("checkpoint");
    by_table("checkpoint", &bytes, &v, "");
    let n = |field: &str| number(&v[field]);
    let cp = Checkpoint {
        nonce: n("nonce"),
        generation: n("generation"),
        epoch: n("epoch"),
        epoch_start: Seq(n("epoch_start")),
        tail: Seq(n("tail")),
        durable: Seq(n("durable")),
        tail_segment: Segment(n("tail_segment") as u32),
    };
    assert_eq!(Checkpoint::decode(&bytes, &superblock()), Ok(cp));
    assert_eq!(cp.encode(), bytes);
    assert_eq!(cp.block(), 2, "the text says so");
}

#[test]
fn record_example() {
    let bytes: [u8; BLOCK] = dump("record").try_into().unwrap();
    let v = values("record");
    by_table("record", &bytes, &v, "");
    let n = |field: &str| number(&v[field]);
    let header = RecordHeader {
        nonce: n("nonce"),
        seq: Seq(n("seq")),
        epoch: n("epoch"),
        durable: Seq(n("durable")),
        tail: Seq(n("tail")),
        blocks: n("blocks") as u16,
    };
    let entry = |i: usize| Entry {
        addr: Block(n(&format!("entry {i} addr"))),
        mask: n(&format!("entry {i} mask")) as u8,
        crc: n(&format!("entry {i} crc")) as u32,
    };
    assert_eq!(RecordHeader::decode(&bytes, &superblock(), 0), Ok(header));
    for i in 0..usize::from(header.blocks) {
        assert_eq!(RecordHeader::entry(&bytes, i), entry(i));
        by_table("entry", &bytes[64 + i * 12..][..12], &v, &format!("entry {i} "));
    }
    let mut encoded = [0; BLOCK];
    header.encode(&mut encoded, entry);
    assert_eq!(encoded, bytes);

    // The data that the text describes.
    let whole = [0xa5; BLOCK];
    let mut partial = [0; BLOCK];
    partial[SECTOR..3 * SECTOR].fill(0x5a);
    assert_eq!(crc32c(0, &whole), entry(0).crc);
    assert_eq!(crc32c(0, &partial), entry(1).crc);
}
