//! A flow, as flowtop knows it.

use std::time::Instant;

use proto::{Cube, FlowId};

use super::text::{cut, printable};

/// Where a flow stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Asked for.
    Pending,
    /// Programs hold it.
    #[default]
    Allocated,
    /// Is being given back.
    Ending,
    /// Was.
    Ended,
}

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Allocated => "allocated",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }

    /// For a column of one character.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Pending => "P",
            Self::Allocated => "A",
            Self::Ending => "E",
            Self::Ended => "x",
        }
    }
}

/// A process of this host that holds an end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its command; empty where it is not known.
    pub command: String,
    /// 0: there is none.
    pub pid: u32,
}

impl Holder {
    /// `operf (4711)` in at most `width` columns; the pid goes last.
    pub fn fit(&self, width: usize) -> String {
        if self.pid == 0 {
            return "-".to_owned();
        }
        if self.command.is_empty() {
            return cut(&self.pid.to_string(), width);
        }
        let pid = format!(" ({})", self.pid);
        let left = width.saturating_sub(pid.len());
        if left < 3 { cut(&self.command, width) } else { format!("{}{pid}", cut(&self.command, left)) }
    }
}

/// What is known of a flow beside its counters.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Unique on the host.
    pub id: FlowId,
    /// The name that was allocated to.
    pub name: String,
    /// Who asked.
    pub source_name: String,
    /// `local` within the host.
    pub layer: String,
    /// Empty within the host.
    pub ipcp: String,
    /// Its kind.
    pub cube: Cube,
    /// Milliseconds after which a silent peer is gone; 0: the default.
    pub timeout_ms: u32,
    /// Where it stood when asked.
    pub state: State,
    /// This host's program accepted it; else it asked for it.
    pub accepting: bool,
    /// Who holds this end.
    pub holder: Holder,
    /// Within the host: who holds the other.
    pub peer_holder: Holder,
    /// Empty within the host.
    pub local_address: String,
    /// Empty within the host.
    pub peer_address: String,
    /// The peer is a shim of 2016.
    pub classic: bool,
    /// Nobody on the way can read it.
    pub encrypted: bool,
    /// Fingerprint of the peer's host; empty: not shown.
    pub identity: String,
    /// The name that the peer's host vouches for.
    pub certified: String,
    /// Why that is believed.
    pub trusted_by: String,
    /// Milliseconds since it was asked for, at `asked`.
    pub age_ms: u64,
    /// When this was asked.
    pub asked: Instant,
    /// Longest SDU in bytes.
    pub sdu_limit: u32,
    /// Lower case: all that the filter looks at.
    pub searched: String,
}

impl Facts {
    /// A flow of which nothing but its id is known.
    pub fn unknown(id: FlowId, asked: Instant) -> Self {
        Self {
            id,
            name: String::new(),
            source_name: String::new(),
            layer: String::new(),
            ipcp: String::new(),
            cube: Cube::Raw,
            timeout_ms: 0,
            state: State::default(),
            accepting: false,
            holder: Holder::default(),
            peer_holder: Holder::default(),
            local_address: String::new(),
            peer_address: String::new(),
            classic: false,
            encrypted: false,
            identity: String::new(),
            certified: String::new(),
            trusted_by: String::new(),
            age_ms: 0,
            asked,
            sdu_limit: 0,
            searched: String::new(),
        }
    }

    /// Makes its texts safe on a terminal, and what the filter looks at.
    #[must_use]
    pub fn finished(mut self) -> Self {
        for text in [
            &mut self.name,
            &mut self.source_name,
            &mut self.layer,
            &mut self.ipcp,
            &mut self.holder.command,
            &mut self.peer_holder.command,
            &mut self.local_address,
            &mut self.peer_address,
            &mut self.identity,
            &mut self.certified,
            &mut self.trusted_by,
        ] {
            *text = printable(text);
        }
        self.searched = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}",
            self.id,
            self.name,
            self.source_name,
            self.layer,
            self.cube.as_str(),
            self.state.word(),
            self.holder.fit(usize::MAX),
            self.peer_holder.fit(usize::MAX),
            self.local_address,
            self.peer_address
        )
        .to_lowercase();
        self
    }

    /// Whether it stays within the host.
    pub fn is_local(&self) -> bool {
        self.ipcp.is_empty()
    }

    /// Milliseconds since it was asked for.
    pub fn age_ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.asked).as_millis();
        self.age_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// Who is at the other end, in at most `width` columns: where an address does not fit, its port goes first.
    pub fn peer(&self, width: usize) -> String {
        if self.peer_address.is_empty() {
            return self.peer_holder.fit(width);
        }
        let whole = &self.peer_address;
        if whole.chars().count() <= width {
            return whole.clone();
        }
        let host = whole.rsplit_once(':').map_or(whole.as_str(), |(host, _)| host);
        cut(host.trim_start_matches('[').trim_end_matches(']'), width)
    }

    /// What protects it, and who the peer is.
    pub fn protection(&self) -> String {
        match (self.is_local(), self.encrypted, self.identity.is_empty()) {
            (true, _, _) => "within this host".to_owned(),
            (false, false, _) => "plaintext".to_owned(),
            (false, true, true) => "encrypted; the peer has not shown who it is".to_owned(),
            (false, true, false) => {
                let name = if self.certified.is_empty() { String::new() } else { format!(" as {}", self.certified) };
                let by = if self.trusted_by.is_empty() { String::new() } else { format!(" (by {})", self.trusted_by) };
                format!("encrypted, {}{name}{by}", self.identity)
            }
        }
    }
}

