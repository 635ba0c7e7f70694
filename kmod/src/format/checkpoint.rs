// SPDX-License-Identifier: GPL-2.0-only

//! Where the log begins, and which of the slots for that to believe.

use super::*;

/// Where the log begins: written (FUA) each time the tail moves and twice on each resume, to two slots in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The superblock's nonce.
    pub nonce: u64,
    /// Counts the checkpoints of this format; the higher valid one holds.
    pub generation: u64,
    /// Counts the resumes of this format; records carry it.
    pub epoch: u64,
    /// First sequence number of this epoch: records from here on must carry `epoch`, those before it an older one.
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

    /// Block of the cache device that this checkpoint is written to, unless another one stands in for it:
    /// [`crate::engine::Engine::checkpoint_block`] knows.
    pub fn block(&self) -> u64 {
        CHECKPOINT_BLOCKS[(self.generation % 2) as usize]
    }

    /// The sector to write at the start of [`Checkpoint::block`].
    #[allow(dead_code)] // For the tools and tests.
    pub fn encode(&self) -> [u8; SECTOR] {
        sector(|b| self.encode_into(b))
    }

    /// The same, in memory that is there.
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

    /// Reads a checkpoint of a volume whose superblock is not there, if it is one.
    pub fn orphan(b: &[u8; SECTOR]) -> Option<Self> {
        check_sector(b, &CHECKPOINT_MAGIC).is_ok().then(|| Self::parse(b))
    }

    /// Whether there is something behind this checkpoint, which has no superblock, that is nowhere else. A
    /// blank superblock is what asks for a new format; but what has blanked it may have been an accident.
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
        // The first one is what a format leaves that was interrupted.
        if self.generation == 0 {
            return Ok(false);
        }
        if self.durable >= self.tail {
            return Ok(true);
        }
        // It was empty at that moment. Where its next record would be depends on the size of the segments.
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

    /// Whether `b` is the header of the oldest record that this checkpoint does not know.
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
    /// What is wrong with it.
    pub fn decode(b: &[u8; SECTOR], sb: &Superblock) -> Result<Self, Invalid> {
        check_sector(b, &CHECKPOINT_MAGIC)?;
        let cp = Self::parse(b);
        if cp.nonce != sb.nonce {
            return Err(Invalid::Field("nonce"));
        }
        if cp.tail_segment.0 >= sb.nr_segments {
            return Err(Invalid::Field("tail_segment"));
        }
        // Numbers near the end of u64 are never reached by counting: refusing them keeps all sums from overflowing.
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

    /// Chooses between what the slots hold: the newest valid one. One that the medium cannot give back is as good as one with a
    /// wrong checksum. Whether it was the newest nobody can say then; a replay from an older one finds out, unless what it
    /// would find is gone too, from what was written since: `Outdated`, `Overwritten` and `Short` of
    /// [`crate::engine::replay::Damage`].
    ///
    /// # Errors
    /// When none is valid, what is wrong with the first that is not blank.
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
            // One that cannot be read is not blank.
            let rest = if doubtful == 0 { Invalid::Blank } else { Invalid::Magic };
            return Err(wrong.unwrap_or(rest));
        };
        // There are two, but right after a format: one has become blank.
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

/// What one of the slots for checkpoints holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// One of this volume.
    Checkpoint(Checkpoint),
    /// Zeroes.
    Blank,
    /// Something else.
    Invalid(Invalid),
    /// The medium cannot give it back.
    Unreadable,
}

impl Held {
    /// Of a slot that begins with this sector, or with one that the medium has lost.
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

/// What [`Checkpoint::choose`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The newest one.
    pub checkpoint: Checkpoint,
    /// Which slot it is in.
    pub slot: usize,
    /// How many slots may hold newer ones, which cannot be read or are not whole.
    pub doubtful: u32,
    /// The slots that cannot be read.
    pub unreadable: [bool; CHECKPOINT_SLOTS],
    /// Those that are not blank.
    pub filled: [bool; CHECKPOINT_SLOTS],
}

impl From<Checkpoint> for Chosen {
    /// One that is alone, where it belongs.
    fn from(checkpoint: Checkpoint) -> Self {
        let slot = (checkpoint.generation % 2) as usize;
        let unreadable = [false; CHECKPOINT_SLOTS];
        Self { checkpoint, slot, doubtful: 0, unreadable, filled: [0, 1, 2, 3].map(|i| i == slot) }
    }
}

/// What is on a device that has no superblock where a format puts everything but the segments.
///
/// A format writes only there, and only where nothing is: that the first sector is blank says little, for ext4, btrfs, LVM, swap and others
/// leave it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The newer checkpoint, if there is any. With generation 0 it is what is left of a format that was interrupted.
    pub orphan: Option<Checkpoint>,
    /// The first sector that is neither blank nor a checkpoint.
    pub used: Option<u64>,
}

impl Start {
    /// Bytes that it is about.
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
