//! The statistics memory of one lease: a sealed memfd of 64-byte slots, both ends.
#![expect(unsafe_code, reason = "counts in memory shared with another process")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::MmapRaw;
use proto::v1::Counters;
use rustix::fs::{MemfdFlags, SealFlags};

use crate::slot::SLOT_BYTES;

/// A mapping of all slots of a lease. What the daemon reads in it is the program's claim.
pub struct SlotMap {
    map: MmapRaw,
    slots: u32,
}

/// One flow's slot. Counting is two relaxed additions within one cache line.
#[derive(Clone)]
pub struct Slot {
    map: Arc<SlotMap>,
    index: u32,
}

impl SlotMap {
    /// The daemon's end: makes the memory. The descriptor is for the program and need not be kept.
    pub fn make(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let fd = rustix::fs::memfd_create("flowring-slots", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, slots as u64 * SLOT_BYTES as u64)?;
        // Shrunk memory would kill whoever reads it with SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&fd, slots)?, fd))
    }

    /// The program's end: maps what the daemon made, if it is sealed and as large as said.
    pub fn map(fd: &OwnedFd, slots: u32) -> io::Result<Self> {
        let bytes = slots as usize * SLOT_BYTES;
        let sealed = rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK);
        let large = u64::try_from(rustix::fs::fstat(fd)?.st_size).is_ok_and(|size| size >= bytes as u64);
        if !sealed || !large || bytes == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let map = memmap2::MmapOptions::new().len(bytes).map_raw(&fd.as_fd())?;
        Ok(Self { map, slots })
    }

    /// A slot of the map; `None` beyond its end.
    pub fn slot(this: &Arc<Self>, index: u32) -> Option<Slot> {
        (index < this.slots).then(|| Slot { map: this.clone(), index })
    }

    fn words(&self, index: u32) -> &[AtomicU64; 8] {
        assert!(index < self.slots, "checked when the slot was made");
        let start = self.map.as_mut_ptr().wrapping_add(index as usize * SLOT_BYTES);
        // SAFETY: the mapping is page-aligned and `slots` × 64 bytes long, the file behind it is sealed against
        // shrinking, the slot is within it, and all access from any process is by aligned 64-bit atomics.
        unsafe { &*start.cast::<[AtomicU64; 8]>() }
    }
}

impl Slot {
    /// One for all flows that nobody counts any more. `None` where there is no memory for it.
    pub fn nowhere() -> Option<Self> {
        static NOWHERE: OnceLock<Option<Arc<SlotMap>>> = OnceLock::new();
        let map = NOWHERE.get_or_init(|| SlotMap::make(1).ok().map(|(map, _)| Arc::new(map)));
        SlotMap::slot(map.as_ref()?, 0)
    }

    /// `sdus` SDUs of `bytes` bytes altogether have been sent.
    pub fn sent(&self, sdus: u64, bytes: u64) {
        let words = self.map.words(self.index);
        words[0].fetch_add(sdus, Ordering::Relaxed);
        words[1].fetch_add(bytes, Ordering::Relaxed);
    }

    /// `sdus` SDUs of `bytes` bytes altogether have been received.
    pub fn received(&self, sdus: u64, bytes: u64) {
        let words = self.map.words(self.index);
        words[2].fetch_add(sdus, Ordering::Relaxed);
        words[3].fetch_add(bytes, Ordering::Relaxed);
    }

    /// A send failed.
    pub fn send_failed(&self) {
        self.map.words(self.index)[4].fetch_add(1, Ordering::Relaxed);
    }

    /// A receive failed.
    pub fn receive_failed(&self) {
        self.map.words(self.index)[5].fetch_add(1, Ordering::Relaxed);
    }

    /// What has been counted.
    pub fn read(&self) -> Counters {
        let words = self.map.words(self.index);
        let word = |i: usize| words[i].load(Ordering::Relaxed);
        Counters {
            sdus_sent: word(0),
            bytes_sent: word(1),
            sdus_received: word(2),
            bytes_received: word(3),
            send_errors: word(4),
            receive_errors: word(5),
        }
    }

    /// Sets all counts; for a slot that nobody counts in.
    pub fn write(&self, counters: Counters) {
        self.each(counters, |word, value| word.store(value, Ordering::Relaxed));
    }

    /// Adds to all counts.
    pub fn add(&self, counters: Counters) {
        self.each(counters, |word, value| {
            word.fetch_add(value, Ordering::Relaxed);
        });
    }

    fn each(&self, counters: Counters, act: impl Fn(&AtomicU64, u64)) {
        let Counters { sdus_sent, bytes_sent, sdus_received, bytes_received, send_errors, receive_errors } = counters;
        let values = [sdus_sent, bytes_sent, sdus_received, bytes_received, send_errors, receive_errors, 0, 0];
        for (word, value) in self.map.words(self.index).iter().zip(values) {
            act(word, value);
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.index).finish()
    }
}
