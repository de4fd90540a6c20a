//! Two hosts, a pair of sockets, a flow on it.
#![expect(clippy::disallowed_methods, reason = "tests open sockets, read the clock and keep their tasks")]

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use identity::{HostKey, Issuer, ProgramKey};
use proto::Name;
use transport::Path;
use transport::quic::{
    Accepting, Answered, Asking, Credentials, Flow, HandshakeError, Options, Shown, accepting, asking,
};

/// For all that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn soon() -> Instant {
    Instant::now() + SOON
}

/// This host's clock.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn name() -> Name {
    Name::new("echo").unwrap()
}

pub(crate) const BINDING: [u8; 32] = [7; 32];

/// What a program shows that runs on a host of its own.
pub(crate) fn credentials(name: Option<&Name>) -> Credentials {
    credentials_of(name, SystemTime::now())
}

/// The same, issued at another time.
pub(crate) fn credentials_of(name: Option<&Name>, at: SystemTime) -> Credentials {
    let host = Issuer::new(HostKey::generate().unwrap()).unwrap();
    let key = ProgramKey::generate().unwrap();
    let issued = host.issue(&key.public_key(), name, at).unwrap();
    Credentials::new(issued.chain, key.private_key()).unwrap()
}

/// A socket with what was told of it.
pub(crate) struct Told {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) suspected: AtomicU64,
    pub(crate) closed: AtomicU64,
}

impl Told {
    pub(crate) fn new(socket: UdpSocket) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        let socket = Arc::new(OwnedFd::from(socket));
        Arc::new(Self { socket, sent: zero(), received: zero(), suspected: zero(), closed: zero() })
    }
}

/// Begins with NUL: the daemons'.
pub(crate) struct Shared(pub(crate) Arc<Told>);

impl Path for Shared {
    fn socket(&self) -> Arc<OwnedFd> {
        self.0.socket.clone()
    }
    fn wanted(&self, datagram: &[u8]) -> bool {
        datagram[0] != 0
    }
    fn sent(&self, count: u64, _: u64) {
        self.0.sent.fetch_add(count, Ordering::Relaxed);
    }
    fn received(&self, count: u64, _: u64) {
        self.0.received.fetch_add(count, Ordering::Relaxed);
    }
    fn suspect(&self) {
        self.0.suspected.fetch_add(1, Ordering::Relaxed);
    }
    fn closed(&self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pair of sockets connected to each other: the asking side's, the accepting side's.
pub(crate) fn sockets(address: &str) -> [UdpSocket; 2] {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind((address, 0)).unwrap());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    [near, far]
}

/// What both sides bring along, to be changed by a test.
pub(crate) struct Scene {
    pub(crate) asking: Asking,
    pub(crate) accepting: Accepting,
    pub(crate) sockets: [Arc<Told>; 2],
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(sockets("127.0.0.1"))
    }

    pub(crate) fn on(sockets: [UdpSocket; 2]) -> Self {
        let options = Options { close_within: SOON, ..Options::default() };
        let (theirs, ours) = (credentials(Some(&name())), credentials(None));
        Self {
            asking: Asking { name: name(), binding: BINDING, credentials: ours, options: options.clone() },
            accepting: Accepting { binding: BINDING, credentials: theirs, judged: false, follow: true, options },
            sockets: sockets.map(Told::new),
        }
    }

    pub(crate) fn options(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self.asking.options);
        change(&mut self.accepting.options);
        self
    }

    /// How far each side comes.
    pub(crate) async fn hands(self) -> (Result<Answered, HandshakeError>, Result<Shown, HandshakeError>) {
        let [near, far] = self.sockets;
        tokio::join!(
            asking(Arc::new(Shared(near)), self.asking, soon()),
            accepting(Arc::new(Shared(far)), self.accepting, soon())
        )
    }

    /// Both ends of a flow.
    pub(crate) async fn flow(self) -> (Flow, Flow) {
        let (answered, shown) = self.hands().await;
        let (near, far) = tokio::join!(answered.unwrap().admitted(), shown.unwrap().admit());
        (near.unwrap(), far.unwrap())
    }
}

/// Both ends of a plain flow.
pub(crate) async fn flow() -> (Flow, Flow) {
    Scene::new().flow().await
}

/// What must happen, happens.
pub(crate) async fn happens<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens in time")
}

/// Runs in the background until the test ends.
pub(crate) fn aside<T: Send + 'static>(what: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(what)
}

/// Bytes that differ from place to place.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
