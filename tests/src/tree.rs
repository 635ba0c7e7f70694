//! Directories that change all the time: files are created, replaced, appended to, overwritten, truncated,
//! renamed and removed, and made durable now and then. Each writer has a directory of its own, and all that
//! it does follows from a seed, so that after a power cut it is known what must be there.
//!
//! What a file system promises, and what [`check`] holds it to: what was there when a sync ended, and was not
//! touched since, is there, exactly so. What was touched since may be in between, except a file that was
//! replaced as programs do it that care (write another one, fsync it, rename it over the old one): that is
//! old or new, never a mixture.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::random::Random;

/// Names of each writer.
const NAMES: u64 = 12;
/// Bytes of a file, at most, nearly.
const MOST: u64 = 48 << 10;
/// What a replacement is called until it is renamed.
const TEMPORARY: &str = "new";

/// What a writer does at one step. A name is a number below [`NAMES`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Write { name: u64, bytes: Vec<u8> },
    Append { name: u64, bytes: Vec<u8> },
    Overwrite { name: u64, at: u64, bytes: Vec<u8> },
    Truncate { name: u64, len: u64 },
    Rename { from: u64, to: u64 },
    Remove { name: u64 },
    Replace { name: u64, bytes: Vec<u8> },
    Sync { whole: bool },
}

/// One writer.
#[derive(Debug)]
struct Writer {
    seed: u64,
    number: u64,
    /// What its files are once all is done so far.
    files: BTreeMap<u64, Vec<u8>>,
}

impl Writer {
    fn new(seed: u64, number: u64) -> Self {
        Self { seed, number, files: BTreeMap::new() }
    }

    fn dir(&self, dir: &Path) -> PathBuf {
        dir.join(format!("w{}", self.number))
    }

    /// What it does at step `step`, from 1.
    fn step(&self, step: u64) -> Step {
        let mut random = Random::new(&[self.seed, self.number, step]);
        let mut bytes = |most: u64| {
            let mut bytes = vec![0; 1 + random.below(most) as usize];
            random.fill(&mut bytes);
            bytes
        };
        let (large, small) = (bytes(MOST), bytes(3000));
        let (name, other) = (random.below(NAMES), random.below(NAMES));
        let len = self.files.get(&name).map(|file| file.len() as u64);
        match (random.below(16), len) {
            (0..=2, _) => Step::Sync { whole: random.below(4) == 0 },
            (3..=5, _) => Step::Replace { name, bytes: large },
            // Not for ever larger.
            (6 | 7, Some(len)) if len < MOST * 2 => Step::Append { name, bytes: small },
            (8 | 9, Some(len)) if len > 0 => Step::Overwrite { name, at: random.below(len), bytes: small },
            (10, Some(len)) => Step::Truncate { name, len: random.below(len * 2 + 1) },
            (11 | 12, Some(_)) if name != other => Step::Rename { from: name, to: other },
            (13, Some(_)) => Step::Remove { name },
            _ => Step::Write { name, bytes: large },
        }
    }

