//! The statistics memory of one lease, daemon's end: a sealed memfd of 64-byte slots.
#![expect(unsafe_code, reason = "reads memory shared with a program")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;
use proto::v1::Counters;
use rustix::fs::{MemfdFlags, SealFlags};

use crate::slot::SLOT_BYTES;

/// The daemon's mapping. What it reads is the program's claim.
pub(crate) struct SlotMemory {
    map: MmapRaw,
    slots: u32,
}

impl SlotMemory {
    /// Makes the memory; the descriptor is for the program and is not kept.
    pub(crate) fn make(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let fd = rustix::fs::memfd_create("flowring-slots", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let bytes = slots as usize * SLOT_BYTES;
        rustix::fs::ftruncate(&fd, bytes as u64)?;
        // Shrunk memory would kill the daemon with SIGBUS when it reads.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = memmap2::MmapOptions::new().len(bytes).map_raw(&fd.as_fd())?;
        Ok((Self { map, slots }, fd))
    }

    fn words(&self, slot: u32) -> Option<&[AtomicU64; 8]> {
        if slot >= self.slots {
            return None;
        }
        let start = self.map.as_mut_ptr().wrapping_add(slot as usize * SLOT_BYTES);
        // SAFETY: the mapping is page-aligned and `slots` × 64 bytes long, the file behind it is sealed against
        // shrinking, the slot is within it, and all access from any process is by aligned 64-bit atomics.
        Some(unsafe { &*start.cast::<[AtomicU64; 8]>() })
    }

    pub(crate) fn read(&self, slot: u32) -> Option<Counters> {
        let words = self.words(slot)?;
        let word = |i: usize| words[i].load(Ordering::Relaxed);
        Some(Counters {
            sdus_sent: word(0),
            bytes_sent: word(1),
            sdus_received: word(2),
            bytes_received: word(3),
            send_errors: word(4),
            receive_errors: word(5),
        })
    }

    pub(crate) fn write(&self, slot: u32, counters: Counters) {
        let Some(words) = self.words(slot) else { return };
        let values = [
            counters.sdus_sent,
            counters.bytes_sent,
            counters.sdus_received,
            counters.bytes_received,
            counters.send_errors,
            counters.receive_errors,
            0,
            0,
        ];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
