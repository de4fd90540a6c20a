//! What happened to datagrams, counted by reason.

use proto::shim::Malformed;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A reason to count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name of the reason in reports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// Requests that arrived, well formed.
    Requests = "requests",
    /// Requests sent, the first of each flow.
    RequestsSent = "requests_sent",
    /// Requests sent again.
    Retransmissions = "retransmissions",
    /// Answers sent.
    Answers = "answers",
    /// Control datagrams that arrived, well formed.
    Controls = "controls",
    /// ICMP unreachable while asking.
    Unreachable = "unreachable",
    /// No bytes.
    Empty = "dropped_empty",
    /// No name before the first NUL.
    BadName = "dropped_bad_name",
    /// Shorter than it says.
    Truncated = "dropped_truncated",
    /// Contradicts itself.
    BadHeader = "dropped_bad_header",
    /// A field out of bounds, or one that must be understood and is not.
    BadField = "dropped_bad_field",
    /// An answer to another name.
    OtherName = "dropped_other_name",
    /// Longer than any datagram of ours.
    TooLong = "dropped_too_long",
    /// Begins with NUL and is no control datagram.
    NotControl = "dropped_not_control",
    /// Of a session, and not sealed with its key.
    BadSeal = "dropped_bad_seal",
    /// An extended request that is not padded: answers could be longer than it.
    Unpadded = "dropped_unpadded",
    /// Asks for a name that is not registered here.
    NotRegistered = "dropped_not_registered",
    /// A request that is known already.
    Duplicate = "duplicates",
    /// An answer from another host than the one asked.
    Stranger = "dropped_stranger",
    /// Ids or source do not fit.
    Spoofed = "dropped_spoofed",
    /// An answer to something decided already, or one that this version has no use for.
    Late = "dropped_late",
    /// A control datagram for a flow that is not here.
    UnknownFlow = "unknown_flow",
    /// A control datagram this version has no use for.
    UnexpectedControl = "dropped_unexpected_control",
    /// Requests that brought a cookie of ours.
    CookieValid = "cookies_valid",
    /// Requests whose cookie was forged, or baked too long ago.
    CookieStale = "cookies_stale",
    /// Told to ask again with a cookie.
    CookieWanted = "cookies_wanted",
    /// More requests from one prefix than it may send.
    PrefixRate = "dropped_prefix_rate",
    /// More answers to strangers than are given.
    AnswerRate = "dropped_answer_rate",
    /// Classic requests beyond what a loaded shim takes.
    ClassicLoad = "dropped_classic_load",
    /// Refused because as many flows of its prefix wait for programs as may.
    PrefixPending = "refused_prefix_pending",
    /// Flows whose way through middleboxes the client had to open.
    Opens = "opens",
    /// Flows that came from another address than their request, and were followed there.
    Moves = "moves",
    /// What came to a second socket on a flow's port and was no OPEN of the flow.
    Uncaught = "dropped_at_catcher",
    /// Probes of peers' hosts, sent.
    Probes = "probes",
    /// Flows ended because their peer was silent for too long.
    PeersTimedOut = "peers_timed_out",
    /// Datagrams by which a peer's shim was seen to have restarted.
    PeersRestarted = "peers_restarted",
    /// RECOVERING said: this shim restarted a moment ago.
    SaidRecovering = "said_recovering",
    /// On the listen port, from the client of a flow that is over: no request.
    LateSdu = "dropped_late_sdu",
    /// On the listen port, in a flood: what a flow's socket had no room for while it joined.
    LostJoining = "dropped_while_joining",
    /// Acceptances said again because the request came again to the flow's own socket.
    Repeats = "answered_again",
    /// Refused because the program that accepted is of another user.
    OtherUser = "refused_other_user",
    /// Flows that programs brought back after a restart.
    Adopted = "adopted",
    /// Flows not taken back: the ticket was forged, another user's, or of a flow that is here already.
    TicketRefused = "refused_tickets",
    /// Refused because a bound was reached.
    Exhausted = "refused_exhausted",
    /// What was found in a queue when its socket was connected and dropped: of strangers, and answers come twice.
    Drained = "drained",
    /// Probes that were never answered.
    ProbeUnanswered = "probes_unanswered",
    /// Other members that wanted a flow, as the rendezvous said.
    Introductions = "introductions",
    /// Flows through the rendezvous that have their path.
    PathsFound = "paths_found",
    /// Flows through the rendezvous that go through its relay.
    PathsRelayed = "paths_relayed",
    /// Attempts at a direct path for relayed flows.
    PathsSought = "paths_sought_again",
    /// Relayed flows that took one.
    PathsMoved = "paths_moved",
    /// Ports that the router mapped, or whose mapping it renewed.
    PortsMapped = "ports_mapped",
    /// Questions for a port that the router did not answer so.
    PortsNotMapped = "ports_not_mapped",
    /// Flows through the rendezvous that have none.
    PathsNotFound = "paths_not_found",
    /// Hellos that were not sent: too many went to that network, of which only other members say that they are there.
    HellosHeld = "hellos_held",
    /// Searches by many sockets or ports.
    PathsSearched = "paths_searched",
    /// Searches that were not begun: as many as may be were under way, or were a moment ago.
    SearchesHeld = "searches_held",
    /// Deallocs that were never acknowledged.
    DeallocUnheard = "deallocs_unheard",
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Empty => Self::Empty,
            Malformed::Name => Self::BadName,
            Malformed::Truncated => Self::Truncated,
            Malformed::Header => Self::BadHeader,
            Malformed::Field => Self::BadField,
            Malformed::OtherName => Self::OtherName,
            Malformed::TooLong => Self::TooLong,
            Malformed::NotControl => Self::NotControl,
            Malformed::Seal => Self::BadSeal,
        }
    }
}

/// A count for every reason.
#[derive(Clone, Debug)]
pub struct Counters([u64; Reason::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Reason::ALL.len()])
    }
}

impl Counters {
    /// Counts one.
    pub fn count(&mut self, reason: impl Into<Reason>) {
        self.add(reason.into(), 1);
    }

    /// Counts `n`.
    pub fn add(&mut self, reason: Reason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How often a reason was counted.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// All that were counted at least once, by name.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Reason::ALL.iter().map(|&reason| (reason.as_str(), self.get(reason))).filter(|&(_, n)| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_counts_their_own() {
        let mut counters = Counters::default();
        let mut names = std::collections::BTreeSet::new();
        for (n, &reason) in Reason::ALL.iter().enumerate() {
            assert!(names.insert(reason.as_str()), "{reason:?}");
            counters.add(reason, n as u64);
        }
        let got: Vec<_> = counters.nonzero().map(|(_, n)| n).collect();
        assert_eq!(got, (1..Reason::ALL.len() as u64).collect::<Vec<_>>());
    }
}
