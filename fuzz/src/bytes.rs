// SPDX-License-Identifier: GPL-2.0-only

//! Numbers out of an input and into one. Every input can be read: where it ends, everything is zero.

/// An input that is being read.
#[derive(Debug, Clone)]
pub struct Source<'a>(pub &'a [u8]);

impl<'a> Source<'a> {
    /// Whether all of it was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number of any size, seven bits per byte, the lowest first (LEB128).
    pub fn number(&mut self) -> u64 {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte();
            n |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                break;
            }
        }
        n
    }

    /// `base` and what was added to it by [`Sink::near`].
    pub fn near(&mut self, base: u64) -> u64 {
        let n = self.number();
        base.wrapping_add((n >> 1) ^ (n & 1).wrapping_neg())
    }

    /// The next bytes, at most `n`.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        some
    }
}

/// An input that is being written.
#[derive(Debug, Default)]
pub struct Sink(pub Vec<u8>);

impl Sink {
    /// What [`Source::byte`] reads.
    pub fn byte(&mut self, b: u8) {
        self.0.push(b);
    }

    /// What [`Source::number`] reads.
    pub fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// What [`Source::near`] reads: few bytes when `n` is near `base`, on either side.
    pub fn near(&mut self, n: u64, base: u64) {
        let d = n.wrapping_sub(base);
        self.number((d << 1) ^ (d >> 63).wrapping_neg());
    }

    /// What [`Source::bytes`] reads.
    pub fn bytes(&mut self, b: &[u8]) {
        self.0.extend_from_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for n in [0, 1, 127, 128, 300, 1 << 62, u64::MAX] {
            for base in [0, n, n.wrapping_add(1), u64::MAX] {
                let mut sink = Sink::default();
                sink.number(n);
                sink.near(n, base);
                let mut source = Source(&sink.0);
                assert_eq!((source.number(), source.near(base), source.is_empty()), (n, n, true));
            }
        }
        assert_eq!((Source(&[]).number(), Source(&[0x80]).near(5)), (0, 5));
    }
}
