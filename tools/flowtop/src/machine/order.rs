//! Columns of the list, and the order of its rows.

use std::cmp::Ordering;

use super::flow::Facts;
use super::flows::{Flows, Tracked};

/// A column of the list, which is also something to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// The flow's id.
    Id,
    /// The name that was allocated to.
    Name,
    /// Raw, message or stream.
    Qos,
    /// Where it stands.
    State,
    /// The layer it goes over.
    Layer,
    /// Who holds it.
    Process,
    /// Who is at the other end.
    Peer,
    /// Bytes per second to the peer.
    Sent,
    /// Bytes per second from the peer.
    Received,
    /// The last seconds, both ways together; to sort by, the rate now.
    Graph,
    /// Round trip time.
    Rtt,
    /// SDUs per second, both ways together.
    Sdus,
    /// Bytes since it was allocated, both ways together.
    Total,
    /// Failed and dropped SDUs.
    Errors,
    /// Since it was asked for.
    Age,
}

/// What a column is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its head.
    pub head: &'static str,
    /// The word for `--sort`.
    pub word: &'static str,
    /// Columns it needs.
    pub least: u16,
    /// Columns it can use.
    pub most: u16,
    /// Which columns go first where there is no room: those with the greatest.
    pub rank: u8,
    /// Numbers lean right.
    pub right: bool,
    /// The greatest comes first.
    pub falls: bool,
}

const fn words(head: &'static str, word: &'static str, least: u16, most: u16, rank: u8) -> Shape {
    Shape { head, word, least, most, rank, right: false, falls: false }
}

const fn number(head: &'static str, word: &'static str, least: u16, rank: u8) -> Shape {
    Shape { head, word, least, most: least, rank, right: true, falls: true }
}

impl Column {
    /// All, in the order they are shown in.
    pub const ALL: [Self; 15] = [
        Self::Id,
        Self::Name,
        Self::Qos,
        Self::State,
        Self::Layer,
        Self::Process,
        Self::Peer,
        Self::Sent,
        Self::Received,
        Self::Graph,
        Self::Rtt,
        Self::Sdus,
        Self::Total,
        Self::Errors,
        Self::Age,
    ];

    /// What it is like.
    pub fn shape(self) -> Shape {
        match self {
            Self::Id => Shape { falls: false, ..number("ID", "id", 5, 1) },
            Self::Name => words("NAME", "name", 12, 24, 0),
            Self::Qos => words("QOS", "qos", 3, 7, 6),
            Self::State => words("S", "state", 1, 1, 5),
            Self::Layer => words("LAYER", "layer", 6, 10, 10),
            Self::Process => words("PROCESS", "process", 14, 24, 4),
            Self::Peer => words("PEER", "peer", 12, 22, 8),
            Self::Sent => number("SENT/s", "sent", 6, 2),
            Self::Received => number("RECV/s", "received", 6, 3),
            Self::Graph => Shape { most: 20, ..number("RATE", "rate", 8, 7) },
            Self::Rtt => number("RTT", "rtt", 6, 9),
            Self::Sdus => number("SDU/s", "sdus", 6, 11),
            Self::Total => number("TOTAL", "total", 6, 12),
            Self::Errors => number("ERR", "errors", 5, 14),
            Self::Age => number("AGE", "age", 5, 13),
        }
    }

    /// By the word for `--sort`.
    pub fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.shape().word == word)
    }
}

