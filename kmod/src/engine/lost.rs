// SPDX-License-Identifier: GPL-2.0-only

//! What an error says about the data: whether the medium has lost them, or whether the device, or the way to it, does not
//! answer for now.

/// What the error of a read says, from what says least to what says most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Nothing about the data: a path, a timeout, a device that is away or being reset. They may be as they were.
    Away,
    /// The medium itself cannot give them back, or knows that they are not what was written.
    Medium,
}

/// `BLK_STS_MEDIUM`: the device answers, and cannot read this place. (Numbers as in Linux, `block/blk-core.c`.)
const ENODATA: i32 = 61;
/// `BLK_STS_PROTECTION`: what was read does not match the protection information that lies beside it.
const EILSEQ: i32 = 84;

impl Word {
    /// Of an error number, with either sign.
    pub fn of(errno: i32) -> Self {
        match errno.wrapping_abs() {
            ENODATA | EILSEQ => Word::Medium,
            _ => Word::Away,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_medium_says_that_data_are_gone() {
        for errno in [61, 84] {
            assert_eq!([Word::of(errno), Word::of(-errno)], [Word::Medium; 2]);
        }
        // EIO, ENXIO, ENOMEM, EBUSY, ENODEV, ENOSPC, ETIME, ENOLINK, EOVERFLOW, EOPNOTSUPP, ETIMEDOUT, EREMOTEIO: all the others
        // that the block layer has.
        for errno in [5, 6, 11, 12, 16, 19, 28, 62, 67, 75, 95, 110, 121, i32::MAX, i32::MIN, 0] {
            assert_eq!([Word::of(errno), Word::of(errno.wrapping_neg())], [Word::Away; 2], "{errno}");
        }
        assert!(Word::Away < Word::Medium);
    }
}
