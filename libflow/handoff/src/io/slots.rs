//! The statistics memory of one lease: a sealed memfd, both ends. Its layout is in [`crate::slot`].
#![expect(unsafe_code, reason = "counts in memory shared with another process")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::MmapRaw;
use proto::v1::{Counters, PathInfo};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::slot::SLOT_BYTES;

/// A mapping of all slots of a lease. What the daemon reads in it is the program's claim.
pub struct SlotMap {
    map: MmapRaw,
    slots: u32,
    /// The second half is there.
    paths: bool,
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
        // Sparse: the second half takes memory only where something is written.
        rustix::fs::ftruncate(&fd, 2 * slots as u64 * SLOT_BYTES as u64)?;
        // Shrunk memory would kill whoever reads it with SIGBUS.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&fd, slots)?, fd))
    }

    /// The program's end: maps what the daemon made, if it is sealed and as large as said.
    pub fn map(fd: &OwnedFd, slots: u32) -> io::Result<Self> {
        let bytes = slots as usize * SLOT_BYTES;
        let sealed = rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK);
        let size = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
        let paths = size >= 2 * bytes as u64;
        // One half or both; anything between was made for another number of slots.
        if !sealed || bytes == 0 || !(paths || size == bytes as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let bytes = if paths { 2 * bytes } else { bytes };
        let map = memmap2::MmapOptions::new().len(bytes).map_raw(&fd.as_fd())?;
        Ok(Self { map, slots, paths })
    }

    /// A slot of the map; `None` beyond its end.
    pub fn slot(this: &Arc<Self>, index: u32) -> Option<Slot> {
        (index < this.slots).then(|| Slot { map: this.clone(), index })
    }

    fn words(&self, index: u32) -> &[AtomicU64; 8] {
        assert!(index < self.slots, "checked when the slot was made");
        let start = self.map.as_mut_ptr().wrapping_add(index as usize * SLOT_BYTES);
        // SAFETY: the mapping is page-aligned and at least `slots` × 64 bytes long, the file behind it is sealed against
        // shrinking, the slot is within it, and all access from any process is by aligned 64-bit atomics.
        unsafe { &*start.cast::<[AtomicU64; 8]>() }
    }

    fn path_words(&self, index: u32) -> Option<&[AtomicU64; 8]> {
        if !self.paths {
            return None;
        }
        assert!(index < self.slots, "checked when the slot was made");
        let start = self.map.as_mut_ptr().wrapping_add((self.slots as usize + index as usize) * SLOT_BYTES);
        // SAFETY: as above; with `paths` the mapping is 2 × `slots` × 64 bytes long.
        Some(unsafe { &*start.cast::<[AtomicU64; 8]>() })
    }
}

/// The host's coarse monotonic clock, ms: some 4 ms exact, and read in a few nanoseconds. Never 0.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let ms = now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000;
    ms.max(1)
}

/// The host's monotonic clock, µs: what rates of counts are computed with.
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

fn ago(now: u64, then: u64) -> Option<u64> {
    (then != 0).then(|| now.saturating_sub(then))
}

/// What the daemon reads in a slot at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// What was carried.
    pub counters: Counters,
    /// Since something was sent, ms; `None`: never.
    pub sent_ms_ago: Option<u64>,
    /// Since something was received, ms; `None`: never.
    pub received_ms_ago: Option<u64>,
}

impl Figures {
    /// Since something moved, ms; `None`: nothing did.
    pub fn idle_ms(&self) -> Option<u64> {
        self.sent_ms_ago.into_iter().chain(self.received_ms_ago).min()
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
        words[6].store(now_ms(), Ordering::Relaxed);
    }

    /// `sdus` SDUs of `bytes` bytes altogether have been received.
    pub fn received(&self, sdus: u64, bytes: u64) {
        let words = self.map.words(self.index);
        words[2].fetch_add(sdus, Ordering::Relaxed);
        words[3].fetch_add(bytes, Ordering::Relaxed);
        words[7].store(now_ms(), Ordering::Relaxed);
    }

    /// What QUIC sees of the path now; `PathInfo::ms_ago` is left aside.
    pub fn write_path(&self, path: &PathInfo) {
        let Some(words) = self.map.path_words(self.index) else { return };
        let values = [
            path.rtt_us,
            path.congestion_window,
            path.sent_packets,
            path.lost_packets,
            path.sent_bytes,
            path.received_bytes,
            path.mtu.into(),
            now_ms(),
        ];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What was written by [`Self::write_path`] within the last `age_ms`: older figures are of a flow that had the slot
    /// before. Not to be asked of flows that write none: a look takes memory, too.
    pub fn read_path(&self, age_ms: u64) -> Option<PathInfo> {
        let words = self.map.path_words(self.index)?;
        let word = |i: usize| words[i].load(Ordering::Relaxed);
        let ms_ago = ago(now_ms(), word(7)).filter(|ago| *ago <= age_ms)?;
        Some(PathInfo {
            rtt_us: word(0),
            congestion_window: word(1),
            sent_packets: word(2),
            lost_packets: word(3),
            sent_bytes: word(4),
            received_bytes: word(5),
            mtu: u32::try_from(word(6)).unwrap_or(u32::MAX),
            ms_ago,
        })
    }

    /// All of the first half.
    pub fn figures(&self) -> Figures {
        let words = self.map.words(self.index);
        let (now, then) = (now_ms(), |i: usize| words[i].load(Ordering::Relaxed));
        Figures { counters: self.read(), sent_ms_ago: ago(now, then(6)), received_ms_ago: ago(now, then(7)) }
    }

    /// The times of another slot of the same flow, where they are later.
    pub fn take_times(&self, of: &Self) {
        let (ours, theirs) = (self.map.words(self.index), of.map.words(of.index));
        for i in [6, 7] {
            ours[i].fetch_max(theirs[i].load(Ordering::Relaxed), Ordering::Relaxed);
        }
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
