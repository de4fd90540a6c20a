//! A stream as a plain descriptor, for C and for programs that block: [`into_fd`].
//!
//! The program gets one end of a socket pair; a task moves bytes between the other end and the stream, both ways. What ends a
//! direction passes, as on TCP:
//!
//! | the program | the peer |
//! |---|---|
//! | `shutdown(fd, SHUT_WR)`, or closes the descriptor | reads a clean end: who dies with the descriptor open takes this task along, and finishes nothing |
//! | closes the descriptor, or `shutdown(fd, SHUT_RD)` and more comes | its writes fail: stopped with reason 0 |
//! | reads 0 | finished |
//! | reads `ECONNRESET` | reset, or the flow is over; what the program wrote and was not sent yet is reset, too |
//! | its writes fail with `EPIPE` | stopped, or the flow is over |
//!
//! A kernel reports `ECONNRESET` on such a pair only if the other end is closed with bytes unread. So this side always leaves
//! the program's last byte unread, though it passes it on, and takes it only for a clean end; the first such byte it puts
//! there itself.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::Notify;

use super::watch;
use crate::error::{Reason, StreamError};
use crate::half::{RecvStream, SendStream};

/// Bytes moved at once, each way.
const BLOCK: usize = 64 * 1024;

/// What its user can ask and do beside the descriptor. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ends: Mutex<Ends>,
    /// A reset that was asked for.
    reset: Mutex<Option<Reason>>,
    asked: Notify,
    done: Notify,
}

/// How the two directions ended; `None` while they have not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// What the program reads: `Ok` is a clean end.
    pub received: Option<Result<(), StreamError>>,
    /// What the program writes: `Ok`: it was finished.
    pub sent: Option<Result<(), StreamError>>,
}

impl Bridge {
    /// How the stream ended, as far as it has. After a read that gave `ECONNRESET`, or a write that gave `EPIPE`, the reason
    /// is here.
    pub fn why(&self) -> Ends {
        self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up what the program writes, and reads no more: the peer reads a reset. The descriptor is dead then.
    pub fn reset(&self, reason: Reason) {
        *self.shared.reset.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.shared.asked.notify_one();
    }

    /// Waits until both directions have ended.
    pub async fn ended(&self) -> Ends {
        loop {
            let mut done = pin!(self.shared.done.notified());
            done.as_mut().enable();
            let ends = self.why();
            if ends.received.is_some() && ends.sent.is_some() {
                return ends;
            }
            done.await;
        }
    }
}

impl Shared {
    fn note(&self, note: impl FnOnce(&mut Ends)) {
        note(&mut self.ends.lock().unwrap_or_else(PoisonError::into_inner));
        self.done.notify_waiters();
    }

    async fn reset_asked(&self) -> Reason {
        loop {
            if let Some(reason) = self.reset.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return reason;
            }
            self.asked.notified().await;
        }
    }
}

/// Makes a plain descriptor of a stream: a SOCK_STREAM socket in blocking mode. Must be called in a tokio runtime, where a
/// task then moves the bytes; the flow lives at least as long.
///
/// # Errors
/// No descriptors: three are needed for a moment, two stay.
#[expect(clippy::disallowed_methods, reason = "the task ends with the stream or with the program's descriptor")]
pub fn into_fd(send: impl SendStream, recv: impl RecvStream) -> io::Result<(OwnedFd, Bridge)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The byte that is always left unread.
    rustix::net::send(&theirs, &[0], SendFlags::NOSIGNAL)?;
    let shared = Arc::new(Shared::default());
    tokio::spawn(carry(watch::both(ours)?, send, recv, shared.clone()));
    Ok((theirs, Bridge { shared }))
}

async fn carry(ours: AsyncFd<OwnedFd>, mut send: impl SendStream, mut recv: impl RecvStream, shared: Arc<Shared>) {
    let cut = {
        let mut out = pin!(carry_out(&ours, &mut send, &shared));
        let mut back = pin!(carry_back(&ours, &mut recv, &shared));
        let mut asked = pin!(shared.reset_asked());
        let (mut out_over, mut back_over) = (false, false);
        loop {
            tokio::select! {
                () = &mut out, if !out_over => out_over = true,
                whole = &mut back, if !back_over => {
                    back_over = true;
                    if !whole {
                        break Some(Reason(0));
                    }
                }
                reason = &mut asked => break Some(reason),
            }
            if out_over && back_over {
                break None;
            }
        }
    };
    match cut {
        // Closed with a byte unread: an error to the program.
        Some(reason) => {
            send.reset(reason);
            recv.stop(reason);
            shared.note(|ends| {
                ends.sent.get_or_insert(Err(StreamError::Reset(reason)));
                ends.received.get_or_insert(Err(StreamError::Stopped(reason)));
            });
        }
        None => take_the_rest(ours.get_ref()),
    }
    drop((ours, send, recv));
    shared.done.notify_waiters();
}

