// SPDX-License-Identifier: GPL-2.0-only

//! Checkpoints: where the log begins, and which slot to believe.

use super::*;

/// The beginning of the log: written (FUA) each time the tail moves and twice on each resume, to two slots in
/// turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The superblock's nonce.
    pub nonce: u64,
    /// Counts the checkpoints of this format; the valid one with the highest number holds.
    pub generation: u64,
    /// Counts the resumes of this format; records carry it.
    pub epoch: u64,
    /// First sequence number of this epoch: records from here on must carry `epoch`, those before it an older
    /// one.
    pub epoch_start: Seq,
    /// Oldest sequence number not yet written back; its record is the first of segment `tail_segment`.
    pub tail: Seq,
    /// Highest sequence number known durable when this was written: a log that ends before it is damaged.
    pub durable: Seq,
    /// Segment where the log begins.
    pub tail_segment: Segment,
}

impl Checkpoint {
    /// The checkpoint of a log in which nothing was ever written.
    pub fn first(nonce: u64) -> Self {
        let (epoch_start, tail, durable) = (Seq::FIRST, Seq::FIRST, Seq::NONE);
        Self { nonce, generation: 0, epoch: 0, epoch_start, tail, durable, tail_segment: Segment(0) }
    }

    /// The block of the cache device that this checkpoint is written to, unless another block stands in for
    /// it: [`crate::engine::Engine::checkpoint_block`] knows.
    pub fn block(&self) -> u64 {
        CHECKPOINT_BLOCKS[(self.generation % 2) as usize]
    }

    /// The sector to write at the start of [`Checkpoint::block`].
    #[allow(dead_code)] // For the tools and tests.
    pub fn encode(&self) -> [u8; SECTOR] {
        sector(|b| self.encode_into(b))
    }

    /// The same, into existing memory.
    pub fn encode_into(&self, b: &mut [u8; SECTOR]) {
        begin_sector(b, &CHECKPOINT_MAGIC);
        put(b, 16, &self.nonce.to_le_bytes());
        put(b, 24, &self.generation.to_le_bytes());
        put(b, 32, &self.epoch.to_le_bytes());
        put(b, 40, &self.epoch_start.0.to_le_bytes());
        put(b, 48, &self.tail.0.to_le_bytes());
        put(b, 56, &self.durable.0.to_le_bytes());
        put(b, 64, &self.tail_segment.0.to_le_bytes());
        seal_sector(b);
    }

    /// Reads a checkpoint of a volume that has no superblock, if the sector is a checkpoint.
    pub fn orphan(b: &[u8; SECTOR]) -> Option<Self> {
        check_sector(b, &CHECKPOINT_MAGIC).is_ok().then(|| Self::parse(b))
    }

