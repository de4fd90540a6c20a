//! Commands that ask.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::v1;

use super::irmd::{DIRECTORY, Irmd, QUICK};
use super::{Fault, print};
use crate::cli::{Asker, Listing};
use crate::machine::{host, ipcp, name, resolve, rules, status};

pub(super) async fn status(irmd: &mut Irmd, how: Listing) -> Result<(), Fault> {
    let reply = Irmd::answer(&irmd.path(), QUICK, irmd.client.status(v1::Empty {})).await?;
    print::listing(how, &status::StatusRow::from(reply), status::text)
}

async fn all_ipcps(irmd: &mut Irmd) -> Result<Vec<v1::IpcpInfo>, Fault> {
    let path = irmd.path();
    let stream = Irmd::answer(&path, QUICK, irmd.client.ipcp_list(v1::Empty {})).await?;
    Irmd::rows(&path, stream).await
}

pub(super) async fn ipcps(irmd: &mut Irmd, how: Listing) -> Result<(), Fault> {
    let rows: Vec<_> = all_ipcps(irmd).await?.into_iter().map(ipcp::IpcpRow::from).collect();
    print::listing(how, rows.as_slice(), ipcp::table)
}

pub(super) async fn hosts(irmd: &mut Irmd, ipcp: &str, how: Listing) -> Result<(), Fault> {
    let found = all_ipcps(irmd).await?.into_iter().find(|info| info.name == ipcp);
    let info = found.ok_or_else(|| {
        Fault::Said(v1::Failure::new(
            v1::FailureKind::NotFound,
            format!("there is no IPCP {ipcp}; `irm ipcp list` names those there are"),
        ))
    })?;
    let rows = host::rows(&info.config.unwrap_or_default());
    print::listing(how, rows.as_slice(), host::table)
}

pub(super) async fn names(irmd: &mut Irmd, how: Listing) -> Result<(), Fault> {
    let path = irmd.path();
    let stream = Irmd::answer(&path, QUICK, irmd.client.name_list(v1::Empty {})).await?;
    let rows: Vec<name::NameRow> = Irmd::rows(&path, stream).await?;
    print::listing(how, rows.as_slice(), name::table)
}

#[expect(clippy::disallowed_methods, reason = "records end by the clock on the wall")]
pub(super) async fn resolve(irmd: &mut Irmd, name: String, layer: Option<String>, how: Listing) -> Result<(), Fault> {
    let request = v1::NameResolveRequest { name: name.clone(), layer: layer.unwrap_or_default() };
    let reply = Irmd::answer(&irmd.path(), DIRECTORY, irmd.client.name_resolve(request)).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    print::listing(how, &resolve::Resolved::new(&name, reply, now), resolve::text)
}

pub(super) async fn rules(irmd: &mut Irmd, how: Listing) -> Result<(), Fault> {
    let reply = Irmd::answer(&irmd.path(), QUICK, irmd.client.rule_list(v1::Empty {})).await?;
    let rows: Vec<_> = reply.rules.into_iter().map(rules::RuleRow::from).collect();
    print::listing(how, rows.as_slice(), rules::table)
}

pub(super) async fn may(irmd: &mut Irmd, name: String, asker: Asker, how: Listing) -> Result<(), Fault> {
    let (user, address) = (asker.user.unwrap_or_default(), asker.from.unwrap_or_default());
    let request = v1::NameMayRequest { name, user, address };
    let reply = Irmd::answer(&irmd.path(), QUICK, irmd.client.name_may(request)).await?;
    let rows: Vec<_> = reply.rulings.into_iter().map(rules::RulingRow::from).collect();
    print::listing(how, rows.as_slice(), rules::rulings)
}

pub(super) async fn config(irmd: &mut Irmd) -> Result<(), Fault> {
    let reply = Irmd::answer(&irmd.path(), QUICK, irmd.client.config_export(v1::Empty {})).await?;
    print::raw(reply.toml.as_bytes())
}