/// What a flow has carried, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whose.
    pub id: FlowId,
    /// Where it stands.
    pub state: State,
    /// SDUs to the peer.
    pub sent_sdus: u64,
    /// Bytes to the peer.
    pub sent_bytes: u64,
    /// SDUs from the peer.
    pub received_sdus: u64,
    /// Bytes from the peer.
    pub received_bytes: u64,
    /// Sends and receives that failed, and SDUs that were dropped.
    pub errors: u64,
    /// Microseconds; 0: not known.
    pub rtt_us: u32,
}

/// What one flow's pane shows beside what moves.
#[derive(Clone, Debug)]
pub struct Detail {
    /// What is known of the flow.
    pub facts: Facts,
    /// Further things and their values, in words.
    pub pairs: Vec<(&'static str, String)>,
    /// What happened to it, the oldest first.
    pub history: Vec<Step>,
    /// Why it is over; None: it is not.
    pub ended: Option<String>,
}

/// Something that happened to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds before it was told.
    pub ago_ms: u64,
    /// What.
    pub what: String,
    /// Why, or more about it; may be empty.
    pub why: String,
}

/// What moved between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// SDUs per second to the peer.
    pub sent_sdus: f32,
    /// Bytes per second to the peer.
    pub sent_bytes: f32,
    /// SDUs per second from the peer.
    pub received_sdus: f32,
    /// Bytes per second from the peer.
    pub received_bytes: f32,
}

impl Rates {
    /// Between two readings that are so many seconds apart. Counters that went back begin anew.
    pub fn between(before: &Counts, after: &Counts, seconds: f32) -> Self {
        let per = |before: u64, after: u64| after.saturating_sub(before) as f32 / seconds;
        Self {
            sent_sdus: per(before.sent_sdus, after.sent_sdus),
            sent_bytes: per(before.sent_bytes, after.sent_bytes),
            received_sdus: per(before.received_sdus, after.received_sdus),
            received_bytes: per(before.received_bytes, after.received_bytes),
        }
    }

    /// Both ways together.
    pub fn bytes(&self) -> f32 {
        self.sent_bytes + self.received_bytes
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests {
    use super::*;

    #[test]
    fn holders_keep_their_pid() {
        let holder = Holder { command: "operf".into(), pid: 4711 };
        assert_eq!(holder.fit(20), "operf (4711)");
        assert_eq!(holder.fit(10), "op… (4711)");
        assert_eq!(holder.fit(5), "operf");
        assert_eq!(Holder { pid: 7, ..Holder::default() }.fit(9), "7");
        assert_eq!(Holder::default().fit(9), "-");
    }

    #[test]
    fn an_address_loses_its_port_first() {
        let mut facts = Facts::unknown(FlowId(1), Instant::now());
        facts.peer_address = "10.0.0.2:40123".into();
        assert_eq!((facts.peer(14).as_str(), facts.peer(13).as_str()), ("10.0.0.2:40123", "10.0.0.2"));
        facts.peer_address = "[fd00::2]:40123".into();
        assert_eq!((facts.peer(9).as_str(), facts.peer(4).as_str()), ("fd00::2", "fd0…"));
    }

    #[test]
    fn rates_between_readings() {
        let before = Counts { sent_bytes: 1_000, sent_sdus: 10, received_bytes: 500, ..Counts::default() };
        let after = Counts { sent_bytes: 3_000, sent_sdus: 11, received_bytes: 100, ..before };
        let rates = Rates::between(&before, &after, 2.0);
        assert_eq!((rates.sent_bytes, rates.sent_sdus, rates.received_bytes), (1_000.0, 0.5, 0.0));
    }
}
