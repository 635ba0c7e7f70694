// SPDX-License-Identifier: GPL-2.0-only

//! Sizes as people write and read them.

use writeboost::format::SECTOR;

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Parses a size in bytes: a number, or a number with `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// A message for the user.
pub fn parse_bytes(s: &str) -> Result<u64, String> {
    parse(s, 1)
}

/// Parses a size in sectors: a number of sectors, or bytes with `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// A message for the user.
pub fn parse_sectors(s: &str) -> Result<u64, String> {
    parse(s, SECTOR as u64).map(|bytes| bytes / SECTOR as u64)
}

fn parse(s: &str, plain: u64) -> Result<u64, String> {
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| s.strip_suffix(name).map(|n| (n, *unit))).unwrap_or((s, plain));
    number
        .trim_end()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(|| "a size is a whole number, optionally with KiB, MiB, GiB or TiB".to_owned())
}

/// `bytes` for people: three digits and a unit.
pub fn human(bytes: u64) -> String {
    match UNITS.iter().rev().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} bytes"),
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => {
            let value = bytes as f64 / *unit as f64;
            format!("{value:.*} {name}", if value < 10.0 { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        assert_eq!(parse_bytes("512KiB"), Ok(512 << 10));
        assert_eq!(parse_bytes("512 KiB"), Ok(512 << 10));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_sectors("4096"), Ok(4096));
        assert_eq!(parse_sectors("1MiB"), Ok(2048));
        for bad in ["", "KiB", "-1", "1.5GiB", "1KB", "99999999999TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prints() {
        assert_eq!(human(512), "512 bytes");
        assert_eq!(human(512 << 10), "512 KiB");
        assert_eq!(human(1_500_000), "1.43 MiB");
        assert_eq!(human(4_000_787_030_016), "3.64 TiB");
    }
}