    /// Does a step on the files that it knows of.
    fn done(&mut self, step: Step) {
        match step {
            Step::Write { name, bytes } | Step::Replace { name, bytes } => {
                self.files.insert(name, bytes);
            }
            Step::Append { name, bytes } => self.files.entry(name).or_default().extend(bytes),
            Step::Overwrite { name, at, bytes } => {
                let file = self.files.entry(name).or_default();
                file.resize(file.len().max(at as usize + bytes.len()), 0);
                file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
            Step::Truncate { name, len } => self.files.entry(name).or_default().resize(len as usize, 0),
            Step::Rename { from, to } => {
                if let Some(file) = self.files.remove(&from) {
                    self.files.insert(to, file);
                }
            }
            Step::Remove { name } => {
                self.files.remove(&name);
            }
            Step::Sync { .. } => {}
        }
    }

    /// Makes steps until `go_on` says no, and reports each sync.
    fn run(
        &mut self,
        dir: &Path,
        go_on: impl Fn() -> bool,
        report: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let dir = self.dir(dir);
        fs::create_dir_all(&dir)?;
        File::open(dir.parent().context("it has a parent")?)?.sync_all()?;
        let path = |name: u64| dir.join(format!("f{name}"));
        let open = |name: u64| {
            OpenOptions::new()
                .write(true)
                .open(path(name))
                .with_context(|| format!("f{name} cannot be opened"))
        };
        // What a sync has to reach, besides the directory.
        let mut touched = std::collections::BTreeSet::new();
        for number in 1.. {
            if !go_on() {
                break;
            }
            let step = self.step(number);
            match &step {
                Step::Write { name, bytes } => File::create(path(*name))?.write_all(bytes)?,
                Step::Append { name, bytes } => {
                    OpenOptions::new().append(true).open(path(*name))?.write_all(bytes)?;
                }
                Step::Overwrite { name, at, bytes } => open(*name)?.write_all_at(bytes, *at)?,
                Step::Truncate { name, len } => open(*name)?.set_len(*len)?,
                Step::Rename { from, to } => fs::rename(path(*from), path(*to))?,
                Step::Remove { name } => fs::remove_file(path(*name))?,
                Step::Replace { name, bytes } => {
                    let new = dir.join(TEMPORARY);
                    let mut file = File::create(&new)?;
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    fs::rename(&new, path(*name))?;
                }
                Step::Sync { whole: true } => nix::unistd::syncfs(File::open(&dir)?)?,
                Step::Sync { whole: false } => {
                    for name in touched.iter().filter(|name| self.files.contains_key(name)) {
                        open(*name)?.sync_all()?;
                    }
                    File::open(&dir)?.sync_all()?;
                }
            }
            let sync = matches!(step, Step::Sync { .. });
            touched.extend(names(&step));
            self.done(step);
            if sync {
                touched.clear();
                report(number)?;
            }
        }
        Ok(())
    }

    /// Checks what is there after a power cut, when the sync at step `durable` was reported and no later one;
    /// 0 for none. Answers with how many names had to be exactly so.
    fn check(&mut self, dir: &Path, durable: u64) -> Result<u64> {
        let dir = self.dir(dir);
        for number in 1..=durable {
            let step = self.step(number);
            ensure!(number < durable || matches!(step, Step::Sync { .. }), "step {durable} is no sync");
            self.done(step);
        }
        // What each name may be; nothing for one that may be anything.
        let mut may_be: BTreeMap<u64, Option<Vec<Option<Vec<u8>>>>> =
            (0..NAMES).map(|name| (name, Some(vec![self.files.get(&name).cloned()]))).collect();
        for number in durable + 1.. {
            let step = self.step(number);
            match &step {
                Step::Sync { .. } => break,
                Step::Replace { name, bytes } => {
                    if let Some(Some(versions)) = may_be.get_mut(name) {
                        versions.push(Some(bytes.clone()));
                    }
                }
                _ => may_be.extend(names(&step).map(|name| (name, None))),
            }
            self.done(step);
        }
        if !dir.exists() {
            ensure!(durable == 0, "{} is not there", dir.display());
            return Ok(0);
        }
        for entry in fs::read_dir(&dir)? {
            let name = entry?.file_name();
            let known = (0..NAMES).any(|number| name == *format!("f{number}"));
            ensure!(known || name == TEMPORARY, "{} has {}", dir.display(), name.to_string_lossy());
        }
        let mut exact = 0;
        for (name, versions) in may_be {
            let path = dir.join(format!("f{name}"));
            let is = match fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => bail!("cannot read {}: {error}", path.display()),
            };
            let Some(versions) = versions else { continue };
            ensure!(
                versions.contains(&is),
                "{} has {} bytes and is none of the {} versions that it may be, \
                 after the sync at step {durable}",
                path.display(),
                is.map_or(-1, |bytes| bytes.len() as i64),
                versions.len()
            );
            exact += 1;
        }
        Ok(exact)
    }
}

/// The names that a step touches.
fn names(step: &Step) -> impl Iterator<Item = u64> {
    let (one, two) = match *step {
        Step::Write { name, .. }
        | Step::Append { name, .. }
        | Step::Overwrite { name, .. }
        | Step::Truncate { name, .. }
        | Step::Remove { name }
        | Step::Replace { name, .. } => (Some(name), None),
        Step::Rename { from, to } => (Some(from), Some(to)),
        Step::Sync { .. } => (None, None),
    };
    one.into_iter().chain(two)
}