/// From the program to the stream.
async fn carry_out(ours: &AsyncFd<OwnedFd>, send: &mut impl SendStream, shared: &Shared) {
    let mut block = vec![0; BLOCK + 1];
    let end = loop {
        let new = match take(ours, &mut block).await {
            Ok(0) | Err(_) => break send.finish(),
            Ok(len) => &block[1..=len],
        };
        if let Err(error) = send.write_all(new).await {
            // The program is not let write what nobody gets.
            let _ = rustix::net::shutdown(ours.get_ref(), Shutdown::Read);
            break Err(of(error));
        }
    };
    shared.note(|ends| ends.sent = Some(end));
}

/// Takes what the program wrote but its last byte, which is only looked at; its first was looked at before. New bytes stand in
/// `block[1..=len]`; 0 at the end.
async fn take(ours: &AsyncFd<OwnedFd>, block: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut guard = ours.readable().await?;
        // In this order: what was written before the end is counted.
        let closed = guard.ready().is_read_closed();
        let queued = usize::try_from(rustix::io::ioctl_fionread(ours.get_ref())?).unwrap_or(usize::MAX);
        match queued.saturating_sub(1).min(BLOCK) {
            0 if closed => return Ok(0),
            0 => guard.clear_ready(),
            room => {
                let (_, len) = rustix::net::recv(ours.get_ref(), &mut block[..room], RecvFlags::DONTWAIT)?;
                let ahead = &mut block[len..=len];
                rustix::net::recv(ours.get_ref(), ahead, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
                return Ok(len);
            }
        }
    }
}

/// From the stream to the program; false if it is not whole.
async fn carry_back(ours: &AsyncFd<OwnedFd>, recv: &mut impl RecvStream, shared: &Shared) -> bool {
    let mut block = vec![0; BLOCK];
    let (end, whole) = loop {
        let read = tokio::select! {
            biased;
            read = recv.read(&mut block) => read,
            () = hung_up(ours) => {
                recv.stop(Reason(0));
                break (Err(StreamError::Stopped(Reason(0))), true);
            }
        };
        match read {
            Ok(0) => {
                let _ = rustix::net::shutdown(ours.get_ref(), Shutdown::Write);
                break (Ok(()), true);
            }
            Ok(len) => {
                if give(ours, &block[..len]).await.is_err() {
                    recv.stop(Reason(0));
                    break (Err(StreamError::Stopped(Reason(0))), true);
                }
            }
            Err(error) => break (Err(of(error)), false),
        }
    };
    shared.note(|ends| ends.received = Some(end));
    whole
}

/// Waits until the program has closed its descriptor.
async fn hung_up(ours: &AsyncFd<OwnedFd>) {
    while let Ok(mut guard) = ours.ready(Interest::WRITABLE).await {
        if guard.ready().is_write_closed() {
            return;
        }
        // Whoever writes tries first and waits then.
        guard.clear_ready();
    }
}

/// Writes all of it to the program.
async fn give(ours: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    let mut waited = None;
    while !bytes.is_empty() {
        match rustix::net::send(ours.get_ref(), bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if let Some(mut guard) = waited.take() {
                    tokio::io::unix::AsyncFdReadyGuard::clear_ready(&mut guard);
                }
                waited = Some(ours.writable().await?);
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// Both directions ended well: a byte left unread would be an error to a program that has not read its last ones.
fn take_the_rest(ours: &OwnedFd) {
    let mut block = vec![0; BLOCK];
    while matches!(rustix::net::recv(ours, &mut block[..], RecvFlags::DONTWAIT), Ok((_, len)) if len > 0) {}
}

/// The stream's error inside one of the reading and writing traits.
fn of(error: io::Error) -> StreamError {
    let words = error.to_string();
    error
        .into_inner()
        .and_then(|inner| inner.downcast::<StreamError>().ok())
        .map_or(StreamError::Over(crate::error::Over::Protocol(words)), |inner| *inner)
}

#[cfg(test)]
mod tests;
