//! TCP, plain and with TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::Carrier;
use super::bare::{Own, client_tls, server_tls};

/// A server's listener and its TLS.
pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
}

pub(crate) type Stream = Box<dyn Both>;

/// Reads and writes.
pub(crate) trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

impl Server {
    pub(crate) fn new(carrier: Carrier) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        Self { listener, tls: (carrier == Carrier::Tls).then(|| Arc::new(server_tls(&Own::new()))) }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next client; its handshake is done by the first read.
    pub(crate) fn accept(&self) -> Stream {
        let stream = self.listener.accept().expect("a client").0;
        stream.set_nodelay(true).expect("an option");
        match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let connection = rustls::ServerConnection::new(tls.clone()).expect("TLS");
                Box::new(rustls::StreamOwned::new(connection, stream))
            }
        }
    }
}

/// Connects; the handshake is done by the first write.
pub(crate) fn connect(carrier: Carrier, to: std::net::SocketAddr) -> Stream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_nodelay(true).expect("an option");
    if carrier == Carrier::Tcp {
        return Box::new(stream);
    }
    let name = "bench".try_into().expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(client_tls()), name).expect("TLS");
    Box::new(rustls::StreamOwned::new(connection, stream))
}
