//! Flows over pairs of UDP sockets.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use identity::{HostKey, Issuer, ProgramKey};
use proto::Name;
use transport::Path;
use transport::quic::{Accepting, Asking, Credentials, Flow, Options, accepting, asking};

const SOON: Duration = Duration::from_secs(20);

/// Both programs' identities.
#[derive(Clone)]
pub(crate) struct Both {
    name: Name,
    near: Credentials,
    far: Credentials,
}

impl Both {
    pub(crate) fn new() -> Self {
        let name = Name::new("bench").expect("a name");
        let credentials = |name: Option<&Name>| {
            let host = Issuer::new(HostKey::generate().expect("a key")).expect("a host");
            let key = ProgramKey::generate().expect("a key");
            let issued = host.issue(&key.public_key(), name, SystemTime::now()).expect("a certificate");
            Credentials::new(issued.chain, key.private_key()).expect("credentials")
        };
        Self { near: credentials(None), far: credentials(Some(&name)), name }
    }

    pub(crate) async fn ask(&self, socket: UdpSocket, options: Options) -> Flow {
        let asked = Asking { name: self.name.clone(), binding: [0; 32], credentials: self.near.clone(), options };
        let answered = asking(path(socket), asked, Instant::now() + SOON).await.expect("an answer");
        answered.admitted().await.expect("a flow")
    }

    pub(crate) async fn accept(&self, socket: UdpSocket, options: Options) -> Flow {
        let credentials = self.far.clone();
        let accepted = Accepting { binding: [0; 32], credentials, judged: false, follow: true, options };
        let shown = accepting(path(socket), accepted, Instant::now() + SOON).await.expect("a client");
        shown.admit().await.expect("a flow")
    }
}

fn path(socket: UdpSocket) -> Arc<dyn Path> {
    Arc::new(Arc::new(OwnedFd::from(socket)))
}

/// A pair of sockets connected to each other.
pub(crate) fn sockets() -> [UdpSocket; 2] {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    near.connect(far.local_addr().expect("an address")).expect("connected");
    far.connect(near.local_addr().expect("an address")).expect("connected");
    [near, far]
}

/// Runs `what` on a thread with a runtime of its own.
pub(crate) fn on_thread<T: Send + 'static, F: Future<Output = T>>(
    what: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let run = || runtime().block_on(what());
    std::thread::Builder::new().name("end".into()).spawn(run).expect("a thread")
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
