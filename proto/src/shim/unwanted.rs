//! Datagrams between shims that may still come to a flow's socket once a program has it.

use super::allocation::answer_prefix_at;
use super::control::RECEIVER;
use super::control_prefix;
use super::header::{CLIENT_ID, MAGIC};
use crate::{Name, WireId};

/// Which datagrams on a flow's socket are no SDUs, though they come from the flow's peer: empty ones (keep-alives), control
/// datagrams to the flow's id, and at the asking side answers that come again. An SDU reads so by a chance of 2^-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwanted {
    id: WireId,
    /// Where the header of an answer begins: behind name and NUL. 0: none come.
    answers: u16,
}

impl Unwanted {
    /// At the accepting side.
    pub fn control(ours: WireId) -> Self {
        Self { id: ours, answers: 0 }
    }

    /// At the asking side, which asked for `name`.
    pub fn answers(name: &Name, ours: WireId) -> Self {
        let answers = u16::try_from(name.as_str().len() + 1).expect("names are short");
        Self { id: ours, answers }
    }

    /// As the hand-over says it: the flow's id, and where answers' headers begin.
    pub fn parts(self) -> (u64, u32) {
        (self.id.0, self.answers.into())
    }

    /// The opposite. Nothing for an id of 0, or if no name is so long.
    pub fn from_parts(id: u64, answers: u32) -> Option<Self> {
        let answers = u16::try_from(answers).ok().filter(|&at| usize::from(at) <= Name::MAX + 1)?;
        (id != 0).then_some(Self { id: WireId(id), answers })
    }

    /// Whether the payload is no SDU.
    pub fn matches(self, payload: &[u8]) -> bool {
        // Most SDUs do not begin with NUL, and ids differ from data in their first bytes.
        let id_at = |at: usize| payload.get(at..at + 8).is_some_and(|bytes| *bytes == self.id.0.to_be_bytes());
        let magic_at = |at: usize| payload.get(at..at + MAGIC.len()) == Some(&MAGIC);
        let answers = usize::from(self.answers);
        payload.is_empty()
            || payload[0] == 0 && id_at(RECEIVER) && magic_at(1)
            || answers > 0 && id_at(answers + CLIENT_ID) && magic_at(answers)
    }

    /// So many bytes of a payload tell.
    pub fn tells(self) -> usize {
        let answer = if self.answers > 0 { usize::from(self.answers) + CLIENT_ID + 8 } else { 0 };
        answer.max(RECEIVER + 8)
    }

    /// The same for a socket filter: (offset, bytes) pairs, all of which a payload has that is no SDU.
    pub fn prefixes(self) -> Vec<[(usize, Vec<u8>); 2]> {
        let answers = (self.answers > 0).then(|| answer_prefix_at(usize::from(self.answers), self.id));
        std::iter::once(control_prefix(self.id)).chain(answers).collect()
    }
}
