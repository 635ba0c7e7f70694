//! Files with numbers, of which size and content follow from a seed: written with fsync, and compared after a
//! power cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use crate::random::Random;

/// Directories that the files are spread over.
const DIRECTORIES: u64 = 16;
/// Bytes of the largest file, nearly.
const MOST: u64 = 96 << 10;

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("d{}/f{number}", number % DIRECTORIES))
}

fn content(seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(&[seed, number]);
    let mut bytes = vec![0; random.below(MOST) as usize];
    random.fill(&mut bytes);
    bytes
}

/// Writes the files from number `from` on below `dir`, `count` or for ever, and says of each so by `report`
/// once it and its name are durable.
pub fn write(
    dir: &Path,
    seed: u64,
    from: u64,
    count: Option<u64>,
    mut report: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    for number in from..count.map_or(u64::MAX, |count| from + count) {
        let path = path(dir, number);
        let parent = path.parent().context("it has a parent")?;
        fs::create_dir_all(parent)?;
        let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.write_all(&content(seed, number))?;
        file.sync_all().with_context(|| format!("cannot sync {}", path.display()))?;
        // The names of the file and of its directory have to be durable, too.
        File::open(parent)?.sync_all()?;
        File::open(dir)?.sync_all()?;
        report(number)?;
    }
    Ok(())
}

/// Checks that the files 1 to `last` are as they were written.
pub fn check(dir: &Path, seed: u64, last: u64) -> Result<()> {
    for number in 1..=last {
        let path = path(dir, number);
        let is = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(is == content(seed, number), "{} is not as it was written", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        let dir = std::env::temp_dir().join(format!("wbtest-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut seen = Vec::new();
        write(&dir, 1, 1, Some(5), |number| {
            seen.push(number);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        assert!(check(&dir, 1, 5).is_ok());
        assert!(check(&dir, 1, 6).is_err());
        assert!(check(&dir, 2, 5).is_err());
        fs::write(path(&dir, 3), "other").unwrap();
        assert!(check(&dir, 1, 5).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
