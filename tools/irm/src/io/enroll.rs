//! `irm ipcp enroll`: from which address of this host the rendezvous is reached.
#![expect(clippy::disallowed_methods, reason = "io asks the kernel for a route")]

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use proto::rendezvous::PORT;
use proto::v1;

use super::{Fault, program};
use crate::cli::{Enroll, Punch};

/// What irmd is asked for.
pub(super) fn request(options: Enroll) -> Result<v1::IpcpBootstrapRequest, Fault> {
    let follow = options.ip.is_none();
    let ip = match options.ip {
        Some(ip) => ip,
        None => own_address(&options.via)?.to_string(),
    };
    let udp = v1::UdpConfig {
        ip,
        port: options.port.into(),
        rendezvous: options.via,
        session: options.session,
        session_key_file: program::text(options.key_file)?,
        follow,
        punch: Punch::said(options.punch).into(),
        map_ports: options.map_ports,
        ..v1::UdpConfig::default()
    };
    Ok(v1::IpcpBootstrapRequest {
        name: options.name,
        r#type: "udp".to_owned(),
        layer: options.layer,
        udp: Some(udp),
        no_restart: options.no_restart,
    })
}

/// The address that this host would send to the rendezvous from. Nothing is sent.
fn own_address(via: &str) -> Result<IpAddr, Fault> {
    let unable = |why: String| {
        let text = format!("cannot find out which address of this host reaches {via}: {why}; give it with --ip");
        Fault::Unable(text)
    };
    let with_port = || (via.trim_matches(['[', ']']), PORT).to_socket_addrs();
    let found: Vec<SocketAddr> =
        via.to_socket_addrs().or_else(|_| with_port()).map_err(|error| unable(error.to_string()))?.collect();
    let server = found.first().ok_or_else(|| unable("it has no address".to_owned()))?;
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let route = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.local_addr()
    };
    route().map(|at| at.ip()).map_err(|error| unable(error.to_string()))
}
