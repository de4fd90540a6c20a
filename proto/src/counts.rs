//! Pages of counts: columns of which the n-th entries belong together.

use crate::v1::{Counters, FlowCountsReply, FlowState, PathInfo};

impl Counters {
    /// Adds what was counted between two readings. A count that fell adds nothing.
    pub fn grow(&mut self, before: Self, now: Self) {
        let Self { sdus_sent, bytes_sent, sdus_received, bytes_received, send_errors, receive_errors } = self;
        for (sum, now, before) in [
            (sdus_sent, now.sdus_sent, before.sdus_sent),
            (bytes_sent, now.bytes_sent, before.bytes_sent),
            (sdus_received, now.sdus_received, before.sdus_received),
            (bytes_received, now.bytes_received, before.bytes_received),
            (send_errors, now.send_errors, before.send_errors),
            (receive_errors, now.receive_errors, before.receive_errors),
        ] {
            *sum = sum.saturating_add(now.saturating_sub(before));
        }
    }
}

/// One flow's entries of all columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The flow.
    pub flow_id: u64,
    /// How it stands.
    pub state: FlowState,
    /// SDUs sent.
    pub sdus_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// SDUs received.
    pub sdus_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Sends and receives that failed.
    pub errors: u64,
    /// Since something moved, ms.
    pub idle_ms: u64,
    /// Smoothed round trip time, µs; 0: not known.
    pub rtt_us: u32,
    /// Packets that QUIC took for lost.
    pub lost_packets: u64,
    /// Bytes that QUIC may have under way; 0: not known.
    pub congestion_window: u64,
}

impl FlowCountsReply {
    /// One more row.
    pub fn push(
        &mut self,
        flow_id: u64,
        state: FlowState,
        counters: Option<Counters>,
        idle_ms: u64,
        path: Option<PathInfo>,
    ) {
        let (counted, path) = (counters.unwrap_or_default(), path.unwrap_or_default());
        self.flow_id.push(flow_id);
        self.state.push(state.into());
        self.sdus_sent.push(counted.sdus_sent);
        self.bytes_sent.push(counted.bytes_sent);
        self.sdus_received.push(counted.sdus_received);
        self.bytes_received.push(counted.bytes_received);
        // What a program claims may be anything.
        self.errors.push(counted.send_errors.saturating_add(counted.receive_errors));
        self.idle_ms.push(idle_ms);
        self.rtt_us.push(u32::try_from(path.rtt_us).unwrap_or(u32::MAX));
        self.lost_packets.push(path.lost_packets);
        self.congestion_window.push(path.congestion_window);
    }

    /// The rows. A column that a daemon of another version leaves out reads as zeros.
    pub fn rows(&self) -> impl Iterator<Item = Count> + '_ {
        let at = |column: &[u64], i: usize| column.get(i).copied().unwrap_or(0);
        self.flow_id.iter().enumerate().map(move |(i, flow_id)| Count {
            flow_id: *flow_id,
            state: self.state.get(i).and_then(|state| FlowState::try_from(*state).ok()).unwrap_or_default(),
            sdus_sent: at(&self.sdus_sent, i),
            bytes_sent: at(&self.bytes_sent, i),
            sdus_received: at(&self.sdus_received, i),
            bytes_received: at(&self.bytes_received, i),
            errors: at(&self.errors, i),
            idle_ms: at(&self.idle_ms, i),
            rtt_us: self.rtt_us.get(i).copied().unwrap_or(0),
            lost_packets: at(&self.lost_packets, i),
            congestion_window: at(&self.congestion_window, i),
        })
    }

    /// Keeps the rows of these flows.
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        let kept: Vec<bool> = self.flow_id.iter().map(|id| keep(*id)).collect();
        fn thin<T>(column: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            column.retain(|_| kept.next().copied().unwrap_or(false));
        }
        for column in [
            &mut self.flow_id,
            &mut self.sdus_sent,
            &mut self.bytes_sent,
            &mut self.sdus_received,
            &mut self.bytes_received,
            &mut self.errors,
            &mut self.idle_ms,
            &mut self.lost_packets,
            &mut self.congestion_window,
        ] {
            thin(column, &kept);
        }
        thin(&mut self.rtt_us, &kept);
        thin(&mut self.state, &kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_pushed() {
        let mut page = FlowCountsReply::default();
        let counters = |n| Counters {
            sdus_sent: n,
            bytes_received: 2 * n,
            send_errors: u64::MAX,
            receive_errors: 1,
            ..Default::default()
        };
        for id in 1..=4 {
            let path = (id % 2 == 0).then(|| PathInfo { rtt_us: 1 << 40, lost_packets: id, ..Default::default() });
            page.push(id, FlowState::Allocated, Some(counters(id)), 10 * id, path);
        }
        page.push(5, FlowState::Pending, None, 7, None);
        page.retain(|id| id != 3);
        let rows: Vec<Count> = page.rows().collect();
        assert_eq!(rows.iter().map(|row| row.flow_id).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!((rows[1].sdus_sent, rows[1].bytes_received, rows[1].errors), (2, 4, u64::MAX));
        assert_eq!((rows[2].rtt_us, rows[2].lost_packets, rows[2].idle_ms), (u32::MAX, 4, 40));
        assert_eq!((rows[3].state, rows[3].idle_ms), (FlowState::Pending, 7));
        page.idle_ms.truncate(1);
        assert_eq!(page.rows().last().map(|row| row.idle_ms), Some(0));
    }
}
