//! Local flows: kernel socket pairs. One descriptor of a pair stays here, to end the flow with.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dashmap::DashMap;
use handoff::kept::KEY;
use handoff::server::{Offer, Owner, Server};
use proto::FlowId;
use proto::v1::{Failure, FailureKind, SocketInfo};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, sockopt};

use crate::machine::ticket::Ticket;
use crate::machine::{End, LOCAL_SDU_LIMIT};

/// What a send buffer must hold so that the longest SDU fits beside the kernel's own book-keeping.
const SEND_BUFFER: usize = 2 * LOCAL_SDU_LIMIT as usize;
/// More SDUs than a receive queue can hold.
const QUEUE_BOUND: usize = 1 << 16;

/// The pairs of all local flows: one end of each, to end the flow with.
#[derive(Debug)]
pub(super) struct Pairs {
    held: Sockets,
    ticket_key: [u8; KEY],
}

/// The same sockets, for who looks at them. Changed by the machine's owner only.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets(Arc<DashMap<FlowId, Held>>);

impl Sockets {
    /// The queues of both ends of a flow, the asking one first: what one end has sent and the other has not read.
    pub(super) fn look(&self, row: FlowId) -> Option<[SocketInfo; 2]> {
        let (end, socket) = self.0.get(&row).map(|held| (held.end, held.socket.clone()))?;
        let held = handoff::look(socket.as_fd())?;
        let other = SocketInfo {
            receive_queue: held.send_queue,
            receive_buffer: held.send_buffer,
            send_queue: held.receive_queue,
            ..SocketInfo::default()
        };
        Some(if end == row { [held, other] } else { [other, held] })
    }
}

#[derive(Debug)]
struct Held {
    /// Which end it is.
    end: FlowId,
    socket: Arc<OwnedFd>,
}

impl Pairs {
    /// None yet; their tickets are sealed with the key.
    pub(super) fn new(ticket_key: [u8; KEY]) -> Self {
        Self { held: Sockets::default(), ticket_key }
    }

    /// For who looks at them.
    pub(super) fn sockets(&self) -> Sockets {
        self.held.clone()
    }

    /// Makes a pair and offers its ends to their programs.
    pub(super) fn open(&mut self, row: FlowId, ends: [End; 2], handoff: &Server) -> Result<(), Failure> {
        let (asking, accepting) = pair().map_err(|errno| failure(row, errno))?;
        let asking = Arc::new(asking);
        self.held.0.insert(row, Held { end: row, socket: asking.clone() });
        for (end, socket) in ends.into_iter().zip([asking, Arc::new(accepting)]) {
            // Without a cookie the ticket is good for no socket.
            let cookie = sockopt::socket_cookie(&socket).unwrap_or(0);
            handoff.offer(Offer {
                token: end.token,
                flow: end.flow,
                owner: Owner { uid: end.uid, pid: end.pid },
                socket,
                sdu_limit: LOCAL_SDU_LIMIT,
                ticket: Ticket { cookie, ..end.ticket }.seal(&self.ticket_key),
                unwanted: None,
                binding: None,
                fixed: false,
                movable: false,
            });
        }
        Ok(())
    }

    /// A program brought an end back to this irmd. One of the two is enough, and the asking one is better.
    pub(super) fn bring_back(&mut self, row: FlowId, end: FlowId, socket: Arc<OwnedFd>) {
        if end == row || !self.held.0.contains_key(&row) {
            self.held.0.insert(row, Held { end, socket });
        }
    }

    /// Ends a flow: nothing more can be sent, what is queued can still be read. `over`: the end whose program is gone, so
    /// nobody will read its queue; left there, it would make the kernel tell the other program of a reset before it has
    /// read its own.
    pub(super) fn close(&mut self, row: FlowId, over: Option<FlowId>) {
        let Some((_, Held { end, socket })) = self.held.0.remove(&row) else { return };
        // Both programs may have closed theirs already: then there is nothing to shut down.
        let _ = net::shutdown(&socket, Shutdown::Both);
        if over == Some(end) {
            let mut byte = [0; 1];
            for _ in 0..QUEUE_BOUND {
                match net::recv(&socket, &mut byte, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                    Ok((_, 0)) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
    }
}

/// What a program claims to be its end: the kernel's number of it, and whether nobody holds the other end any more.
pub(super) fn look_at(socket: &OwnedFd) -> (u64, bool) {
    let mut ended = [PollFd::new(socket, PollFlags::empty())];
    let over = poll(&mut ended, Some(&Timespec::default())) == Ok(1) && ended[0].revents().contains(PollFlags::HUP);
    (sockopt::socket_cookie(socket).unwrap_or(0), over)
}

fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&a, &b] {
        if sockopt::socket_send_buffer_size(end)? < SEND_BUFFER {
            sockopt::set_socket_send_buffer_size(end, SEND_BUFFER)?;
        }
    }
    Ok((a, b))
}

fn failure(row: FlowId, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => FailureKind::Exhausted,
        _ => FailureKind::Internal,
    };
    let text =
        format!("no socket pair for local flow {row}: {errno}; end some flows or raise irmd's limit of descriptors");
    Failure::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::SendFlags;

