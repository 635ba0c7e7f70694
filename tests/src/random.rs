//! Numbers and bytes that follow from a seed, the same on every machine.

/// Mixes `x` well: splitmix64.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to all of `words` together.
    #[must_use]
    pub fn new(words: &[u64]) -> Self {
        Self(words.iter().fold(0, |state, &word| mix(state ^ mix(word))))
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends and is not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// The next number, below `end`, which is not 0. The error of taking a remainder is far below what tests
    /// notice.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_from_the_seed() {
        let take = |words: &[u64]| {
            let mut random = Random::new(words);
            (random.next(), random.next())
        };
        assert_eq!(take(&[1, 2]), take(&[1, 2]));
        assert_ne!(take(&[1, 2]), take(&[2, 1]));
        let mut bytes = [0; 13];
        Random::new(&[7]).fill(&mut bytes);
        assert!(bytes.iter().any(|&b| b != 0) && bytes[8..] != [0; 5]);
    }
}
