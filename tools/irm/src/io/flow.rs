//! Flows: listed once or again and again, one in full, what happened to them.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use proto::v1;

use super::Fault;
use super::irmd::{Irmd, QUICK};
use super::print;
use crate::cli::{FlowEvents, FlowList, Listing, State};
use crate::machine::flow::{FlowRow, Reading};
use crate::machine::{choice, event, flow};

/// Home, and what is below cleared.
const REDRAW: &str = "\x1b[H\x1b[J";

pub(super) async fn list(irmd: &mut Irmd, wanted: &FlowList) -> Result<(), Fault> {
    let Some(seconds) = wanted.watch else {
        let rows = rows(irmd, wanted, &mut HashMap::new()).await?;
        if wanted.listing.json {
            return print::rows(&rows);
        }
        let (table, left_out) = flow::table(&rows, width(wanted));
        print::raw(table.as_bytes())?;
        if !left_out.is_empty() {
            print::note(&format!("(too narrow for {}; --wide shows them)", left_out.join(", ")));
        }
        return Ok(());
    };
    let redraws = !wanted.listing.json && std::io::stdout().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_secs(seconds.into()));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = HashMap::new();
    loop {
        tick.tick().await;
        let rows = rows(irmd, wanted, &mut before).await?;
        if wanted.listing.json {
            print::line(rows.as_slice())?;
        } else {
            let start = if redraws { REDRAW } else { "" };
            print::raw(format!("{start}{}", flow::table(&rows, width(wanted)).0).as_bytes())?;
        }
    }
}

/// The terminal's, in characters; `None` where none shows it, or all columns are wanted.
fn width(wanted: &FlowList) -> Option<usize> {
    let out = std::io::stdout();
    let size = if wanted.wide || !out.is_terminal() { None } else { rustix::termios::tcgetwinsize(&out).ok() };
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The rows that are wanted; rates since the readings of `before`, which become those of now.
async fn rows(irmd: &mut Irmd, wanted: &FlowList, before: &mut HashMap<u64, Reading>) -> Result<Vec<FlowRow>, Fault> {
    let path = irmd.path();
    let ended = wanted.all || wanted.state == Some(State::Ended);
    let stream = Irmd::answer(&path, QUICK, irmd.client.flow_list(v1::FlowListRequest { ended })).await?;
    let mut rows: Vec<FlowRow> = Irmd::rows(&path, stream).await?;
    if wanted.watch.is_some() {
        let now = rows.iter_mut().filter_map(|row| Some((row.id, row.rated(before.get(&row.id))?))).collect();
        *before = now;
    }
    choice::choose(wanted, &mut rows);
    Ok(rows)
}

pub(super) async fn show(irmd: &mut Irmd, id: u64, how: Listing) -> Result<(), Fault> {
    let request = v1::FlowShowRequest { flow_id: id };
    let info = Irmd::answer(&irmd.path(), QUICK, irmd.client.flow_show(request)).await?;
    print::listing(how, &FlowRow::from(info), flow::details)
}

pub(super) async fn events(irmd: &mut Irmd, wanted: FlowEvents) -> Result<(), Fault> {
    let path = irmd.path();
    let kinds = wanted.kind.iter().filter_map(|word| v1::EventKind::of_word(word)).map(i32::from).collect();
    let request =
        v1::FlowEventsRequest { follow: wanted.follow, kinds, after: 0, flow_id: wanted.flow.unwrap_or_default() };
    let mut stream = Irmd::answer(&path, QUICK, irmd.client.flow_events(request)).await?;
    loop {
        // What is followed may be silent for as long as it likes.
        let Some(next) = Irmd::next(&path, &mut stream).await? else { return Ok(()) };
        let row = event::EventRow::from(next);
        if wanted.listing.json {
            print::line(&row)?;
        } else {
            print::raw(event::line(&row).as_bytes())?;
        }
    }
}
