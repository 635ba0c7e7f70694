// SPDX-License-Identifier: GPL-2.0-only

//! A run of the crash model as a text that repeats it: a seed, or a seed and the steps of its lives that are
//! kept.
//!
//! ```text
//! 4711                      everything that is drawn from this seed
//! 4711/0:3,7,19-22/2:5e/d   of life 0 these steps, of life 2 step 5 and the end of that life; then a drain
//! ```

use super::rng::Rng;
use super::volume::Plan;
use std::fmt;
use std::str::FromStr;

/// One life: from a resume to a crash.
#[derive(Clone, PartialEq, Debug)]
pub struct Life {
    number: u64,
    pub steps: Vec<u32>,
    /// Whether the life may end otherwise than by a crash in the middle of work: after everything has ended,
    /// or after a drain.
    pub ending: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    pub seed: u64,
    pub lives: Vec<Life>,
    /// Whether the volume is drained in the end.
    pub drain: bool,
    /// Nothing was left out.
    whole: bool,
}

const BEGIN: u64 = u64::MAX;
const END: u64 = u64::MAX - 1;
const LENGTH: u64 = u64::MAX - 2;

/// A separate stream of numbers for each part of a run.
fn rng(seed: u64, life: u64, part: u64) -> Rng {
    let mut mixed = seed;
    for x in [life, part] {
        mixed = Rng::new(mixed ^ x.wrapping_mul(0xd134_2543_de82_ef95)).next();
    }
    Rng::new(mixed)
}

impl Life {
    pub fn begin(&self, case: &Case) -> Rng {
        rng(case.seed, self.number, BEGIN)
    }

    pub fn step(&self, case: &Case, step: u32) -> Rng {
        rng(case.seed, self.number, step.into())
    }

    pub fn end(&self, case: &Case) -> Rng {
        rng(case.seed, self.number, END)
    }
}

impl Case {
    pub fn draw(seed: u64) -> Self {
        let plan = Plan::draw(&mut Rng::new(seed));
        let life = |number| Life {
            number,
            steps: (0..rng(seed, number, LENGTH).below(plan.mean_steps * 2) as u32).collect(),
            ending: true,
        };
        Self { seed, lives: (0..plan.lives).map(life).collect(), drain: true, whole: true }
    }

    pub fn end(&self) -> Rng {
        rng(self.seed, END, END)
    }

    pub fn steps(&self) -> usize {
        self.lives.iter().map(|l| l.steps.len()).sum()
    }

    /// This case with something left out.
    pub fn without(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut less = self.clone();
        less.whole = false;
        change(&mut less);
        less
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        if self.whole {
            return Ok(());
        }
        for life in &self.lives {
            write!(f, "/{}:", life.number)?;
            let mut at = 0;
            while at < life.steps.len() {
                let first = life.steps[at];
                let mut last = first;
                while life.steps.get(at + 1) == Some(&(last + 1)) {
                    (at, last) = (at + 1, last + 1);
                }
                at += 1;
                write!(f, "{first}")?;
                if last != first {
                    write!(f, "-{last}")?;
                }
                if at < life.steps.len() {
                    f.write_str(",")?;
                }
            }
            if life.ending {
                f.write_str("e")?;
            }
        }
        f.write_str(if self.drain { "/d" } else { "/" })
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("{what:?} is no part of a case; a case looks like 4711 or 4711/0:3,7-9/2:5e/d")
        };
        let number = |s: &str| s.parse::<u64>().map_err(|_| wrong(s));
        let mut parts = text.split('/');
        let whole = Self::draw(number(parts.next().unwrap_or_default())?);
        let Some((last, lives)) = parts.collect::<Vec<_>>().split_last().map(|(l, r)| (*l, r.to_vec()))
        else {
            return Ok(whole);
        };
        let mut case = whole.without(|c| c.lives.clear());
        case.drain = match last {
            "d" => true,
            "" => false,
            other => return Err(wrong(other)),
        };
        for part in lives {
            let (life, steps) = part.split_once(':').ok_or_else(|| wrong(part))?;
            let (steps, ending) = steps.strip_suffix('e').map_or((steps, false), |s| (s, true));
            let mut all = Vec::new();
            for range in steps.split(',').filter(|s| !s.is_empty()) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last) = (number(first)?, number(last)?);
                if last > 1_000_000 {
                    return Err(wrong(range));
                }
                all.extend((first as u32)..=(last as u32));
            }
            case.lives.push(Life { number: number(life)?, steps: all, ending });
        }
        Ok(case)
    }
}
