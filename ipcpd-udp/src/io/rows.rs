//! What listings are told of this IPCP's flows: the machine's rows, with what programs count and the kernel says.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use handoff::server as hand;
use proto::{Cube, v1};

use super::command::{Counts, Page};
use super::driver::Driver;
use crate::machine::{Key, Row};

/// Rows of a listing taken at once.
const PAGE: usize = 256;
/// Rows of counts taken at once: some 50 ns each.
const COUNTS: usize = 1_024;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Since something moved on the flow, ms.
fn idle(figures: &hand::Figures, age: u64) -> u64 {
    figures.idle_ms().unwrap_or(age).min(age)
}

impl Driver {
    pub(super) fn page(&self, now: Instant, after: Key) -> Page {
        let rows = self.shim.rows(now, after, PAGE);
        let next = if rows.len() == PAGE { rows.last().map(|row| row.key) } else { None };
        Page { rows: rows.into_iter().map(|row| self.info(row)).collect(), next }
    }

    pub(super) fn info(&self, row: Row) -> v1::FlowInfo {
        let process = match row.flow.and_then(|flow| self.tools.hand.holder(flow)) {
            Some(hand::Process { pid, uid, gid }) => v1::Process { pid, uid, gid, ..Default::default() },
            None => v1::Process { pid: row.owner.pid, uid: row.owner.uid, gid: row.owner.gid, ..Default::default() },
        };
        let known = process.pid != 0;
        let age_ms = millis(row.age);
        let figures = row.flow.and_then(|flow| self.tools.hand.figures(flow));
        v1::FlowInfo {
            flow_id: row.flow.unwrap_or_default().0,
            layer: self.shim.settings().layer.clone(),
            ipcp: self.tools.ipcp.clone(),
            qos: Some(row.qos.into()),
            state: row.state.into(),
            accepting: row.accepting,
            process: known.then(|| v1::Process { command: row.owner.command.to_string(), ..process }),
            local_address: row.local.map(|local| local.to_string()).unwrap_or_default(),
            peer_address: row.peer.to_string(),
            classic: row.classic,
            age_ms,
            sdu_limit: row.sdu_limit,
            encrypted: row.qos.cube != Cube::Raw,
            sent_ms_ago: figures.as_ref().and_then(|figures| figures.sent_ms_ago),
            received_ms_ago: figures.as_ref().and_then(|figures| figures.received_ms_ago),
            idle_ms: figures.as_ref().map(|figures| idle(figures, age_ms)),
            socket: self.sockets.get(&row.key).and_then(|socket| handoff::look(socket.as_fd())),
            path: self.path(&row),
            asked: row.asked,
            way: row.way.to_owned(),
            counters: figures.map(|figures| figures.counters),
            name: row.name.to_string(),
            source_name: row.source,
            // irmd knows whom it judged.
            ..v1::FlowInfo::default()
        }
    }

    /// One row in full: with what happened here and irmd does not hear of.
    pub(super) fn shown(&self, row: Row) -> v1::FlowInfo {
        let kind = v1::EventKind::HandedOver;
        let taken = row.taken.map(|ago| v1::FlowStep {
            kind: kind.into(),
            ms_ago: millis(ago),
            what: kind.word().replace('_', " "),
            why: String::new(),
        });
        let [wire_id, peer_wire_id] = row.ids.map(|id| id.0);
        v1::FlowInfo { history: taken.into_iter().collect(), wire_id, peer_wire_id, ..self.info(row) }
    }

    /// What QUIC sees of the way to the peer. Raw flows are not looked at: that would take memory for each.
    fn path(&self, row: &Row) -> Option<v1::PathInfo> {
        let flow = row.flow.filter(|_| row.qos.cube != Cube::Raw)?;
        self.tools.hand.path(flow, millis(row.age))
    }

    /// The counts of some flows, in columns.
    pub(super) fn counts(&self, now: Instant, after: Key) -> Counts {
        let rows = self.shim.rows(now, after, COUNTS);
        let next = if rows.len() == COUNTS { rows.last().map(|row| row.key) } else { None };
        let mut page = v1::FlowCountsReply { read_us: handoff::monotonic_us(), ..Default::default() };
        for row in rows {
            let Some(flow) = row.flow else { continue };
            let age = millis(row.age);
            let figures = self.tools.hand.figures(flow);
            let idle = figures.as_ref().map_or(age, |figures| idle(figures, age));
            page.push(flow.0, row.state, figures.map(|figures| figures.counters), idle, self.path(&row));
        }
        Counts { page, next }
    }
}