/// Lets `writers` change their directories in `dir` while `go_on` says so. Calls `report` with writer and
/// step of each sync that has ended.
///
/// # Errors
/// The first that a writer meets.
pub fn write(
    dir: &Path,
    seed: u64,
    writers: u64,
    go_on: impl Fn() -> bool + Sync,
    report: impl Fn(u64, u64) -> Result<()> + Sync,
) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|number| {
                let (go_on, report) = (&go_on, &report);
                scope.spawn(move || Writer::new(seed, number).run(dir, go_on, |step| report(number, step)))
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

/// Checks all directories: `durable` has each writer's last sync. Answers with how many names had to be
/// exactly so.
///
/// # Errors
/// What is not as it must be.
pub fn check(dir: &Path, seed: u64, durable: &[u64]) -> Result<u64> {
    (0..).zip(durable).map(|(number, &durable)| Writer::new(seed, number).check(dir, durable)).sum()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// Makes steps until `syncs` syncs; answers with their numbers.
    fn run(dir: &Path, syncs: usize) -> Vec<u64> {
        let done = RefCell::new(Vec::new());
        Writer::new(1, 0)
            .run(
                dir,
                || done.borrow().len() < syncs,
                |step| {
                    done.borrow_mut().push(step);
                    Ok(())
                },
            )
            .unwrap();
        done.into_inner()
    }

    #[test]
    fn what_was_written_is_found() {
        let dir = dir();
        let syncs = run(dir.path(), 60);
        let exact = check(dir.path(), 1, &[syncs[59]]).unwrap();
        assert!(exact > NAMES / 2, "{exact} names are known");
        // The tree is not what it was ten syncs ago.
        assert!(check(dir.path(), 1, &[syncs[49]]).is_err());
        assert!(check(dir.path(), 1, &[syncs[59], 0]).is_ok(), "the second writer never wrote");
        assert!(check(dir.path(), 1, &[syncs[59] + 1]).is_err(), "that is no sync");
    }

    #[test]
    fn every_step_happens_and_is_the_same_each_time() {
        let (mut one, mut seen) = (Writer::new(3, 1), std::collections::HashSet::new());
        for number in 1..500 {
            let step = one.step(number);
            assert_eq!(step, one.step(number));
            seen.insert(std::mem::discriminant(&step));
            one.done(step);
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn damage_is_found() {
        let dir = dir();
        let durable = *run(dir.path(), 40).last().unwrap();
        let fine = || check(dir.path(), 1, &[durable]);
        // A name that the next steps leave alone.
        let mut writer = Writer::new(1, 0);
        (1..=durable).for_each(|number| writer.done(writer.step(number)));
        let mut touched = Vec::new();
        for number in durable + 1.. {
            let step = writer.step(number);
            touched.extend(names(&step));
            if matches!(step, Step::Sync { .. }) {
                break;
            }
        }
        let known = |name: &&u64| !touched.contains(name);
        let name = writer.files.keys().find(known).unwrap();
        let path = dir.path().join(format!("w0/f{name}"));
        let bytes = fs::read(&path).unwrap();
        fine().unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(fine().is_err(), "it is short");
        let mut other = bytes.clone();
        other[0] ^= 1;
        fs::write(&path, other).unwrap();
        assert!(fine().is_err(), "it has another content");
        fs::remove_file(&path).unwrap();
        assert!(fine().is_err(), "it is gone");
        fs::write(&path, bytes).unwrap();
        fine().unwrap();
        fs::write(dir.path().join("w0/what"), "").unwrap();
        assert!(fine().is_err(), "there is something else");
    }

    #[test]
    fn a_replaced_file_is_old_or_new() {
        // A sync after which a file is replaced before anything else happens to it.
        let mut writer = Writer::new(1, 0);
        let mut found = None;
        for number in 1..2000 {
            let step = writer.step(number);
            let next = writer.step(number + 1);
            writer.done(step.clone());
            if let (Step::Sync { .. }, Step::Replace { name, bytes }) = (step, next) {
                let mut later = (number + 2..).map(|number| writer.step(number));
                let alone = later
                    .by_ref()
                    .take_while(|step| !matches!(step, Step::Sync { .. }))
                    .all(|step| names(&step).all(|n| n != name));
                if alone && writer.files.contains_key(&name) {
                    found = Some((number, name, bytes));
                    break;
                }
            }
        }
        let (durable, name, new) = found.unwrap();
        let dir = dir();
        fs::create_dir(dir.path().join("w0")).unwrap();
        for (name, file) in &writer.files {
            fs::write(dir.path().join(format!("w0/f{name}")), file).unwrap();
        }
        check(dir.path(), 1, &[durable]).unwrap();
        let path = dir.path().join(format!("w0/f{name}"));
        fs::write(&path, &new).unwrap();
        check(dir.path(), 1, &[durable]).unwrap();
        fs::write(&path, &new[..new.len() / 2]).unwrap();
        assert!(check(dir.path(), 1, &[durable]).is_err(), "it is a mixture");
    }
}
