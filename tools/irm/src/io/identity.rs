//! Commands about who hosts are.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::v1;

use super::irmd::{Irmd, QUICK};
use super::{Fault, print, program};
use crate::cli::{IdentityCommand, Listing, Who, Whom};
use crate::machine::identity::{HostRow, TrustRow, host, pem, table};

/// Longest file of certificates that irmd takes.
const MAX_PEM: u64 = 1 << 20;

pub(super) async fn identity(irmd: &mut Irmd, command: IdentityCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        IdentityCommand::Show { cert, request, listing } => {
            let reply = Irmd::answer(&path, QUICK, irmd.client.identity_show(v1::Empty {})).await?;
            match (cert, request) {
                (true, _) => print::raw(pem(&reply.chain).as_bytes()),
                (_, true) => print::raw(reply.request.as_bytes()),
                _ => print::listing(listing, &HostRow::from(reply), host),
            }?;
        }
        IdentityCommand::Install { file, .. } => {
            let pem = file.map(read).transpose()?.unwrap_or_default();
            Irmd::answer(&path, QUICK, irmd.client.identity_install(v1::IdentityInstallRequest { pem })).await?;
        }
        IdentityCommand::Trust { name, who: Who { fingerprint, ca } } => {
            let request = v1::IdentityTrustRequest { name, identity: said(fingerprint, ca)? };
            Irmd::answer(&path, QUICK, irmd.client.identity_trust(request)).await?;
        }
        IdentityCommand::Forget { name, who: Whom { fingerprint, ca } } => {
            let request = v1::IdentityForgetRequest { name, identity: said(fingerprint, ca)? };
            Irmd::answer(&path, QUICK, irmd.client.identity_forget(request)).await?;
        }
        IdentityCommand::List(how) => list(irmd, how).await?,
        IdentityCommand::Allow { name, who: Who { fingerprint, ca } } => {
            let request = v1::IdentityAllowRequest { name, identity: said(fingerprint, ca)?, remove: false };
            Irmd::answer(&path, QUICK, irmd.client.identity_allow(request)).await?;
        }
        IdentityCommand::Disallow { name, who: Whom { fingerprint, ca } } => {
            let request = v1::IdentityAllowRequest { name, identity: said(fingerprint, ca)?, remove: true };
            Irmd::answer(&path, QUICK, irmd.client.identity_allow(request)).await?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "ages are told by the clock on the wall")]
async fn list(irmd: &mut Irmd, how: Listing) -> Result<(), Fault> {
    let path = irmd.path();
    let stream = Irmd::answer(&path, QUICK, irmd.client.identity_list(v1::Empty {})).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let infos: Vec<v1::TrustInfo> = Irmd::rows(&path, stream).await?;
    let rows: Vec<_> = infos.into_iter().map(|info| TrustRow::new(info, now)).collect();
    print::listing(how, rows.as_slice(), table)
}

/// An identity as irmd takes it; empty for none. irmd reads files of CAs, and runs in another folder.
fn said(fingerprint: Option<String>, ca: Option<PathBuf>) -> Result<String, Fault> {
    let Some(ca) = ca else { return Ok(fingerprint.unwrap_or_default()) };
    let path = std::path::absolute(&ca)
        .map_err(|error| Fault::Unable(format!("cannot make {} absolute: {error}", ca.display())))?;
    Ok(format!("ca:{}", program::text(path)?))
}

/// A file of certificates; this tool reads it, as whoever runs it.
fn read(path: PathBuf) -> Result<String, Fault> {
    let unable = |why: String| Fault::Unable(format!("cannot read {}: {why}", path.display()));
    let length = std::fs::metadata(&path).map_err(|error| unable(error.to_string()))?.len();
    if length > MAX_PEM {
        return Err(unable(format!("it has {length} bytes; give a PEM file of the host's certificate")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| unable(error.to_string()))?;
    // Nothing would ask for the host's own certificate again.
    if text.trim().is_empty() {
        Err(unable("it is empty; give the host's certificate as PEM".to_owned()))
    } else {
        Ok(text)
    }
}
