//! The states of a flow and the table of its transitions; their data is in [`super::flow`].

/// A state without its data; `Ended` is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "see Stage")]
pub enum Kind {
    Asking,
    Abandoned,
    Waiting,
    Offered,
    Opening,
    Allocated,
    Ended,
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The IPCP does not reach the name; the next is asked.
    NextIpcp,
    /// No IPCP reaches the name, which exists here: it waits for an accept.
    Queued,
    /// The IPCP's peer accepted.
    Reached,
    /// It cannot be had.
    Failed,
    /// The asking program's call was cancelled.
    CallerGone,
    /// The IPCP that asks for it is gone.
    IpcpGone,
    /// Nobody answered in time.
    Deadline,
    /// A program takes it and will decide.
    Asked,
    /// A program takes it; the socket pair is made.
    Paired,
    /// Both sides have it.
    Accepted,
    /// The program that was to decide said no, or is gone.
    Refused,
    /// A side is done with it, or an administrator ended it.
    Over,
}

/// Every transition there is.
pub const TABLE: &[(Kind, Event, Kind)] = &[
    (Kind::Asking, Event::NextIpcp, Kind::Asking),
    (Kind::Asking, Event::Queued, Kind::Waiting),
    (Kind::Asking, Event::Reached, Kind::Allocated),
    (Kind::Asking, Event::Failed, Kind::Ended),
    (Kind::Asking, Event::CallerGone, Kind::Abandoned),
    (Kind::Asking, Event::Deadline, Kind::Abandoned),
    (Kind::Abandoned, Event::Reached, Kind::Ended),
    (Kind::Abandoned, Event::Failed, Kind::Ended),
    (Kind::Abandoned, Event::IpcpGone, Kind::Ended),
    (Kind::Waiting, Event::Asked, Kind::Offered),
    (Kind::Waiting, Event::Paired, Kind::Opening),
    (Kind::Waiting, Event::Accepted, Kind::Allocated),
    (Kind::Waiting, Event::Failed, Kind::Ended),
    (Kind::Waiting, Event::CallerGone, Kind::Ended),
    (Kind::Waiting, Event::Deadline, Kind::Ended),
    (Kind::Offered, Event::Paired, Kind::Opening),
    (Kind::Offered, Event::Accepted, Kind::Allocated),
    (Kind::Offered, Event::Refused, Kind::Ended),
    (Kind::Offered, Event::CallerGone, Kind::Ended),
    (Kind::Offered, Event::Deadline, Kind::Ended),
    (Kind::Opening, Event::Accepted, Kind::Allocated),
    (Kind::Opening, Event::Failed, Kind::Ended),
    (Kind::Opening, Event::CallerGone, Kind::Ended),
    (Kind::Allocated, Event::Over, Kind::Ended),
];

/// Whether the table has the transition.
pub fn allowed(from: Kind, event: Event, to: Kind) -> bool {
    TABLE.contains(&(from, event, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as text: change it on purpose.
    const SNAPSHOT: &str = include_str!("transitions.txt");

    #[test]
    fn the_table_of_transitions_is_the_one_written_down() {
        let text: String = TABLE.iter().map(|(from, event, to)| format!("{from:?} --{event:?}--> {to:?}\n")).collect();
        assert_eq!(text, SNAPSHOT);
        let page = include_str!("../../../docs/irmd.md");
        let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
        assert!(page.contains(&indented), "docs/irmd.md shows another table:\n{indented}");
    }

    #[test]
    fn every_state_can_be_entered_and_left_and_none_has_two_ways_for_one_event() {
        use Kind::*;
        for kind in [Asking, Abandoned, Waiting, Offered, Opening, Allocated] {
            assert!(TABLE.iter().any(|(from, ..)| *from == kind), "{kind:?} is never left");
        }
        for kind in [Abandoned, Waiting, Offered, Opening, Allocated, Ended] {
            assert!(TABLE.iter().any(|(.., to)| *to == kind), "{kind:?} is never entered");
        }
        for (index, (from, event, _)) in TABLE.iter().enumerate() {
            assert!(!TABLE[..index].iter().any(|(f, e, _)| (f, e) == (from, event)), "{from:?} {event:?} twice");
        }
    }
}
