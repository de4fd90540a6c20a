//! Local flows: kernel socket pairs. One descriptor of a pair stays here, to end the flow with.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use handoff::server::{Offer, Owner, Server};
use proto::FlowId;
use proto::v1::{Failure, FailureKind};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, sockopt};

use crate::machine::{End, LOCAL_SDU_LIMIT};

/// What a send buffer must hold so that the longest SDU fits beside the kernel's own book-keeping.
const SEND_BUFFER: usize = 2 * LOCAL_SDU_LIMIT as usize;
/// More SDUs than a receive queue can hold.
const QUEUE_BOUND: usize = 1 << 16;

/// The pairs of all local flows.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    asking_ends: HashMap<FlowId, Arc<OwnedFd>>,
}

impl Pairs {
    /// Makes a pair and offers its ends to their programs.
    pub(super) fn open(&mut self, row: FlowId, ends: [End; 2], handoff: &Server) -> Result<(), Failure> {
        let (asking, accepting) = pair().map_err(|errno| failure(row, errno))?;
        let asking = Arc::new(asking);
        self.asking_ends.insert(row, asking.clone());
        for (end, socket) in ends.into_iter().zip([asking, Arc::new(accepting)]) {
            handoff.offer(Offer {
                token: end.token,
                flow: end.flow,
                owner: Owner { uid: end.uid, pid: end.pid },
                socket,
                sdu_limit: LOCAL_SDU_LIMIT,
                ticket: Vec::new(),
                unwanted: None,
            });
        }
        Ok(())
    }

    /// Ends a flow: nothing more can be sent, what is queued can still be read. `drain`: the asking program is gone,
    /// so nobody will read its queue; left there, it would make the kernel tell the other program of a reset
    /// before it has read its own.
    pub(super) fn close(&mut self, row: FlowId, drain: bool) {
        let Some(asking) = self.asking_ends.remove(&row) else { return };
        // Both programs may have closed theirs already: then there is nothing to shut down.
        let _ = net::shutdown(&asking, Shutdown::Both);
        if drain {
            let mut byte = [0; 1];
            for _ in 0..QUEUE_BOUND {
                match net::recv(&asking, &mut byte, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                    Ok((_, 0)) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
    }
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
        let mut pairs = Pairs::default();
        pairs.asking_ends.insert(FlowId(1), Arc::new(a.try_clone().unwrap()));
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
        pairs.close(FlowId(1), false);
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
        pairs.close(FlowId(1), true);
        assert_eq!(recv(&b).unwrap(), b"last words");
        assert_eq!(recv(&b).unwrap(), b"");
    }
}
