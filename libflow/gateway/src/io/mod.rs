//! What is done: the libraries are asked, within bounds.

use std::net::{Ipv4Addr, SocketAddrV4};

mod pcp;
mod route;
mod upnp;

use crate::{Gateway, Granted, NotFound, Port, Protocol, Refusal, Survey};

/// Asks routers. Clones share what is known of a UPnP device.
#[derive(Clone, Debug, Default)]
pub struct Client {
    upnp: upnp::Devices,
}

/// How each protocol can be tried.
const ALL: [Protocol; 3] = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp];

impl Client {
    /// The router on the way from the port's address to `towards`, by the first protocol in which it maps that port. Takes up to
    /// ten seconds where the router is silent.
    pub async fn find(&self, towards: Ipv4Addr, port: Port) -> Result<(Gateway, Granted), NotFound> {
        let at = route::router(towards).ok_or(NotFound::NoRouter)?;
        let mut tried = Vec::new();
        for by in ALL {
            let found = match by {
                Protocol::Pcp => self.map(Gateway { at, by, outside: Ipv4Addr::UNSPECIFIED }, port).await,
                Protocol::NatPmp | Protocol::Upnp => match self.outside(at, by, *port.local.ip()).await {
                    Ok(outside) => self.map(Gateway { at, by, outside }, port).await,
                    Err(refusal) => Err(refusal),
                },
            };
            match found {
                Ok(granted) => return Ok((Gateway { at, by, outside: *granted.outside.ip() }, granted)),
                Err(refusal) => tried.push((by, refusal)),
            }
        }
        Err(NotFound::Maps(at, tried))
    }

    /// Maps a port, or renews its mapping.
    pub async fn map(&self, gateway: Gateway, port: Port) -> Result<Granted, Refusal> {
        route::speaks_from(gateway.at, *port.local.ip())?;
        let granted = match gateway.by {
            Protocol::Pcp => pcp::map(gateway.at, port).await?,
            Protocol::NatPmp => {
                let (outside, lifetime) = pcp::map_old(gateway.at, port).await?;
                Granted { outside: SocketAddrV4::new(gateway.outside, outside), lifetime }
            }
            Protocol::Upnp => {
                let outside = self.upnp.map(gateway.at, port).await?;
                Granted { outside: SocketAddrV4::new(gateway.outside, outside), lifetime: port.lifetime }
            }
        };
        let usable = granted.lifetime > 0 && granted.outside.port() != 0 && !granted.outside.ip().is_unspecified();
        if usable { Ok(granted) } else { Err(Refusal::Said(format!("it mapped {} for no time", granted.outside))) }
    }

    /// Ends a mapping. What does not succeed, its lifetime ends.
    pub async fn unmap(&self, gateway: Gateway, port: Port) -> Result<(), Refusal> {
        route::speaks_from(gateway.at, *port.local.ip())?;
        match gateway.by {
            Protocol::Pcp => pcp::unmap(gateway.at, port).await,
            Protocol::NatPmp => pcp::unmap_old(gateway.at, port).await,
            Protocol::Upnp => self.upnp.unmap(gateway.at, port).await,
        }
    }

    /// What the router on the way to `towards` answers to, with nothing mapped: as `find`, all at once. PCP is asked to end a mapping that
    /// there is not, of the port `local` of this host's socket.
    pub async fn survey(&self, towards: Ipv4Addr, local: SocketAddrV4) -> Option<Survey> {
        let at = route::router(towards)?;
        let port = Port { local, outside: 0, nonce: [0; 3], lifetime: 0 };
        let asks_from = route::speaks_from(at, *local.ip());
        let pcp = async {
            asks_from.clone()?;
            pcp::speaks(at, port).await
        };
        let (pcp, old, upnp) = tokio::join!(
            pcp,
            self.outside(at, Protocol::NatPmp, *local.ip()),
            self.outside(at, Protocol::Upnp, *local.ip()),
        );
        let answers =
            [(Protocol::Pcp, pcp.map(|()| None)), (Protocol::NatPmp, old.map(Some)), (Protocol::Upnp, upnp.map(Some))];
        Some(Survey { at, answers })
    }

    /// The router's address outside.
    async fn outside(&self, at: Ipv4Addr, by: Protocol, own: Ipv4Addr) -> Result<Ipv4Addr, Refusal> {
        route::speaks_from(at, own)?;
        match by {
            Protocol::Upnp => self.upnp.outside(at, own).await,
            Protocol::Pcp | Protocol::NatPmp => pcp::outside_old(at).await,
        }
    }
}
