//! Memory and pipes that connections borrow while they have something to carry: an idle one has neither. Each worker
//! thread has its own.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes of a buffer: read at once.
pub(crate) const BUFFER: usize = 64 << 10;
/// Bytes that a pipe is asked to hold; the kernel may grant less.
pub(crate) const PIPE: usize = 512 << 10;
/// Buffers, and pipes, that a worker keeps for the next connection.
const KEPT: usize = 16;
/// Pipes of all workers, those in use among them. Connections that find none copy.
const PIPES: usize = 256;

static OPEN_PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SPARE_PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A buffer. What it held before is still in it.
pub(crate) fn buffer() -> Box<[u8]> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

/// It is needed no more.
pub(crate) fn give_back(buffer: Box<[u8]>) {
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT {
            buffers.push(buffer);
        }
    });
}

/// A pipe: bytes that never come to user memory.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// An empty pipe; `None`: there are enough, or no descriptors.
    pub(crate) fn take() -> Option<Self> {
        if let Some(pipe) = SPARE_PIPES.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        if OPEN_PIPES.fetch_add(1, Ordering::Relaxed) >= PIPES {
            OPEN_PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            OPEN_PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // Less is good, too: a user without privileges has so many pages for pipes.
        let _ = fcntl_setpipe_size(&write, PIPE);
        Some(Self { read, write })
    }

    /// It is empty and needed no more.
    pub(crate) fn give_back(self) {
        SPARE_PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < KEPT {
                pipes.push(self);
            }
        });
    }

    /// Where it is read.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Where it is written.
    pub(crate) fn writer(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN_PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}
