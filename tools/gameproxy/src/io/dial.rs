//! How a client side reaches its server side.

use std::fmt;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::time::Duration;

use libflow::{Qos, Stack};
use rustix::net::sockopt;

use super::road::Road;
use crate::cli::Carrier;
use crate::said::rule::Place;

/// How long one attempt may take.
const WITHIN: Duration = Duration::from_secs(5);

/// After so long a silence the other end of a TCP connection is asked whether it is there.
const SILENT: Duration = Duration::from_secs(15);

/// A server side, and how it is spoken to.
#[derive(Clone)]
pub(super) enum Dial {
    /// A name: a message flow, or a stream flow of one stream.
    Flow { stack: Stack, name: String, carrier: Carrier },
    /// A TCP port, for the byte stream.
    Tcp(Place),
}

impl Dial {
    /// Begins an attempt.
    pub(super) fn begin(&self) -> Pin<Box<dyn Future<Output = Result<Road, String>> + Send>> {
        let dial = self.clone();
        Box::pin(async move {
            match dial {
                Self::Flow { stack, name, carrier: Carrier::Message } => {
                    let flow = stack.alloc(&name).qos(Qos::message()).timeout(WITHIN).await;
                    Ok(Road::messages(flow.map_err(|error| error.to_string())?))
                }
                Self::Flow { stack, name, carrier: Carrier::Stream } => {
                    let flow = stack.alloc(&name).qos(Qos::stream()).timeout(WITHIN).await;
                    let flow = flow.map_err(|error| error.to_string())?;
                    Ok(Road::stream(flow.into_stream().await.map_err(|error| error.to_string())?))
                }
                Self::Tcp(place) => {
                    let dialled = tokio::net::TcpStream::connect(place.to_string());
                    let stream = tokio::time::timeout(WITHIN, dialled).await.map_err(|_| "no answer".to_owned())?;
                    let stream = stream.map_err(|error| error.to_string())?;
                    watch_over(&stream);
                    Ok(Road::stream(stream))
                }
            }
        })
    }
}

/// Datagrams go at once, and an other side that is gone without a word is found out: it is asked when it is silent, and what it
/// does not take is not kept for long.
pub(super) fn watch_over(stream: impl AsFd) {
    let stream = stream.as_fd();
    // What a kernel cannot do here it can do without.
    let _ = sockopt::set_tcp_nodelay(stream, true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, SILENT);
    let _ = sockopt::set_tcp_keepintvl(stream, SILENT / 3);
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    let _ = sockopt::set_tcp_user_timeout(stream, 2 * SILENT.as_millis() as u32);
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow { name, .. } => write!(f, "flow:{name}"),
            Self::Tcp(place) => place.fmt(f),
        }
    }
}
