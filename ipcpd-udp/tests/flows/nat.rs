//! A middlebox, played by sockets: what the client's side sends to its inside address goes on to the server from its outside
//! address, and back what its kind lets pass.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a played middlebox is made of plain sockets and tasks; nobody shuts them down"
)]

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Handle, Runtime};

/// What it lets in, and as whom it shows an inside address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One outside port for each inside one; everybody may send to it.
    FullCone,
    /// Those may send whose host was sent to.
    AddressRestricted,
    /// Those may send that were sent to: a firewall, too.
    PortRestricted,
    /// The same as Linux does it: what came uninvited takes its mapping away from what is sent there later.
    Poisoned,
    /// One outside port for each inside one and destination.
    Symmetric,
}

/// A running middlebox; it ends with this.
pub(crate) struct Nat {
    runtime: Option<Runtime>,
    box_: Arc<Middlebox>,
}

struct Middlebox {
    kind: Kind,
    outside: Mutex<IpAddr>,
    server: IpAddr,
    inside: HashMap<u16, UdpSocket>,
    cut: AtomicBool,
    mappings: Mutex<HashMap<Inside, Arc<Mapping>>>,
    uninvited: Mutex<HashSet<SocketAddr>>,
}

/// An inside address, and what it sends to where that makes a difference.
type Inside = (SocketAddr, Option<SocketAddr>);

struct Mapping {
    socket: UdpSocket,
    source: SocketAddr,
    sent: Mutex<HashSet<SocketAddr>>,
}

impl Nat {
    /// Stands between clients that send to `ports` of `inside` and the same ports of `server`.
    pub(crate) fn start(kind: Kind, [inside, outside, server]: [IpAddr; 3], ports: &[u16]) -> Self {
        // A runtime of its own: tests read sockets without giving way.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let bound = |&port| {
            let socket = std::net::UdpSocket::bind((inside, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            (port, UdpSocket::from_std(socket).unwrap())
        };
        let box_ = Arc::new(Middlebox {
            kind,
            outside: Mutex::new(outside),
            server,
            inside: ports.iter().map(bound).collect(),
            cut: AtomicBool::new(false),
            mappings: Mutex::default(),
            uninvited: Mutex::default(),
        });
        for &port in ports {
            runtime.spawn(box_.clone().outwards(port));
        }
        drop(entered);
        Self { runtime: Some(runtime), box_ }
    }

    /// It forgets its mappings, and has another address from now on.
    pub(crate) fn rebind(&self, outside: IpAddr) {
        *self.box_.outside.lock().unwrap() = outside;
        self.box_.mappings.lock().unwrap().clear();
    }

    /// Nothing passes any more.
    pub(crate) fn cut(&self) {
        self.box_.cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Middlebox {
    async fn outwards(self: Arc<Self>, port: u16) {
        let (mut buffer, to) = (vec![0; 65_536], SocketAddr::new(self.server, port));
        while let Ok((length, source)) = self.inside[&port].recv_from(&mut buffer).await {
            if self.cut.load(Ordering::Relaxed) {
                continue;
            }
            let mapping = self.mapping(source, to).await;
            mapping.sent.lock().unwrap().insert(to);
            let _ = mapping.socket.send_to(&buffer[..length], to).await;
        }
    }

    async fn mapping(self: &Arc<Self>, source: SocketAddr, to: SocketAddr) -> Arc<Mapping> {
        let taken = self.kind == Kind::Poisoned && self.uninvited.lock().unwrap().contains(&to);
        let key = (source, (self.kind == Kind::Symmetric || taken).then_some(to));
        if let Some(mapping) = self.mappings.lock().unwrap().get(&key) {
            return mapping.clone();
        }
        let outside = *self.outside.lock().unwrap();
        let socket = UdpSocket::bind((outside, 0)).await.unwrap();
        let mapping = Arc::new(Mapping { socket, source, sent: Mutex::default() });
        let known = self.mappings.lock().unwrap().entry(key).or_insert_with(|| mapping.clone()).clone();
        if Arc::ptr_eq(&known, &mapping) {
            Handle::current().spawn(self.clone().inwards(mapping));
        }
        known
    }

    async fn inwards(self: Arc<Self>, mapping: Arc<Mapping>) {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = mapping.socket.recv_from(&mut buffer).await {
            let passes = {
                let sent = mapping.sent.lock().unwrap();
                match self.kind {
                    Kind::FullCone => true,
                    Kind::AddressRestricted => sent.iter().any(|to| to.ip() == from.ip()),
                    Kind::PortRestricted | Kind::Poisoned | Kind::Symmetric => sent.contains(&from),
                }
            };
            if !passes {
                self.uninvited.lock().unwrap().insert(from);
            } else if let Some(inside) = self.inside.get(&from.port())
                && !self.cut.load(Ordering::Relaxed)
            {
                let _ = inside.send_to(&buffer[..length], mapping.source).await;
            }
        }
    }
}
