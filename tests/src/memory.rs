//! A program that wants more memory than there is, and checks that it gets back what it has put there.

use anyhow::{ensure, Result};

use crate::random::mix;

/// Words of a page, for each of which one is enough to have it swapped out.
const WORDS: usize = 512;

/// Fills `mib` MiB of memory, then goes through them so many times, checks and changes each page.
pub fn hog(mib: usize, passes: u64) -> Result<()> {
    let mut memory = vec![0_u64; mib << 17];
    let content = |page: usize, pass: u64| mix(page as u64 ^ mix(pass));
    for (page, words) in memory.chunks_mut(WORDS).enumerate() {
        words.fill(content(page, 0));
    }
    for pass in 0..passes {
        for (page, words) in memory.chunks_mut(WORDS).enumerate() {
            let wanted = content(page, pass);
            ensure!(words.iter().all(|&word| word == wanted), "page {page} has changed by pass {pass}");
            words.fill(content(page, pass + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_keeps_what_is_put_there() {
        super::hog(1, 3).expect("it does");
    }
}
