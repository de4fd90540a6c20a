//! UPnP, by `igd-next`: a device is looked for with SSDP, then told by SOAP. The library takes only descriptions and control addresses
//! of the host that answered; this takes only the router's own.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{GatewayIpVersion, PortMappingProtocol, RequestError, SearchOptions};
use tokio::time::timeout;

use crate::{Port, Refusal, words};

/// For one thing that is asked of a device, whatever it takes; the library would try 20 ports for 10 s each.
const PATIENCE: Duration = Duration::from_secs(3);
const SSDP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const SSDP_PORT: u16 = 1900;
/// As a router's list of mappings shows it.
const DESCRIPTION: &str = "flowring";
/// A host has one router, or a few in its life.
const MOST: usize = 4;

type Device = Arc<Gateway<Tokio>>;

/// Devices by their address: found once.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices(Arc<Mutex<HashMap<Ipv4Addr, Device>>>);

/// Errors of the library, of which some say that the device is not there any more.
trait Failed: Display {
    fn request(&self) -> Option<&RequestError>;
}

macro_rules! failed {
    ($($error:ident),*) => {$(
        impl Failed for igd_next::$error {
            fn request(&self) -> Option<&RequestError> {
                if let Self::RequestError(error) = self { Some(error) } else { None }
            }
        }
    )*};
}

failed!(GetExternalIpError, AddAnyPortError, AddPortError, RemovePortError);

async fn within<T, E: Failed>(asked: impl Future<Output = Result<T, E>>) -> Result<T, Refusal> {
    let Ok(answer) = timeout(PATIENCE, asked).await else { return Err(Refusal::Silent) };
    answer.map_err(|error| match error.request() {
        Some(RequestError::IoError(_) | RequestError::HyperError(_) | RequestError::HyperClientError(_)) => {
            Refusal::Silent
        }
        _ => Refusal::Said(words(&error.to_string())),
    })
}

impl Devices {
    /// The router's address outside. The device is looked for anew: it may have been restarted.
    pub(super) async fn outside(&self, router: Ipv4Addr, own: Ipv4Addr) -> Result<Ipv4Addr, Refusal> {
        let device = search(router, own).await?;
        let outside = within(device.get_external_ip()).await?;
        let IpAddr::V4(outside) = outside else {
            return Err(Refusal::Said("it has no IPv4 address outside".to_owned()));
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(router, device);
        Ok(outside)
    }

    async fn device(&self, router: Ipv4Addr, own: Ipv4Addr) -> Result<Device, Refusal> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&router).cloned();
        match known {
            Some(device) => Ok(device),
            None => search(router, own).await,
        }
    }

    /// The port outside.
    pub(super) async fn map(&self, router: Ipv4Addr, port: Port) -> Result<u16, Refusal> {
        let device = self.device(router, *port.local.ip()).await?;
        let local = SocketAddr::V4(port.local);
        let (protocol, lifetime) = (PortMappingProtocol::UDP, port.lifetime);
        // The socket's own, unless somebody else has it: so whoever asks for it again, having forgotten, gets the same.
        let wanted = if port.outside == 0 { port.local.port() } else { port.outside };
        match within(device.add_port(protocol, wanted, local, lifetime, DESCRIPTION)).await {
            Err(Refusal::Said(_)) if port.outside == 0 => {
                within(device.add_any_port(protocol, local, lifetime, DESCRIPTION)).await
            }
            done => done.map(|()| wanted),
        }
    }

    pub(super) async fn unmap(&self, router: Ipv4Addr, port: Port) -> Result<(), Refusal> {
        let device = self.device(router, *port.local.ip()).await?;
        within(device.remove_port(PortMappingProtocol::UDP, port.outside)).await
    }
}

/// The router is asked itself, and the network, as some routers want it; whoever else answers is no router of ours.
async fn search(router: Ipv4Addr, own: Ipv4Addr) -> Result<Device, Refusal> {
    let ask = |to: Ipv4Addr| {
        let mut options = SearchOptions::default();
        options.bind_addr = (own, 0).into();
        options.broadcast_address = (to, SSDP_PORT).into();
        options.timeout = Some(PATIENCE);
        options.single_search_timeout = Some(PATIENCE);
        options.gateway_ip_version = GatewayIpVersion::V4;
        async move {
            let device = search_gateway(options).await.ok()?;
            (device.addr.ip() == IpAddr::V4(router)).then_some(device)
        }
    };
    let (itself, network) = (ask(router), ask(SSDP));
    tokio::pin!(itself, network);
    // The first that is right; where one is wrong or silent, the other.
    let found = tokio::select! {
        Some(device) = &mut itself => Some(device),
        Some(device) = &mut network => Some(device),
        else => None,
    };
    found.map(Arc::new).ok_or(Refusal::Silent)
}
