//! Columns of the list, and the order of its rows.

use proto::FlowId;

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
    let taken = (0..all.len()).filter(|at| takes(&all[*at]));
    let falls = sort.by.shape().falls != sort.reversed;
    match sort.by {
        Column::Id => sorted(all, taken, falls, |flow| flow.counts.id),
        Column::Name => sorted(all, taken, falls, |flow| facts(flow, |facts| text(&facts.name))),
        Column::Qos => sorted(all, taken, falls, |flow| facts(flow, |facts| facts.cube.code())),
        Column::State => sorted(all, taken, falls, |flow| flow.counts.state),
        Column::Layer => sorted(all, taken, falls, |flow| facts(flow, |facts| text(&facts.layer))),
        Column::Process => {
            sorted(all, taken, falls, |flow| facts(flow, |facts| (text(&facts.holder.command), facts.holder.pid)))
        }
        Column::Peer => sorted(all, taken, falls, |flow| {
            facts(flow, |facts| (text(&facts.peer_address), text(&facts.peer_holder.command)))
        }),
        Column::Sent => sorted(all, taken, falls, |flow| rate(flow.rates.sent_bytes)),
        Column::Received => sorted(all, taken, falls, |flow| rate(flow.rates.received_bytes)),
        Column::Graph => sorted(all, taken, falls, |flow| rate(flow.rates.bytes())),
        Column::Rtt => sorted(all, taken, falls, |flow| flow.counts.rtt_us),
        Column::Sdus => sorted(all, taken, falls, |flow| rate(flow.rates.sent_sdus + flow.rates.received_sdus)),
        Column::Total => sorted(all, taken, falls, total),
        Column::Errors => sorted(all, taken, falls, |flow| flow.counts.errors),
        // Ids count up: the greatest is the youngest.
        Column::Age => sorted(all, taken, falls, |flow| std::cmp::Reverse(flow.counts.id)),
    }
}

/// Keys are taken out first: comparing is then a walk over memory that lies together, which with 10,000 flows is half the time.
fn sorted<'a, K: Ord>(
    all: &'a [Tracked],
    taken: impl Iterator<Item = usize>,
    falls: bool,
    key: impl Fn(&'a Tracked) -> K,
) -> Vec<usize> {
    let mut keyed: Vec<(K, FlowId, usize)> = taken.map(|at| (key(&all[at]), all[at].counts.id, at)).collect();
    keyed.sort_unstable_by(|a, b| {
        let by = if falls { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) };
        by.then(a.1.cmp(&b.1))
    });
    keyed.into_iter().map(|(.., at)| at).collect()
}

/// Those of which nothing is known come last.
fn facts<'a, K>(flow: &'a Tracked, key: impl FnOnce(&'a Facts) -> K) -> (bool, Option<K>) {
    let known = flow.facts.as_deref();
    (known.is_none(), known.map(key))
}

/// The beginning of a text as a number decides most comparisons.
fn text(text: &str) -> (u64, &str) {
    let mut first = [0; 8];
    let length = text.len().min(8);
    first[..length].copy_from_slice(&text.as_bytes()[..length]);
    (u64::from_be_bytes(first), text)
}

/// Rates are never negative, and of such the bits are in the order of the values.
fn rate(value: f32) -> u32 {
    value.max(0.0).to_bits()
}

/// Bytes both ways.
pub fn total(flow: &Tracked) -> u64 {
    flow.counts.sent_bytes.saturating_add(flow.counts.received_bytes)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests {
    use std::time::{Duration, Instant};

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