/// The columns that fit into a width, with their widths. One blank is between two.
pub fn fit(width: u16) -> Vec<(Column, u16)> {
    let mut ranked = Column::ALL;
    ranked.sort_by_key(|column| column.shape().rank);
    let mut left = width;
    let mut chosen = Vec::new();
    for column in ranked {
        let needs = column.shape().least + u16::from(!chosen.is_empty());
        if needs > left {
            break;
        }
        left -= needs;
        chosen.push(column);
    }
    let mut columns: Vec<(Column, u16)> =
        Column::ALL.into_iter().filter(|c| chosen.contains(c)).map(|c| (c, c.shape().least)).collect();
    // What is left goes a column at a time to each that can use it, so that they grow together.
    while left > 0 {
        let before = left;
        for (column, wide) in &mut columns {
            if left > 0 && *wide < column.shape().most {
                *wide += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    columns
}

/// The order of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// What they are compared by.
    pub by: Column,
    /// The other way round than the column's own.
    pub reversed: bool,
}

/// Places in [`Flows::all`] of the flows that the filter takes, in order. Every word of the filter must be in what is
/// known of a flow.
pub fn places(flows: &Flows, filter: &str, sort: Sort) -> Vec<usize> {
    let filter = filter.to_lowercase();
    let words: Vec<&str> = filter.split_whitespace().collect();
    let takes = |flow: &Tracked| {
        words.is_empty()
            || flow.facts.as_ref().is_some_and(|facts| words.iter().all(|word| facts.searched.contains(word)))
    };
    let all = flows.all();
    let mut places: Vec<usize> = (0..all.len()).filter(|at| takes(&all[*at])).collect();
    let falls = sort.by.shape().falls != sort.reversed;
    places.sort_unstable_by(|a, b| {
        let (a, b) = (&all[*a], &all[*b]);
        let by = compare(sort.by, a, b);
        let by = if falls { by.reverse() } else { by };
        by.then(a.counts.id.cmp(&b.counts.id))
    });
    places
}

fn compare(by: Column, a: &Tracked, b: &Tracked) -> Ordering {
    let facts = |compare: fn(&Facts, &Facts) -> Ordering| match (&a.facts, &b.facts) {
        (Some(a), Some(b)) => compare(a, b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    };
    match by {
        Column::Id => a.counts.id.cmp(&b.counts.id),
        Column::Name => facts(|a, b| a.name.cmp(&b.name)),
        Column::Qos => facts(|a, b| (a.cube as u8).cmp(&(b.cube as u8))),
        Column::State => a.counts.state.cmp(&b.counts.state),
        Column::Layer => facts(|a, b| a.layer.cmp(&b.layer)),
        Column::Process => facts(|a, b| a.holder.cmp(&b.holder)),
        Column::Peer => facts(|a, b| (&a.peer_address, &a.peer_holder).cmp(&(&b.peer_address, &b.peer_holder))),
        Column::Sent => a.rates.sent_bytes.total_cmp(&b.rates.sent_bytes),
        Column::Received => a.rates.received_bytes.total_cmp(&b.rates.received_bytes),
        Column::Graph => a.rates.bytes().total_cmp(&b.rates.bytes()),
        Column::Rtt => a.counts.rtt_us.cmp(&b.counts.rtt_us),
        Column::Sdus => {
            (a.rates.sent_sdus + a.rates.received_sdus).total_cmp(&(b.rates.sent_sdus + b.rates.received_sdus))
        }
        Column::Total => total(a).cmp(&total(b)),
        Column::Errors => a.counts.errors.cmp(&b.counts.errors),
        // Ids count up: the greatest is the youngest.
        Column::Age => b.counts.id.cmp(&a.counts.id),
    }
}

/// Bytes both ways.
pub fn total(flow: &Tracked) -> u64 {
    flow.counts.sent_bytes.saturating_add(flow.counts.received_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proto::FlowId;

    use super::super::flow::{Counts, Holder};
    use super::*;

    #[test]
    fn columns_fit_from_the_narrowest_window_to_the_widest() {
        for width in 0..400 {
            let columns = fit(width);
            let used: u16 = columns.iter().map(|(_, wide)| wide + 1).sum::<u16>().saturating_sub(1);
            assert!(used <= width, "{width}: {used}");
        }
        let heads = |width| fit(width).iter().map(|(column, _)| column.shape().head).collect::<Vec<_>>().join(" ");
        assert_eq!(heads(40), "ID NAME SENT/s RECV/s");
        assert_eq!(heads(80), "ID NAME QOS S PROCESS PEER SENT/s RECV/s RATE");
        assert_eq!(heads(120), "ID NAME QOS S LAYER PROCESS PEER SENT/s RECV/s RATE RTT SDU/s TOTAL ERR AGE");
        assert_eq!(fit(300).len(), Column::ALL.len());
    }

    fn flows() -> Flows {
        let begin = Instant::now();
        let mut flows = Flows::default();
        let counts = |id, sent_bytes| Counts { id: FlowId(id), sent_bytes, ..Counts::default() };
        flows.read(begin, &[counts(1, 0), counts(2, 0), counts(3, 0)]);
        flows.read(begin + Duration::from_secs(1), &[counts(1, 50), counts(2, 900), counts(3, 50)]);
        for (id, name, command) in [(1, "game.q2", "quake"), (2, "backup", "tar"), (3, "Game.chat", "irc")] {
            let holder = Holder { command: command.into(), pid: 40 + id as u32 };
            flows.learn(Facts { name: name.into(), holder, ..Facts::unknown(FlowId(id), begin) }.finished());
        }
        flows
    }

    fn ids(filter: &str, by: Column, reversed: bool) -> Vec<u64> {
        let flows = flows();
        places(&flows, filter, Sort { by, reversed }).into_iter().map(|at| flows.all()[at].counts.id.0).collect()
    }

    #[test]
    fn rows_are_sorted_and_ties_keep_the_order_of_ids() {
        assert_eq!(ids("", Column::Id, false), [1, 2, 3]);
        assert_eq!(ids("", Column::Id, true), [3, 2, 1]);
        assert_eq!(ids("", Column::Graph, false), [2, 1, 3]);
        assert_eq!(ids("", Column::Sent, true), [1, 3, 2]);
        assert_eq!(ids("", Column::Name, false), [3, 2, 1]);
        assert_eq!(ids("", Column::Process, false), [3, 1, 2]);
        assert_eq!(ids("", Column::Age, false), [1, 2, 3]);
        for column in Column::ALL {
            assert_eq!(ids("", column, false).len(), 3);
            assert_eq!(Column::by_word(column.shape().word), Some(column));
        }
    }

    #[test]
    fn every_word_of_the_filter_must_be_there() {
        assert_eq!(ids("GAME", Column::Id, false), [1, 3]);
        assert_eq!(ids("game irc", Column::Id, false), [3]);
        assert_eq!(ids("  (42)", Column::Id, false), [2]);
        assert_eq!(ids("nothing", Column::Id, false), [0; 0]);
    }
}
