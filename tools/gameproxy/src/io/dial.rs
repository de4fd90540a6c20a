//! How a client side reaches its server side.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use libflow::{Qos, Stack};

use super::road::Road;
use crate::cli::Carrier;
use crate::said::rule::Place;

/// How long one attempt may take.
const WITHIN: Duration = Duration::from_secs(5);

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
                    stream.set_nodelay(true).map_err(|error| error.to_string())?;
                    Ok(Road::stream(stream))
                }
            }
        })
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow { name, .. } => write!(f, "flow:{name}"),
            Self::Tcp(place) => place.fmt(f),
        }
    }
}