    fn recv(end: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; LOCAL_SDU_LIMIT as usize + 1];
        let (len, _) = net::recv(end, &mut buf, RecvFlags::DONTWAIT)?;
        buf.truncate(len);
        Ok(buf)
    }

    fn opened() -> (Pairs, OwnedFd, OwnedFd) {
        let (a, b) = pair().unwrap();
        let mut pairs = Pairs::new([1; KEY]);
        pairs.bring_back(FlowId(1), FlowId(1), Arc::new(a.try_clone().unwrap()));
        (pairs, a, b)
    }

    #[test]
    fn the_longest_sdu_fits() {
        let (_, a, b) = opened();
        let sdu = vec![7; LOCAL_SDU_LIMIT as usize];
        assert_eq!(net::send(&a, &sdu, SendFlags::DONTWAIT), Ok(sdu.len()));
        assert_eq!(recv(&b).unwrap(), sdu);
    }

    #[test]
    fn what_is_queued_can_be_read_after_the_flow_ended() {
        let (mut pairs, a, b) = opened();
        for (end, sdu) in [(&a, b"to b"), (&b, b"to a")] {
            net::send(end, sdu, SendFlags::DONTWAIT).unwrap();
        }
        pairs.close(FlowId(1), None);
        assert_eq!(recv(&b).unwrap(), b"to b");
        assert_eq!(recv(&b).unwrap(), b"");
        assert_eq!(recv(&a).unwrap(), b"to a");
        assert_eq!(net::send(&b, b"x", SendFlags::DONTWAIT | SendFlags::NOSIGNAL), Err(Errno::PIPE));
        assert_eq!(net::send(&a, b"x", SendFlags::DONTWAIT | SendFlags::NOSIGNAL), Err(Errno::PIPE));
    }

    #[test]
    fn a_program_that_dies_with_unread_sdus_resets_nobody() {
        let (mut pairs, a, b) = opened();
        net::send(&a, b"last words", SendFlags::DONTWAIT).unwrap();
        net::send(&b, b"never read", SendFlags::DONTWAIT).unwrap();
        drop(a);
        pairs.close(FlowId(1), Some(FlowId(1)));
        assert_eq!(recv(&b).unwrap(), b"last words");
        assert_eq!(recv(&b).unwrap(), b"");
    }
    #[test]
    fn a_flow_that_only_its_accepting_end_brought_back_ends_for_both() {
        let (a, b) = pair().unwrap();
        let mut pairs = Pairs::new([1; KEY]);
        pairs.bring_back(FlowId(1), FlowId(2), Arc::new(b.try_clone().unwrap()));
        net::send(&a, b"never read", SendFlags::DONTWAIT).unwrap();
        net::send(&b, b"last words", SendFlags::DONTWAIT).unwrap();
        drop(b);
        pairs.close(FlowId(1), Some(FlowId(2)));
        assert_eq!(recv(&a).unwrap(), b"last words");
        assert_eq!(recv(&a).unwrap(), b"");
    }

    #[test]
    fn an_end_is_known_again_and_so_is_its_loneliness() {
        let (a, b) = pair().unwrap();
        let (cookie, over) = look_at(&a);
        assert!(cookie != 0 && !over);
        assert_eq!(look_at(&a.try_clone().unwrap()), (cookie, false), "a duplicate is the same socket");
        assert_ne!(look_at(&b).0, cookie);
        net::send(&b, b"queued", SendFlags::DONTWAIT).unwrap();
        drop(b);
        assert_eq!(look_at(&a), (cookie, true));
    }
}
