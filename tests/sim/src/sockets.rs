//! UDP sockets as the kernel has them, without the bytes: who gets a datagram.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Another socket holds the port, and not both of them share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

/// The sockets of one host. `K` is the caller's name of a socket.
///
/// A connected socket takes datagrams of its peer only. Several may share an address if all of them ask to
/// (SO_REUSEPORT): then the one connected to the sender wins over the one connected to nobody.
#[derive(Clone, Debug)]
pub struct Sockets<K> {
    at: BTreeMap<SocketAddr, Vec<Socket<K>>>,
}

#[derive(Clone, Debug)]
struct Socket<K> {
    key: K,
    peer: Option<SocketAddr>,
    shared: bool,
}

impl<K> Default for Sockets<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new() }
    }
}

impl<K: Copy + PartialEq> Sockets<K> {
    /// Opens a socket on `local`. `shared`: with SO_REUSEPORT.
    pub fn bind(&mut self, key: K, local: SocketAddr, shared: bool) -> Result<(), InUse> {
        let there = self.at.entry(local).or_default();
        if there.iter().any(|socket| !(shared && socket.shared)) {
            return Err(InUse);
        }
        there.push(Socket { key, peer: None, shared });
        Ok(())
    }

    /// Sets or takes away SO_REUSEPORT. Says whether there is such a socket.
    pub fn share(&mut self, key: K, shared: bool) -> bool {
        let mut all = self.at.values_mut().flatten();
        all.find(|socket| socket.key == key).map(|socket| socket.shared = shared).is_some()
    }

    /// Connects the socket, again if it was connected before. Says whether there is one.
    pub fn connect(&mut self, key: K, peer: SocketAddr) -> bool {
        let mut all = self.at.values_mut().flatten();
        all.find(|socket| socket.key == key).map(|socket| socket.peer = Some(peer)).is_some()
    }

    /// Dissolves the connection: from now on the socket takes everybody's. Says whether there is one.
    pub fn dissolve(&mut self, key: K) -> bool {
        let mut all = self.at.values_mut().flatten();
        all.find(|socket| socket.key == key).map(|socket| socket.peer = None).is_some()
    }

    /// The host has another address, and with it a socket that is bound to none of them. Says whether there is one.
    pub fn go(&mut self, key: K, local: SocketAddr) -> bool {
        let there = self.at.values_mut().find(|there| there.iter().any(|socket| socket.key == key));
        let Some(there) = there else { return false };
        let Some(place) = there.iter().position(|socket| socket.key == key) else { return false };
        let socket = there.remove(place);
        self.at.retain(|_, there| !there.is_empty());
        self.at.entry(local).or_default().push(socket);
        true
    }

    /// Closes the socket. Says whether there was one.
    pub fn close(&mut self, key: K) -> bool {
        let before = self.len();
        self.at.retain(|_, there| {
            there.retain(|socket| socket.key != key);
            !there.is_empty()
        });
        self.len() < before
    }

    /// Who gets a datagram that came to `local` from `from`. Nobody: the sender is told that the port is closed.
    pub fn find(&self, local: SocketAddr, from: SocketAddr) -> Option<K> {
        let there = self.at.get(&local)?;
        let connected = there.iter().find(|socket| socket.peer == Some(from));
        connected.or_else(|| there.iter().find(|socket| socket.peer.is_none())).map(|socket| socket.key)
    }

    /// Where the socket is bound, and to whom it is connected.
    pub fn ends(&self, key: K) -> Option<(SocketAddr, Option<SocketAddr>)> {
        let mut all = self.at.iter().flat_map(|(local, there)| there.iter().map(move |socket| (local, socket)));
        all.find(|(_, socket)| socket.key == key).map(|(local, socket)| (*local, socket.peer))
    }

    /// Open sockets.
    pub fn len(&self) -> usize {
        self.at.values().map(Vec::len).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const HERE: &str = "192.0.2.1:5000";

    #[test]
    fn a_connected_socket_takes_its_peer_only() {
        let mut sockets = Sockets::default();
        assert_eq!(sockets.bind(1, addr(HERE), false), Ok(()));
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:1")), Some(1));
        assert!(sockets.connect(1, addr("192.0.2.2:1")));
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:1")), Some(1));
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:2")), None);
        assert!(sockets.connect(1, addr("192.0.2.2:2")), "it moves");
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:2")), Some(1));
        assert!(sockets.dissolve(1), "and takes all");
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.9:9")), Some(1));
        assert!(sockets.go(1, addr("192.0.2.3:5000")) && !sockets.go(2, addr(HERE)));
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.9:9")), None);
        assert_eq!(sockets.find(addr("192.0.2.3:5000"), addr("192.0.2.9:9")), Some(1));
        assert!(sockets.close(1) && !sockets.close(1) && sockets.is_empty());
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:2")), None);
    }

    #[test]
    fn a_port_is_shared_by_those_who_agree() {
        let mut sockets = Sockets::default();
        assert_eq!(sockets.bind(1, addr(HERE), true), Ok(()));
        assert_eq!(sockets.bind(2, addr(HERE), false), Err(InUse));
        assert_eq!(sockets.bind(2, addr(HERE), true), Ok(()));
        assert_eq!(sockets.bind(3, addr("192.0.2.1:5001"), false), Ok(()));
        assert_eq!(sockets.bind(4, addr("192.0.2.1:5001"), true), Err(InUse));
        sockets.connect(2, addr("192.0.2.2:1"));
        assert!(sockets.share(2, false));
        assert_eq!(sockets.bind(5, addr(HERE), true), Err(InUse), "one changed its mind");
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.2:1")), Some(2), "the connected one wins");
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.3:1")), Some(1), "the catcher has the rest");
        sockets.close(1);
        assert_eq!(sockets.find(addr(HERE), addr("192.0.2.3:1")), None);
    }
}
