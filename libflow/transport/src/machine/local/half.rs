//! One direction of a stream, at each of its ends.

use crate::error::Reason;

/// The writing end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Open,
    /// FIN is to be said.
    Finishing,
    /// FIN has been said: all lies in the other end's kernel buffer.
    Finished,
    Reset,
    /// The reader wants no more.
    Stopped(Reason),
    /// The other program had no descriptor for the stream.
    Refused,
}

/// What happens to a writing end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendEvent {
    Finish,
    Reset(Reason),
    /// FIN went out.
    FinSaid,
    StopHeard(Reason),
    Refused,
}

/// The last word of a writing end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWord {
    Fin,
    Reset(Reason),
}

/// The reading end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    Open,
    /// FIN came: the bytes are complete.
    Finished,
    Reset(Reason),
    /// STOP is said, the writer's last word has not come.
    Stopped,
    /// STOP was said and answered.
    Done,
    /// The other program had no descriptor for the stream.
    Refused,
}

/// What happens to a reading end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvEvent {
    FinHeard,
    ResetHeard(Reason),
    Stop,
    Refused,
}

impl Sending {
    /// The next state, and what the writer now says.
    pub(crate) fn on(self, event: SendEvent) -> (Self, Option<LastWord>) {
        match (self, event) {
            (Self::Open, SendEvent::Finish) => (Self::Finishing, Some(LastWord::Fin)),
            (Self::Open, SendEvent::Reset(reason)) => (Self::Reset, Some(LastWord::Reset(reason))),
            // STOP is answered at once: the reader can forget the stream, whatever this program does with its half.
            (Self::Open, SendEvent::StopHeard(reason)) => (Self::Stopped(reason), Some(LastWord::Reset(reason))),
            (Self::Open, SendEvent::Refused) => (Self::Refused, None),
            (Self::Finishing, SendEvent::FinSaid) => (Self::Finished, None),
            (Self::Finishing, SendEvent::StopHeard(reason)) => (Self::Stopped(reason), None),
            (state, _) => (state, None),
        }
    }

    /// The last word is said, or will be without the program's doing.
    pub(crate) fn is_over(self) -> bool {
        self != Self::Open
    }
}

impl Receiving {
    /// The next state; `None`: the writer said what it cannot say now.
    pub(crate) fn on(self, event: RecvEvent) -> Option<Self> {
        Some(match (self, event) {
            (Self::Open, RecvEvent::FinHeard) => Self::Finished,
            (Self::Open, RecvEvent::ResetHeard(reason)) => Self::Reset(reason),
            (Self::Open, RecvEvent::Stop) => Self::Stopped,
            (Self::Open, RecvEvent::Refused) => Self::Refused,
            (Self::Stopped, RecvEvent::FinHeard | RecvEvent::ResetHeard(_) | RecvEvent::Refused) => Self::Done,
            (state, RecvEvent::Stop | RecvEvent::Refused) => state,
            (_, RecvEvent::FinHeard | RecvEvent::ResetHeard(_)) => return None,
        })
    }

    /// The writer's last word has come.
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Open | Self::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Reason = Reason(7);
    const NEW: Reason = Reason(8);

    #[test]
    fn the_writer_s_table() {
        use SendEvent as E;
        use Sending as S;
        let events = [E::Finish, E::Reset(NEW), E::FinSaid, E::StopHeard(NEW), E::Refused];
        let fin = Some(LastWord::Fin);
        let reset = Some(LastWord::Reset(NEW));
        let open =
            [(S::Finishing, fin), (S::Reset, reset), (S::Open, None), (S::Stopped(NEW), reset), (S::Refused, None)];
        let finishing = [S::Finishing, S::Finishing, S::Finished, S::Stopped(NEW), S::Finishing].map(|it| (it, None));
        let rows = [(S::Open, open), (S::Finishing, finishing)];
        let stay = [S::Finished, S::Reset, S::Stopped(R), S::Refused].map(|state| (state, [(state, None); 5]));
        for (from, row) in rows.into_iter().chain(stay) {
            for (event, to) in events.into_iter().zip(row) {
                assert_eq!(from.on(event), to, "{from:?} on {event:?}");
                assert!(!from.is_over() || to.1.is_none(), "{from:?} says a second last word on {event:?}");
            }
        }
    }

    #[test]
    fn the_reader_s_table() {
        use Receiving as S;
        use RecvEvent as E;
        let events = [E::FinHeard, E::ResetHeard(NEW), E::Stop, E::Refused];
        let rows = [
            (S::Open, [Some(S::Finished), Some(S::Reset(NEW)), Some(S::Stopped), Some(S::Refused)]),
            (S::Finished, [None, None, Some(S::Finished), Some(S::Finished)]),
            (S::Reset(R), [None, None, Some(S::Reset(R)), Some(S::Reset(R))]),
            (S::Stopped, [Some(S::Done), Some(S::Done), Some(S::Stopped), Some(S::Done)]),
            (S::Done, [None, None, Some(S::Done), Some(S::Done)]),
            (S::Refused, [None, None, Some(S::Refused), Some(S::Refused)]),
        ];
        for (from, row) in rows {
            for (event, to) in events.into_iter().zip(row) {
                assert_eq!(from.on(event), to, "{from:?} on {event:?}");
            }
        }
    }
}
