//! `irm log`: what daemons log, and changes of it.

use proto::v1;

use super::irmd::{Irmd, QUICK};
use super::{Fault, print};
use crate::cli::Log;
use crate::machine::log::{LogRow, table};

pub(super) async fn log(irmd: &mut Irmd, command: Log) -> Result<(), Fault> {
    let Log { filter, ipcp, seconds, listing } = command;
    let request = v1::LogRequest {
        filter: filter.unwrap_or_default(),
        for_s: seconds.unwrap_or(0),
        daemon: ipcp.unwrap_or_default(),
    };
    let reply = Irmd::answer(&irmd.path(), QUICK, irmd.client.log(request)).await?;
    let rows: Vec<LogRow> = reply.states.into_iter().map(LogRow::from).collect();
    let failed = rows.iter().any(LogRow::failed);
    print::listing(listing, rows.as_slice(), table)?;
    if failed {
        let text = "not every daemon did as it was told; the table says which and why";
        return Err(Fault::Said(v1::Failure::new(v1::FailureKind::Internal, text)));
    }
    Ok(())
}
