//! PCP and its older sister NAT-PMP, by `crab_nat`. It asks from a socket of its own that is connected to the router, so nobody
//! else answers; one answer without sense ends the question.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::pcp::{self, BaseMapRequest, DropMappingRange};
use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp};

use crate::{Granted, Port, Refusal, words};

/// 250, 500 and 1,000 ms.
const TIMES: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 2, max_retry_timeout: None };

fn options(port: Port) -> PortMappingOptions {
    PortMappingOptions {
        external_port: NonZeroU16::new(port.outside),
        lifetime_seconds: Some(port.lifetime),
        timeout_config: Some(TIMES),
    }
}

/// A socket's port, which is never 0.
fn inside(port: Port) -> Result<NonZeroU16, Refusal> {
    NonZeroU16::new(port.local.port()).ok_or_else(|| Refusal::Said("the socket has no port".to_owned()))
}

fn refusal(failure: pcp::Failure) -> Refusal {
    match failure {
        pcp::Failure::Timeout => Refusal::Silent,
        // ICMP: nothing is there that speaks it.
        pcp::Failure::Socket(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Refusal::Silent,
        said => Refusal::Said(words(&said.to_string())),
    }
}

fn refusal_old(failure: natpmp::Failure) -> Refusal {
    match failure {
        natpmp::Failure::Timeout => Refusal::Silent,
        natpmp::Failure::Socket(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Refusal::Silent,
        said => Refusal::Said(words(&said.to_string())),
    }
}

fn base(router: Ipv4Addr, port: Port) -> Result<BaseMapRequest, Refusal> {
    let (router, own) = (IpAddr::V4(router), IpAddr::V4(*port.local.ip()));
    Ok(BaseMapRequest::new(router, own, InternetProtocol::Udp, inside(port)?))
}

pub(super) async fn map(router: Ipv4Addr, port: Port) -> Result<Granted, Refusal> {
    let asked = pcp::port_mapping(base(router, port)?, Some(port.nonce), None, options(port));
    let mapping = asked.await.map_err(refusal)?;
    let PortMappingType::Pcp { external_ip: IpAddr::V4(ip), .. } = mapping.mapping_type() else {
        return Err(Refusal::Said("it has no IPv4 address outside".to_owned()));
    };
    Ok(Granted { outside: SocketAddrV4::new(ip, mapping.external_port().get()), lifetime: mapping.lifetime() })
}

pub(super) async fn unmap(router: Ipv4Addr, port: Port) -> Result<(), Refusal> {
    let (protocol, internal_port) = (InternetProtocol::Udp, inside(port)?);
    let range = DropMappingRange::Single { protocol, internal_port };
    let own = IpAddr::V4(*port.local.ip());
    pcp::try_drop_mapping(IpAddr::V4(router), own, port.nonce, range, Some(TIMES)).await.map_err(refusal)
}

/// Whether the router speaks PCP to this host: it is asked to end a mapping that there is not. What it says to that differs; only some
/// of it means that it would map none.
pub(super) async fn speaks(router: Ipv4Addr, port: Port) -> Result<(), Refusal> {
    use pcp::Failure::{
        AddressMismatch, InvalidResponse, MalformedRequest, NotAuthorized, Socket, Timeout, UnsupportedOpcode,
        UnsupportedProtocol, UnsupportedVersion,
    };
    use pcp::InvalidResponseKind::InvalidDeletionResponse;
    let range = DropMappingRange::Single { protocol: InternetProtocol::Udp, internal_port: inside(port)? };
    let own = IpAddr::V4(*port.local.ip());
    match pcp::try_drop_mapping(IpAddr::V4(router), own, port.nonce, range, Some(TIMES)).await {
        Err(InvalidResponse(InvalidDeletionResponse { .. })) | Ok(()) => Ok(()),
        Err(failure @ (Timeout | Socket(_) | NotAuthorized(_) | AddressMismatch | UnsupportedVersion(_))) => {
            Err(refusal(failure))
        }
        Err(failure @ (InvalidResponse(_) | MalformedRequest | UnsupportedOpcode | UnsupportedProtocol)) => {
            Err(refusal(failure))
        }
        // No resources, quota, a passing trouble: it understood.
        Err(_) => Ok(()),
    }
}

/// NAT-PMP does not say the address outside with a mapping.
pub(super) async fn outside_old(router: Ipv4Addr) -> Result<Ipv4Addr, Refusal> {
    natpmp::external_address(IpAddr::V4(router), Some(TIMES)).await.map_err(refusal_old)
}

/// The port outside, and for how many seconds.
pub(super) async fn map_old(router: Ipv4Addr, port: Port) -> Result<(u16, u32), Refusal> {
    let asked = natpmp::port_mapping(IpAddr::V4(router), InternetProtocol::Udp, inside(port)?, options(port));
    let mapping: PortMapping = asked.await.map_err(refusal_old)?;
    Ok((mapping.external_port().get(), mapping.lifetime()))
}

pub(super) async fn unmap_old(router: Ipv4Addr, port: Port) -> Result<(), Refusal> {
    let port = Some(inside(port)?);
    natpmp::try_drop_mapping(IpAddr::V4(router), InternetProtocol::Udp, port, Some(TIMES)).await.map_err(refusal_old)
}
