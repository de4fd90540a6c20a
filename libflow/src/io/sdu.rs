//! One SDU, one system call.

use std::io;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::core::{Carrier, Core};
use crate::error::FlowError;

/// ICMP errors that may answer one send before it counts as sent and lost.
const RETRIES: usize = 4;

/// Why a system call did not do it.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It would have to wait.
    WouldBlock,
    /// The socket is closed; the daemon knows why.
    Closed,
    Error(FlowError),
}

impl From<FlowError> for Stop {
    fn from(error: FlowError) -> Self {
        Self::Error(error)
    }
}

/// Whether a call waits in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Kernel,
    Never,
}

impl Core {
    /// The longest SDU, bytes.
    pub(crate) fn sdu_limit(&self) -> usize {
        self.sdu_limit.load(Ordering::Relaxed) as usize
    }

    /// What must hold before anything is sent.
    pub(super) fn check(&self, len: usize) -> Result<(), FlowError> {
        if let Some(reason) = self.reason() {
            return Err(FlowError::Gone(reason));
        }
        if len == 0 {
            return Err(FlowError::Empty);
        }
        let limit = self.sdu_limit();
        if len > limit {
            self.slot().send_failed();
            return Err(FlowError::TooLong { limit, len });
        }
        Ok(())
    }

    /// Sends one SDU.
    pub(crate) fn send(&self, sdu: &[u8], wait: Wait) -> Result<(), Stop> {
        self.check(sdu.len())?;
        let flags = match wait {
            Wait::Kernel => SendFlags::NOSIGNAL,
            Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        for _ in 0..RETRIES {
            match rustix::net::send(&self.fd, sdu, flags) {
                Ok(len) => {
                    self.slot().sent(1, len as u64);
                    return Ok(());
                }
                Err(errno) => self.send_failed(errno, sdu.len())?,
            }
        }
        // Sent into a path that keeps answering "unreachable": lost, as datagrams are. The daemon has been told.
        self.slot().send_failed();
        Ok(())
    }

    /// `Ok`: the error has been dealt with, try again.
    pub(super) fn send_failed(&self, errno: Errno, len: usize) -> Result<(), Stop> {
        match errno {
            Errno::INTR => return Ok(()),
            Errno::AGAIN => return Err(Stop::WouldBlock),
            // An earlier SDU's answer, told once: not this one's failure.
            Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH if self.carrier != Carrier::Local => {
                self.suspect();
                return Ok(());
            }
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED | Errno::DESTADDRREQ => {
                return Err(Stop::Closed);
            }
            _ => self.slot().send_failed(),
        }
        match errno {
            Errno::MSGSIZE => {
                let limit = self.ask_limit().min(len.saturating_sub(1));
                Err(Stop::Error(FlowError::TooLong { limit, len }))
            }
            other => Err(Stop::Error(FlowError::Io(other.into()))),
        }
    }

    /// Asks the kernel for the path's MTU again.
    fn ask_limit(&self) -> usize {
        let mtu = match self.carrier {
            Carrier::Udp4 => rustix::net::sockopt::ip_mtu(&self.fd).map(|mtu| mtu.saturating_sub(28).min(65_507)),
            Carrier::Udp6 => rustix::net::sockopt::ipv6_mtu(&self.fd).map(|mtu| mtu.saturating_sub(48).min(65_487)),
            Carrier::Local => Err(Errno::INVAL),
        };
        if let Ok(limit) = mtu {
            self.sdu_limit.store(limit, Ordering::Relaxed);
        }
        self.sdu_limit()
    }

    /// Receives one SDU; its length.
    pub(crate) fn recv(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Stop> {
        if self.gro.load(Ordering::Relaxed) {
            return self.recv_leftover(buffer, wait);
        }
        if wait == Wait::Kernel
            && self.carrier == Carrier::Local
            && let Some(len) = self.search(buffer)
        {
            return self.received(len, buffer.len());
        }
        let flags = match wait {
            Wait::Kernel => RecvFlags::TRUNC,
            Wait::Never => RecvFlags::TRUNC | RecvFlags::DONTWAIT,
        };
        if self.unwanted.needs_more_than(buffer.len()) {
            return self.recv_short(buffer, flags);
        }
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, flags) {
                Ok((_, 0)) if self.closed() => return Err(Stop::Closed),
                // An empty datagram that no filter dropped: there are no empty SDUs.
                Ok((_, 0)) => {}
                Ok((_, len)) if self.unwanted.is(&buffer[..len.min(buffer.len())]) => {}
                Ok((_, len)) => return self.received(len, buffer.len()),
                Err(errno) => self.recv_failed(errno)?,
            }
        }
    }

    /// Looks for an SDU some times before the kernel is asked to wait for one. Errors and the end are left to that.
    fn search(&self, buffer: &mut [u8]) -> Option<usize> {
        let looks = self.spin.looks();
        for look in 0..looks {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Ok((_, len)) if len > 0 => {
                    if look > 0 {
                        self.spin.found();
                    }
                    return Some(len);
                }
                Err(Errno::AGAIN) => std::hint::spin_loop(),
                _ => return None,
            }
        }
        if looks > 0 {
            self.spin.vain();
        }
        None
    }

    pub(super) fn received(&self, len: usize, room: usize) -> Result<usize, Stop> {
        if len > room {
            self.slot().receive_failed();
            return Err(Stop::Error(FlowError::Truncated { len, room }));
        }
        self.slot().received(1, len as u64);
        Ok(len)
    }

    /// `Ok`: the error has been dealt with, try again.
    pub(super) fn recv_failed(&self, errno: Errno) -> Result<(), Stop> {
        match errno {
            Errno::INTR => Ok(()),
            Errno::AGAIN => Err(Stop::WouldBlock),
            Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH if self.carrier != Carrier::Local => {
                self.suspect();
                Ok(())
            }
            // A local peer that ended with SDUs unread: told once, ahead of what it sent.
            Errno::CONNRESET if self.carrier == Carrier::Local => Ok(()),
            Errno::NOTCONN => Err(Stop::Closed),
            other => {
                self.slot().receive_failed();
                Err(Stop::Error(FlowError::Io(other.into())))
            }
        }
    }

    /// The socket was shut down, by the daemon or by the local peer.
    pub(crate) fn closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        let now = rustix::event::Timespec::default();
        let asked = rustix::event::poll(&mut fds, Some(&now));
        asked.is_ok() && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
    }

    /// Waits in the kernel until the socket is ready; `false` when the time is over first.
    pub(crate) fn poll(&self, what: PollFlags, within: Option<std::time::Duration>) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, what)];
        let within = within.map(|d| rustix::event::Timespec::try_from(d).unwrap_or_default());
        match rustix::event::poll(&mut fds, within.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}
