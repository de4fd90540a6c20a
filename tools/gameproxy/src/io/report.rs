//! How it is, gathered from whoever carries.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use service::process::resident;
use tokio::sync::oneshot;

use super::keep::{Carrying, Keeper, lock};
use super::orders::{Order, Report, WaySeen};
use super::tally::Counts;
use crate::machine::door::{ClientId, Door};
use crate::machine::routes::Over;
use crate::said::control::{PlayerStatus, RedirectStatus, ServerStatus, Status, WayStatus};
use crate::said::rule::{Dropped, Host};

/// Who carries may take so long to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// The status, with so many players.
pub(super) async fn status(keeper: &Keeper, players: usize) -> Status {
    let reports = reports(&keeper.carrying).await;
    let mut status = Status {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        role: keeper.carrying.role().to_owned(),
        pid: std::process::id(),
        uptime_ms: millis(keeper.began.elapsed()),
        file: keeper.source.as_ref().and_then(service::source::Source::name),
        reload_failed: keeper.reloads.why.clone(),
        reloads: keeper.reloads.taken,
        reloads_failed: keeper.reloads.failed,
        stopping: keeper.stopping,
        rss_bytes: resident(),
        unknown_names: keeper.unknown.iter().cloned().collect(),
        ..Status::default()
    };
    let mut sum = Counts::default();
    for (_, report) in &reports {
        sum.add(&report.counts);
        status.ports.extend(report.ports.iter().map(ToString::to_string));
        status.ways.extend(report.way.as_ref().map(way));
    }
    if let Carrying::Sides(_, tally) = &keeper.carrying {
        sum.add(&tally.read());
    }
    count(&mut status, &sum);
    if let Some(door) = keeper.door.as_ref().filter(|_| !keeper.is_client()) {
        let door = lock(door);
        status.redirects = redirects(&door);
        status.players_total = door.players().into();
        seen(&mut status, &door, &reports, players);
    } else {
        status.players_total = status.ways.iter().map(|way| way.players).sum();
    }
    status
}

/// How many players go over the ways of a client side.
pub(super) async fn over_ways(carrying: &Carrying) -> u64 {
    let reports = reports(carrying).await;
    reports.iter().filter_map(|(_, report)| report.way.as_ref()).map(|way| way.players as u64).sum()
}

async fn reports(carrying: &Carrying) -> Vec<(ClientId, Report)> {
    let mut asked = Vec::new();
    for (id, desk) in carrying.desks() {
        let (answer, told) = oneshot::channel();
        if desk.give(Order::Look(answer)) {
            asked.push((id, told));
        }
    }
    let end = tokio::time::Instant::from_std(Instant::now() + PATIENCE);
    let mut reports = Vec::new();
    for (id, told) in asked {
        // One that has ended since, or is too slow, is left out.
        if let Ok(Ok(report)) = tokio::time::timeout_at(end, told).await {
            reports.push((id, report));
        }
    }
    reports
}

fn count(status: &mut Status, sum: &Counts) {
    (status.datagrams_up, status.datagrams_down) = (sum.datagrams[0], sum.datagrams[1]);
    (status.bytes_up, status.bytes_down) = (sum.bytes[0], sum.bytes[1]);
    status.dropped = Dropped::ALL.iter().map(|why| (why.label().to_owned(), sum.dropped[*why as usize])).collect();
    status.came = sum.opened;
    let went = Over::ALL.iter().map(|why| (why.words().to_owned(), sum.over[*why as usize]));
    status.went = went.collect::<BTreeMap<_, _>>();
    status.queue_p50_us = sum.late_below(0.5);
    status.queue_p99_us = sum.late_below(0.99);
}

fn way(way: &WaySeen) -> WayStatus {
    WayStatus {
        other: way.other.clone(),
        up: way.up,
        round_trip_us: way.round_trip.map(micros),
        players: way.players as u64,
    }
}

fn redirects(door: &Door) -> Vec<RedirectStatus> {
    let each = door.lines().map(|(redirect, line)| {
        let known = redirect.is_some_and(|redirect| {
            let found = |host: &Host| !door.names().addresses(host).is_empty();
            let reached = redirect.on.iter().chain([&redirect.from.host]).all(found);
            reached && redirect.to.iter().any(|target| found(&target.place.host))
        });
        let servers = line.servers().map(|(name, up, players, round_trip)| ServerStatus {
            server: name.to_owned(),
            up,
            players,
            round_trip_us: round_trip.map(micros),
        });
        RedirectStatus {
            name: line.name().to_owned(),
            state: match redirect {
                None => "removed",
                Some(_) if known => "open",
                Some(_) => "waiting",
            }
            .to_owned(),
            players: line.count.players().into(),
            servers: servers.collect(),
        }
    });
    each.collect()
}

/// The players, those that have been there longest first.
fn seen(status: &mut Status, door: &Door, reports: &[(ClientId, Report)], most: usize) {
    let mut all: Vec<_> = reports
        .iter()
        .flat_map(|(_, report)| report.players.iter().map(|player| (report.way.as_ref(), player)))
        .collect();
    all.sort_by_key(|(_, player)| std::cmp::Reverse(player.age));
    status.left_out = all.len().saturating_sub(most) as u64;
    all.truncate(most);
    let shown = all.into_iter().map(|(way, player)| PlayerStatus {
        redirect: door.name_of(player.choice.line).to_owned(),
        client: player.player.client.to_string(),
        orig: player.player.orig.to_string(),
        server: player.choice.server.to_string(),
        through: way.map(|way| way.other.clone()),
        age_ms: millis(player.age),
        up: player.carried[0],
        down: player.carried[1],
        waiting: (player.waiting[0] + player.waiting[1]) as u64,
        answers_in_us: player.answers_in.map(micros),
    });
    status.players = shown.collect();
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