    /// Whether the log of this checkpoint, which has no superblock, holds data that exist nowhere else. A
    /// blank superblock asks for a new format, but it may have been blanked by accident.
    ///
    /// `is_next` reads the block at a sector of the device, which has `sectors`, and answers
    /// [`Checkpoint::is_before`] it.
    ///
    /// # Errors
    /// Those of `is_next`.
    pub fn has_log<E>(
        &self,
        sectors: u64,
        mut is_next: impl FnMut(u64) -> core::result::Result<bool, E>,
    ) -> core::result::Result<bool, E> {
        // The first checkpoint remains when a format is interrupted.
        if self.generation == 0 {
            return Ok(false);
        }
        if self.durable >= self.tail {
            return Ok(true);
        }
        // The log was empty at that moment. The place of its next record depends on the size of the segments.
        for segment_blocks in MIN_SEGMENT_BLOCKS..=MAX_SEGMENT_BLOCKS {
            let slots = u64::from(self.tail_segment.0).saturating_mul(u64::from(segment_blocks));
            let sector = slots.saturating_add(FIRST_BLOCK.into()).saturating_mul(BLOCK_SECTORS);
            if sector.saturating_add(BLOCK_SECTORS) > sectors {
                break;
            }
            if is_next(sector)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `b` is the header of the first record that is newer than this checkpoint.
    pub fn is_before(&self, b: &[u8]) -> bool {
        b.first_chunk::<BLOCK>().is_some_and(|b| RecordHeader::is_of(b, self.nonce, self.tail))
    }

    fn parse(b: &[u8; SECTOR]) -> Self {
        Self {
            nonce: get_u64(b, 16),
            generation: get_u64(b, 24),
            epoch: get_u64(b, 32),
            epoch_start: Seq(get_u64(b, 40)),
            tail: Seq(get_u64(b, 48)),
            durable: Seq(get_u64(b, 56)),
            tail_segment: Segment(get_u32(b, 64)),
        }
    }

    /// Reads a checkpoint of the volume `sb`.
    ///
    /// # Errors
    /// The fault of the checkpoint.
    pub fn decode(b: &[u8; SECTOR], sb: &Superblock) -> Result<Self, Invalid> {
        check_sector(b, &CHECKPOINT_MAGIC)?;
        let cp = Self::parse(b);
        if cp.nonce != sb.nonce {
            return Err(Invalid::Field("nonce"));
        }
        if cp.tail_segment.0 >= sb.nr_segments {
            return Err(Invalid::Field("tail_segment"));
        }
        // Counting never reaches numbers near the end of u64. Refusing them keeps all sums from overflowing.
        let sane = 1 << 62;
        let sane_seq = Seq(sane);
        if cp.tail == Seq::NONE || cp.tail > sane_seq || cp.durable > sane_seq || cp.tail > cp.durable.next()
        {
            return Err(Invalid::Field("tail"));
        }
        if cp.epoch_start == Seq::NONE || cp.epoch_start > sane_seq || cp.epoch > sane || cp.generation > sane
        {
            return Err(Invalid::Field("epoch"));
        }
        Ok(cp)
    }

    /// Chooses the newest valid checkpoint of the slots. A slot that the medium cannot return counts like one
    /// with a wrong checksum. It is not known then whether it was the newest. A replay from an older one
    /// finds out, unless the records that it would find are gone too, overwritten by later ones: `Outdated`,
    /// `Overwritten` and `Short` of [`crate::engine::replay::Damage`].
    ///
    /// # Errors
    /// When none is valid, the fault of the first slot that is not blank.
    pub fn choose(slots: &[Held; CHECKPOINT_SLOTS]) -> Result<Chosen, Invalid> {
        let mut newest: Option<(usize, Self)> = None;
        let mut wrong = None;
        let (mut valid, mut doubtful) = (0, 0);
        for (i, held) in slots.iter().enumerate() {
            match *held {
                Held::Checkpoint(cp) => {
                    valid += 1;
                    if newest.is_none_or(|(_, other)| cp.generation > other.generation) {
                        newest = Some((i, cp));
                    }
                }
                Held::Blank => (),
                Held::Unreadable => doubtful += 1,
                Held::Invalid(invalid) => {
                    doubtful += 1;
                    wrong = wrong.or(Some(invalid));
                }
            }
        }
        let Some((slot, checkpoint)) = newest else {
            // A slot that cannot be read is not blank.
            let rest = if doubtful == 0 { Invalid::Blank } else { Invalid::Magic };
            return Err(wrong.unwrap_or(rest));
        };
        // Right after a format there is one checkpoint, otherwise two: then one slot has become blank.
        let lacks = u32::from(valid == 1 && checkpoint.generation != 0);
        Ok(Chosen {
            checkpoint,
            slot,
            doubtful: doubtful.max(lacks),
            unreadable: slots.map(|held| held == Held::Unreadable),
            filled: slots.map(|held| held != Held::Blank),
        })
    }
}

/// The contents of one of the slots for checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A checkpoint of this volume.
    Checkpoint(Checkpoint),
    /// Zeroes.
    Blank,
    /// Something else.
    Invalid(Invalid),
    /// The medium cannot return the sector.
    Unreadable,
}

impl Held {
    /// The contents of a slot that begins with this sector; `None` if the medium has lost the sector.
    pub fn of(sector: Option<&[u8; SECTOR]>, sb: &Superblock) -> Self {
        let Some(sector) = sector else { return Self::Unreadable };
        match Checkpoint::decode(sector, sb) {
            Ok(checkpoint) => Self::Checkpoint(checkpoint),
            Err(_) if sector.iter().all(|&x| x == 0) => Self::Blank,
            Err(invalid) => Self::Invalid(invalid),
        }
    }

    /// The checkpoint, if it is one.
    #[allow(dead_code)] // For tests.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Self::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        }
    }
}

/// The result of [`Checkpoint::choose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The newest valid checkpoint.
    pub checkpoint: Checkpoint,
    /// The number of its slot.
    pub slot: usize,
    /// The number of slots that may hold a newer one, because they cannot be read or are not whole.
    pub doubtful: u32,
    /// The slots that cannot be read.
    pub unreadable: [bool; CHECKPOINT_SLOTS],
    /// The slots that are not blank.
    pub filled: [bool; CHECKPOINT_SLOTS],
}

impl From<Checkpoint> for Chosen {
    /// A checkpoint that is alone, in its own slot.
    fn from(checkpoint: Checkpoint) -> Self {
        let slot = (checkpoint.generation % 2) as usize;
        let unreadable = [false; CHECKPOINT_SLOTS];
        Self { checkpoint, slot, doubtful: 0, unreadable, filled: [0, 1, 2, 3].map(|i| i == slot) }
    }
}

/// The contents of a device without a superblock, in the range where a format writes everything except the
/// segments.
///
/// A format writes only there, and only to blank places. A blank first sector alone says little, because
/// ext4, btrfs, LVM, swap and others leave it blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The newer checkpoint, if there is any. One with generation 0 remains when a format is interrupted.
    pub orphan: Option<Checkpoint>,
    /// The first sector that is neither blank nor a checkpoint.
    pub used: Option<u64>,
}

impl Start {
    /// Bytes of this range.
    pub const BYTES: usize = FIRST_BLOCK as usize * BLOCK;

    /// Looks at the first [`Start::BYTES`] of a device, or at all of one that is smaller.
    pub fn of(b: &[u8]) -> Self {
        let mut start = Self { orphan: None, used: None };
        for (i, sector) in (0u64..).zip(b.chunks(SECTOR)) {
            if sector.iter().all(|&x| x == 0) {
                continue;
            }
            let is_slot = CHECKPOINT_BLOCKS.contains(&(i / BLOCK_SECTORS)) && i % BLOCK_SECTORS == 0;
            let slot = sector.first_chunk().filter(|_| is_slot);
            match (slot.and_then(Checkpoint::orphan), start.orphan) {
                (Some(c), Some(other)) if c.generation <= other.generation => (),
                (Some(c), _) => start.orphan = Some(c),
                (None, _) => {
                    start.used.get_or_insert(i);
                }
            }
        }
        start
    }
}
