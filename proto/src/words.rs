//! Kinds as words: the same in listings' JSON, in counters' names and in labels of metrics. They keep their spelling.

use crate::v1::{Cube, EndReason, EventKind, FailureKind, FlowState};

macro_rules! words {
    ($kind:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $kind {
            /// All kinds that have a word.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),*];

            /// The kind as one word in small letters, "unspecified" for none.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unspecified => "unspecified",
                }
            }

            /// The kind that a word names.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::KNOWN.iter().copied().find(|kind| kind.word() == word)
            }
        }
    };
}

words!(FailureKind {
    UnknownName = "unknown_name",
    Refused = "refused",
    NobodyAccepts = "nobody_accepts",
    TimedOut = "timed_out",
    NoSuchLayer = "no_such_layer",
    NotPermitted = "not_permitted",
    UnsupportedQos = "unsupported_qos",
    Exhausted = "exhausted",
    Invalid = "invalid",
    NotFound = "not_found",
    AlreadyExists = "already_exists",
    IpcpDown = "ipcp_down",
    AddressInUse = "address_in_use",
    NoSuchAddress = "no_such_address",
    FlowGone = "flow_gone",
    Internal = "internal",
    DirectoryFailed = "directory_failed",
    Recovering = "recovering",
    ShuttingDown = "shutting_down",
    Untrusted = "untrusted",
});

words!(EndReason {
    Deallocated = "deallocated",
    ProgramDied = "program_died",
    PeerDeallocated = "peer_deallocated",
    PeerDied = "peer_died",
    PeerTimedOut = "peer_timed_out",
    PeerUnknown = "peer_unknown",
    Admin = "admin",
    IpcpStopped = "ipcp_stopped",
    NeverTaken = "never_taken",
    AddressGone = "address_gone",
});

words!(EventKind {
    Requested = "requested",
    Arrived = "arrived",
    Asked = "asked",
    AskedAgain = "asked_again",
    Started = "started",
    Offered = "offered",
    Answered = "answered",
    Allocated = "allocated",
    HandedOver = "handed_over",
    Judged = "judged",
    Refused = "refused",
    Ended = "ended",
    Returned = "returned",
    Missed = "missed",
});

words!(FlowState { Pending = "pending", Allocated = "allocated", Ending = "ending", Ended = "ended" });

words!(Cube { Raw = "raw", Message = "message", Stream = "stream" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_schemas_own() {
        for kind in FailureKind::KNOWN {
            assert_eq!(kind.as_str_name(), format!("FAILURE_KIND_{}", kind.word().to_uppercase()));
            assert_eq!(FailureKind::of_word(kind.word()), Some(*kind));
        }
        for kind in EndReason::KNOWN {
            assert_eq!(kind.as_str_name(), format!("END_REASON_{}", kind.word().to_uppercase()));
        }
        for kind in EventKind::KNOWN {
            assert_eq!(kind.as_str_name(), format!("EVENT_KIND_{}", kind.word().to_uppercase()));
        }
        assert_eq!(FlowState::KNOWN.len() + 1, 5);
        assert_eq!(EventKind::of_word("nonsense"), None);
    }
}
