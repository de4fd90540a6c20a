//! The static directory of an IPCP as a listing.

use proto::v1;
use serde::Serialize;

use super::table::{render, words};
use super::text::printable;

/// One entry in `irm ipcp host list --json`.
#[derive(Debug, Serialize)]
pub struct HostRow {
    name: String,
    address: String,
}

/// The entries of a configuration.
pub fn rows(config: &v1::UdpConfig) -> Vec<HostRow> {
    config.hosts.iter().map(|host| HostRow { name: host.name.clone(), address: host.address.clone() }).collect()
}

/// The listing as a table.
pub fn table(rows: &[HostRow]) -> String {
    let cells = rows.iter().map(|row| vec![printable(&row.name), printable(&row.address)]);
    render(&[words("NAME"), words("ADDRESS")], cells)
}
