//! Many SDUs, few system calls.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::core::{Carrier, Core};
use super::sdu::{Stop, Wait};
use super::syscalls::{self, RECV_MANY, Received};
use crate::batch::Batch;
use crate::error::FlowError;

/// What one segmented send may carry: the kernel's limits.
const SEGMENTS: usize = 64;
const SEGMENTED_BYTES: usize = 65_507;

/// What a receive brought beyond the one SDU asked for.
#[derive(Default)]
pub(crate) struct Leftovers {
    batch: Batch,
    next: usize,
}

impl Core {
    /// Sends the first of the SDUs of `size` bytes in `bytes` (the last may be shorter), as many as one call takes;
    /// how many SDUs.
    pub(crate) fn send_some(&self, bytes: &[u8], size: usize, wait: Wait) -> Result<usize, Stop> {
        self.check(size.min(bytes.len()))?;
        let flags = libc::MSG_NOSIGNAL | if wait == Wait::Never { libc::MSG_DONTWAIT } else { 0 };
        let segment = u16::try_from(size).ok().filter(|_| {
            self.carrier != Carrier::Local && bytes.len() > size && !self.unsegmented.load(Ordering::Relaxed)
        });
        loop {
            let done = match segment {
                Some(segment) if !self.unsegmented.load(Ordering::Relaxed) => {
                    let end = (size * SEGMENTS.min(SEGMENTED_BYTES / size)).min(bytes.len());
                    let chunk = &bytes[..end];
                    syscalls::send_segmented(self.borrow(), chunk, segment, flags).map(|()| (end.div_ceil(size), end))
                }
                _ => syscalls::send_many(self.borrow(), bytes, size, flags)
                    .map(|sdus| (sdus, (sdus * size).min(bytes.len()))),
            };
            match done {
                Ok((sdus, bytes)) => {
                    self.slot().sent(sdus as u64, bytes as u64);
                    return Ok(sdus);
                }
                // The device has no checksum offload, or the kernel no segmentation.
                Err(Errno::IO | Errno::INVAL | Errno::NOPROTOOPT | Errno::OPNOTSUPP)
                    if segment.is_some() && !self.unsegmented.swap(true, Ordering::Relaxed) => {}
                Err(errno) => self.send_failed(errno, size)?,
            }
        }
    }

    /// Receives what is there into `batch`, at least one SDU; how many.
    pub(crate) fn recv_some(&self, batch: &mut Batch, wait: Wait) -> Result<usize, Stop> {
        batch.clear();
        if self.carrier != Carrier::Local && !self.gro.swap(true, Ordering::Relaxed) {
            // Without it (kernels before 5.0) each message brings one SDU.
            let _ = syscalls::set_gro(self.borrow());
        }
        if self.take_leftovers(batch) > 0 {
            return Ok(batch.len());
        }
        self.recv_into(batch, wait, batch.width())?;
        self.slot().received(batch.len() as u64, batch.bytes() as u64);
        Ok(batch.len())
    }

    fn recv_into(&self, batch: &mut Batch, wait: Wait, messages: usize) -> Result<(), Stop> {
        loop {
            let got = if messages == 1 { self.recv_single(batch, wait) } else { self.recv_several(batch, wait) };
            match got {
                Ok(()) if !batch.is_empty() => return Ok(()),
                Ok(()) if self.closed() => return Err(Stop::Closed),
                // Empty datagrams only.
                Ok(()) => {}
                Err(errno) => self.recv_failed(errno)?,
            }
        }
    }

    fn recv_single(&self, batch: &mut Batch, wait: Wait) -> Result<(), Errno> {
        let flags = if wait == Wait::Never { libc::MSG_DONTWAIT } else { 0 };
        let (storage, _) = batch.storage(1);
        let message = syscalls::recv_one(self.borrow(), storage, flags)?;
        self.fill(batch, 0, message);
        Ok(())
    }

    fn recv_several(&self, batch: &mut Batch, wait: Wait) -> Result<(), Errno> {
        let flags = if wait == Wait::Never { libc::MSG_DONTWAIT } else { libc::MSG_WAITFORONE };
        let mut received = [Received::default(); RECV_MANY];
        let (storage, stride) = batch.storage(RECV_MANY);
        let count = syscalls::recv_many(self.borrow(), storage, stride, flags, &mut received)?;
        for (place, message) in received[..count].iter().enumerate() {
            self.fill(batch, place, *message);
        }
        Ok(())
    }

    fn fill(&self, batch: &mut Batch, place: usize, message: Received) {
        if message.cut {
            self.slot().receive_failed();
        } else {
            batch.fill(place, message.len, message.segment);
            if self.unwanted.any() {
                batch.retain_last(|sdu| !self.unwanted.is(sdu));
            }
        }
    }

    fn take_leftovers(&self, batch: &mut Batch) -> usize {
        if !self.left_over.load(Ordering::Acquire) {
            return 0;
        }
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        self.left_over.store(false, Ordering::Relaxed);
        let Some(left) = leftovers.as_mut().filter(|left| left.next < left.batch.len()) else { return 0 };
        let (mut sdus, mut bytes) = (0, 0);
        for sdu in left.batch.iter().skip(left.next) {
            batch.push(sdu);
            sdus += 1;
            bytes += sdu.len();
        }
        left.next = left.batch.len();
        self.slot().received(sdus, bytes as u64);
        batch.len()
    }

    /// One SDU at a time from a socket that brings several: the slow path after a [`Self::recv_some`].
    pub(super) fn recv_leftover(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Stop> {
        loop {
            match self.next_leftover(buffer) {
                // Waiting is done here, without the lock.
                Err(Stop::WouldBlock) if wait == Wait::Kernel => {
                    self.poll(PollFlags::IN | PollFlags::RDHUP, None).map_err(FlowError::Io)?;
                    if self.closed() {
                        // What came before the end is read first.
                        return self.next_leftover(buffer).map_err(|stop| match stop {
                            Stop::WouldBlock => Stop::Closed,
                            other => other,
                        });
                    }
                }
                other => return other,
            }
        }
    }

    fn next_leftover(&self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        let left = leftovers.get_or_insert_default();
        if left.next >= left.batch.len() {
            left.batch.clear();
            left.next = 0;
            self.recv_into(&mut left.batch, Wait::Never, 1)?;
        }
        // An index into few segments of at most 64 per message.
        let Some(sdu) = left.batch.iter().nth(left.next) else { return Err(Stop::WouldBlock) };
        left.next += 1;
        self.left_over.store(left.next < left.batch.len(), Ordering::Release);
        let room = buffer.len().min(sdu.len());
        buffer[..room].copy_from_slice(&sdu[..room]);
        let len = sdu.len();
        self.received(len, buffer.len())
    }
}
