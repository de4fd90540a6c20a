//! The library's view of a flow's socket: it borrows it, sees one constant peer on the asking side, and never sees what
//! is the daemons'.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use noq::udp::{EcnCodepoint, RecvMeta, Transmit};
use noq::{AsyncUdpSocket, UdpSender};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::link::{Link, NoRoom, Target};
use super::syscalls::Incoming;
use crate::io::watch::{readable, writable};

/// What one receive may bring: the longest UDP payload, also of datagrams that the kernel hands over together.
const MOST: usize = 65_535;
/// The kernel's limit of one segmented send.
const SEGMENTS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");
/// Errors in a row on a socket that cannot be read.
const HOPELESS: usize = 64;

thread_local! {
    /// Where receives put their datagrams. The library's own buffers hold one datagram each: 64 KiB for every flow would
    /// be most of what an idle flow costs.
    static SCRATCH: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A flow's socket.
pub(super) struct Socket {
    // Dropped before the descriptor it watches.
    watched: AsyncFd<Arc<OwnedFd>>,
    link: Arc<Link>,
    got: Option<Got>,
    /// The library has made the sender for what its endpoint says without a connection.
    endpoints: AtomicBool,
}

/// What a receive brought, not yet all passed on.
struct Got {
    bytes: Vec<u8>,
    what: Incoming,
    next: usize,
}

impl Socket {
    pub(super) fn new(link: Arc<Link>) -> io::Result<Self> {
        let watched = readable(link.socket().clone())?;
        Ok(Self { watched, link, got: None, endpoints: AtomicBool::new(false) })
    }

    /// Passes on what was received, from place `place` on; the first free place then.
    fn pass_on(&mut self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta], mut place: usize) -> usize {
        let Some(got) = &mut self.got else { return place };
        let (len, segment) = (if got.what.cut { 0 } else { got.what.len }, got.what.segment);
        let (from, source) = self.link.source(got.what.from);
        let ecn = EcnCodepoint::from_bits(got.what.ecn);
        let (mut count, mut total) = (0, 0);
        while got.next < len && place < bufs.len() {
            let datagram = &got.bytes[got.next..(got.next + segment).min(len)];
            got.next += datagram.len();
            if !self.link.path().wanted(datagram) {
                self.link.path().stray(from, datagram);
                continue;
            }
            // Longer than what this side said it takes.
            if datagram.len() > bufs[place].len() {
                continue;
            }
            bufs[place][..datagram.len()].copy_from_slice(datagram);
            (meta[place].addr, meta[place].ecn) = (source, ecn);
            (meta[place].len, meta[place].stride) = (datagram.len(), datagram.len());
            (count, total) = (count + 1, total + datagram.len() as u64);
            place += 1;
        }
        if got.next >= len {
            SCRATCH.set(self.got.take().map(|got| got.bytes));
        }
        if count > 0 {
            self.link.path().received(count, total);
        }
        place
    }
}

/// Receives once.
fn receive(link: &Link) -> Result<Got, Errno> {
    let mut bytes = SCRATCH.take().unwrap_or_else(|| vec![0; MOST]);
    match link.receive(&mut bytes) {
        Ok(what) => Ok(Got { bytes, what, next: 0 }),
        Err(errno) => {
            SCRATCH.set(Some(bytes));
            Err(errno)
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_sender(&self) -> Pin<Box<dyn UdpSender>> {
        // The first one is the endpoint's: version negotiation, refusals, resets.
        let endpoints = !self.endpoints.swap(true, Ordering::Relaxed);
        Box::pin(Sender { link: self.link.clone(), room: None, target: Target::default(), endpoints })
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.link.is_shut() {
            // The connection has been closed with it, and wakes the endpoint when it is done.
            return Poll::Pending;
        }
        let places = bufs.len().min(meta.len());
        let (bufs, meta) = (&mut bufs[..places], &mut meta[..places]);
        let (mut place, mut errors) = (self.pass_on(bufs, meta, 0), 0);
        while place < places {
            let Poll::Ready(guard) = self.watched.poll_read_ready(cx) else { break };
            let mut guard = guard?;
            // Taken before the call: a socket closed in between must not be taken for an empty one.
            let closed = guard.ready().is_read_closed();
            match receive(&self.link) {
                Ok(got) => {
                    self.got = Some(got);
                    place = self.pass_on(bufs, meta, place);
                }
                Err(Errno::AGAIN) if closed && self.link.was_shut() => {
                    self.link.found_shut();
                    break;
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(errno) => {
                    if matches!(errno, Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) {
                        self.link.path().suspect();
                    }
                    errors += 1;
                    if errors > HOPELESS {
                        self.link.found_shut();
                        break;
                    }
                }
            }
        }
        if place > 0 { Poll::Ready(Ok(place)) } else { Poll::Pending }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.link.local())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Sends for one of the library's tasks.
struct Sender {
    link: Arc<Link>,
    /// While the kernel has no room.
    room: Option<AsyncFd<OwnedFd>>,
    target: Target,
    /// Not a connection's.
    endpoints: bool,
}

impl UdpSender for Sender {
    fn poll_send(self: Pin<&mut Self>, transmit: &Transmit<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.endpoints && this.link.is_quiet() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(room) = &this.room {
                // An ICMP error makes tokio report "write closed" for ever, on a socket that is not.
                let closed = ready!(room.poll_write_ready(cx))?.ready().is_write_closed();
                this.room = None;
                if closed && !this.link.is_shut() {
                    cx.waker().wake_by_ref();
                    if this.link.send(transmit, &mut this.target).is_ok() {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            }
            if this.link.is_shut() {
                return Poll::Ready(Ok(()));
            }
            match this.link.send(transmit, &mut this.target) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(NoRoom) => this.room = Some(writable(this.link.socket())?),
            }
        }
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        if self.link.segments() { SEGMENTS } else { NonZeroUsize::MIN }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({} to {})", self.link.local(), self.link.peer())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}
