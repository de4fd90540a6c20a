//! Memory and pipes that connections borrow while they have something to carry: an idle one has neither. Each worker
//! thread has its own.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Resource, getrlimit};

/// Bytes of a buffer: read at once.
pub(crate) const BUFFER: usize = 64 << 10;
/// Bytes that a pipe is asked to hold; the kernel may grant less.
pub(crate) const PIPE: usize = 512 << 10;
/// Buffers, and pipes, that a worker keeps for the next connection.
const KEPT: usize = 16;
/// Pipes of all workers, those in use among them. Connections that find none copy.
const PIPES: usize = 256;

/// Descriptors that clients leave to the targets of those who are there, to files and to who asks for the status.
const RESERVE: u64 = 16;

static OPEN_PIPES: AtomicUsize = AtomicUsize::new(0);
static DIALLING: AtomicUsize = AtomicUsize::new(0);
static HUNGRY: AtomicUsize = AtomicUsize::new(0);
static STRANGERS: AtomicUsize = AtomicUsize::new(0);

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

/// Descriptors of this process; as it was when first asked, which is behind what raises it.
fn descriptors() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// A descriptor, which was just made, is of the last ones: the kernel gives the lowest that is free, and those who were accepted
/// are about to have one more each.
pub(crate) fn is_scarce(made: &impl AsRawFd) -> bool {
    let limit = descriptors();
    let dialling = u64::try_from(DIALLING.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
    let free = limit - RESERVE.min(limit / 8);
    u64::try_from(made.as_raw_fd()).is_ok_and(|number| number.saturating_add(dialling) >= free)
}

/// One of those that are counted, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(count: &'static AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    /// Who was accepted and has no target yet.
    pub(crate) fn dialling() -> Self {
        Self::new(&DIALLING)
    }

    /// Who was accepted and waits for a descriptor towards a target: nobody is accepted before.
    pub(crate) fn hungry() -> Self {
        Self::new(&HUNGRY)
    }

    /// A client over UDP whom no target has answered, and who may be forged: all of them together have a quarter of the descriptors.
    /// `None`: there are enough.
    pub(crate) fn stranger() -> Option<Self> {
        let most = usize::try_from(descriptors() / 4).unwrap_or(usize::MAX);
        let before = STRANGERS.fetch_add(1, Ordering::Relaxed);
        let one = Self(&STRANGERS);
        (before < most).then_some(one)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether anybody waits for a descriptor.
pub(crate) fn is_anybody_hungry() -> bool {
    HUNGRY.load(Ordering::Relaxed) > 0
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
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok();
        let Some((read, write)) = made.filter(|(_, write)| !is_scarce(write)) else {
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
