//! A packet socket's receive ring (TPACKET_V2): the kernel puts frames into memory that is mapped here. Its size is ours
//! to choose, whatever `net.core.rmem_max` allows a receive buffer.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::sys::set_option;

/// Bytes of a slot: a header of the kernel's and a frame of 1,514 bytes.
const SLOT: usize = 2048;
const BLOCK: usize = 64 << 10;
/// Slots: 8 MiB, or 40 ms of 1 Gbit/s.
const SLOTS: usize = 4096;

pub(super) struct Ring {
    memory: MmapRaw,
    next: usize,
}

impl Ring {
    /// Gives `socket` a ring. Before it is bound: frames that came earlier would not be in it.
    pub(super) fn new(socket: &OwnedFd) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        set_option(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (SLOT * SLOTS / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: SLOTS as u32,
        };
        set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let memory = MmapOptions::new().len(SLOT * SLOTS).map_raw(socket.as_raw_fd())?;
        Ok(Self { memory, next: 0 })
    }

    /// Hands the next frame to `take`; false where none has come. `None` stands for one that no slot could hold.
    pub(super) fn take(&mut self, take: impl FnOnce(Option<&[u8]>)) -> bool {
        // In bounds: `next` is below SLOTS, and the mapping has SLOTS slots.
        let slot = self.memory.as_mut_ptr().wrapping_add(self.next * SLOT);
        // SAFETY: a slot begins with a tpacket2_hdr whose first word is the status, aligned to 16; kernel and this
        // process pass the slot to each other by writing it, which an atomic makes visible in order.
        let status = unsafe { AtomicU32::from_ptr(slot.cast()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the slot is ours until the status says otherwise; the header was written by the kernel.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let (begin, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        if header.tp_snaplen == header.tp_len && begin + length <= SLOT {
            // SAFETY: within the slot, as just checked, and not written while it is ours.
            take(Some(unsafe { std::slice::from_raw_parts(slot.add(begin), length) }));
        } else {
            take(None);
        }
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % SLOTS;
        true
    }
}
