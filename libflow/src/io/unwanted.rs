//! Datagrams of the shim's own on a flow's socket: dropped here, since a filter of the socket costs the kernel a tenth of what
//! an allocation takes. Who reads the bare descriptor gets that filter.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::sync::Once;

use handoff::filter::TELLS;
use proto::shim;
use rustix::net::RecvFlags;

use super::core::Core;
use super::sdu::Stop;

/// What of a flow's datagrams is no SDU.
pub(super) struct Unwanted {
    which: Option<shim::Unwanted>,
    filtered: Once,
}

impl Unwanted {
    pub(super) fn new(which: Option<shim::Unwanted>) -> Self {
        Self { which, filtered: Once::new() }
    }

    /// Whether the payload is no SDU, though not empty.
    pub(super) fn is(&self, payload: &[u8]) -> bool {
        self.which.is_some_and(|which| which.matches(payload))
    }

    /// Whether a payload's first bytes do not tell.
    pub(super) fn needs_more_than(&self, bytes: usize) -> bool {
        self.which.is_some_and(|which| bytes < which.tells())
    }

    /// Whether there is any such.
    pub(super) fn any(&self) -> bool {
        self.which.is_some()
    }
}

impl Core {
    /// Receives into a buffer too short to tell SDUs apart: what does not fit into it goes aside.
    pub(super) fn recv_short(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Stop> {
        let room = buffer.len();
        loop {
            let mut aside = [0; TELLS];
            let into = &mut [IoSliceMut::new(buffer), IoSliceMut::new(&mut aside[room..])];
            match rustix::net::recvmsg(&self.fd, into, &mut Default::default(), flags) {
                Ok(got) if got.bytes == 0 && self.closed() => return Err(Stop::Closed),
                Ok(got) => {
                    aside[..room].copy_from_slice(buffer);
                    if !self.unwanted.is(&aside[..got.bytes.min(TELLS)]) && got.bytes > 0 {
                        return self.received(got.bytes, room);
                    }
                }
                Err(errno) => self.recv_failed(errno)?,
            }
        }
    }

    /// The socket, with a filter in place of [`Unwanted::is`].
    pub(crate) fn filtered(&self) -> BorrowedFd<'_> {
        let socket = self.borrow();
        if let Some(which) = self.unwanted.which {
            self.unwanted.filtered.call_once(|| handoff::filter::keep_out(socket, which));
        }
        socket
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::Duration;

    use proto::shim::{Control, ControlKind};
    use proto::{BootId, HostId, Name, WireId};

    use super::*;
    use crate::{Batch, Flow, blocking};

    const SOON: Duration = Duration::from_secs(10);

    /// What is no SDU: a keep-alive, OPENED come twice, an answer come twice.
    fn noise() -> [Vec<u8>; 3] {
        let control = Control {
            kind: ControlKind::Opened,
            host: HostId(1),
            boot: BootId(2),
            sender: WireId(3),
            receiver: WireId(7),
        };
        let mut answer = b"echo\0Flow".to_vec();
        answer.resize(5 + 24, 1);
        answer.extend(7u64.to_be_bytes());
        [Vec::new(), control.encode().to_vec(), answer]
    }

    #[expect(clippy::disallowed_methods, reason = "the flow's far end is a plain socket")]
    fn flow() -> (UdpSocket, blocking::Flow) {
        let [far, near] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        far.connect(near.local_addr().unwrap()).unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        let mut core = Core::unmanaged(near.into(), 1472, None).unwrap();
        core.unwanted = Unwanted::new(Some(shim::Unwanted::answers(&Name::new("echo").unwrap(), WireId(7))));
        (far, Flow::delivered(Arc::new(core), Default::default()).into())
    }

    /// SDUs with noise before, between and behind them.
    fn send(far: &UdpSocket, sdus: &[&[u8]]) {
        for sdu in sdus {
            noise().iter().for_each(|noise| assert!(far.send(noise).is_ok()));
            far.send(sdu).unwrap();
        }
        noise().iter().for_each(|noise| assert!(far.send(noise).is_ok()));
    }

    #[test]
    fn a_receive_skips_what_is_no_sdu() {
        let (far, flow) = flow();
        send(&far, &[b"first", b"second"]);
        let mut buffer = [0; 64];
        for want in [&b"first"[..], b"second"] {
            let length = flow.recv_within(&mut buffer, SOON).unwrap();
            assert_eq!(&buffer[..length], want);
        }
        assert!(matches!(flow.try_recv(&mut buffer), Err(crate::FlowError::WouldBlock)));
        assert_eq!(flow.stats().sdus_received, 2);
    }

    #[test]
    fn a_batch_skips_it_too() {
        let (far, flow) = flow();
        let (mut batch, mut got) = (Batch::new(), Vec::new());
        // From the second round on, the kernel coalesces what is of one length: OPENED and these SDUs, for example.
        for _ in 0..2 {
            send(&far, &[&[5; 40], &[6; 40], b"end"]);
            while got.last().map(Vec::as_slice) != Some(b"end") {
                flow.recv_batch_within(&mut batch, SOON).unwrap();
                got.extend(batch.iter().map(<[u8]>::to_vec));
            }
            assert_eq!(got, [vec![5; 40], vec![6; 40], b"end".to_vec()]);
            got.clear();
        }
        assert_eq!(flow.stats().sdus_received, 6);
    }

    #[test]
    fn a_short_buffer_gets_sdus_only() {
        let (far, flow) = flow();
        send(&far, &[b"first", b"longer than eight", b"third"]);
        let mut buffer = [0; 8];
        let length = flow.recv_within(&mut buffer, SOON).unwrap();
        assert_eq!(&buffer[..length], b"first");
        let cut = flow.recv_within(&mut buffer, SOON).unwrap_err();
        assert!(matches!(cut, crate::FlowError::Truncated { len: 17, room: 8 }), "{cut}");
        let length = flow.recv_within(&mut buffer, SOON).unwrap();
        assert_eq!(&buffer[..length], b"third");
        assert!(matches!(flow.try_recv(&mut buffer), Err(crate::FlowError::WouldBlock)));
    }

    #[test]
    fn who_reads_the_bare_descriptor_sees_sdus_only() {
        use std::os::fd::AsFd as _;
        let (far, flow) = flow();
        noise().iter().for_each(|noise| assert!(far.send(noise).is_ok()));
        let bare = flow.as_fd();
        send(&far, &[b"first", b"second"]);
        let mut buffer = [0; 2048];
        for want in [&b"first"[..], b"second"] {
            let length = rustix::io::read(bare, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], want);
        }
    }
}
