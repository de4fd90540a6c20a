//! Failures and verdicts: what happened, to what, what to do next.

use std::net::SocketAddr;

use proto::Name;
use proto::shim::{VERSION, Verdict};
use proto::v1::{Failure, FailureKind};

use super::output::OpenError;
use proto::clip;

pub(super) fn unknown(name: &Name, why: &str) -> Failure {
    Failure::new(FailureKind::UnknownName, format!("{name} is unknown: the layer {why}"))
}

pub(super) fn no_port((first, last): (u16, u16)) -> Failure {
    let text = format!("no free port from {first} to {last}; deallocate some flows, or give a wider range");
    Failure::new(FailureKind::Exhausted, text)
}

pub(super) fn not_opened(error: &OpenError, range: (u16, u16), own: SocketAddr) -> Failure {
    match error {
        OpenError::PortInUse => no_port(range),
        OpenError::Exhausted => {
            let text = "no descriptor is left for the flow's socket; deallocate some flows, or raise RLIMIT_NOFILE";
            Failure::new(FailureKind::Exhausted, text)
        }
        OpenError::NoSuchAddress => {
            let text = format!("{} is no longer an address of this host; bring it back or bootstrap anew", own.ip());
            Failure::new(FailureKind::NoSuchAddress, text)
        }
        OpenError::Other(text) => {
            Failure::new(FailureKind::Internal, format!("the flow's socket could not be opened: {text}"))
        }
    }
}

/// What a refusal of the peer's means to this side's program.
pub(super) fn refused(verdict: Verdict, reason: &str, name: &str, peer: SocketAddr) -> Failure {
    let words = if reason.is_empty() { String::new() } else { format!(": {}", clip(reason, 200)) };
    let (kind, text) = match verdict {
        Verdict::Refused => (FailureKind::Refused, format!("{name} at {peer} refused the flow{words}")),
        Verdict::UnknownName => (
            FailureKind::UnknownName,
            format!("{peer} does not serve {name}; register it there or correct the directory"),
        ),
        Verdict::NobodyAccepts => {
            (FailureKind::NobodyAccepts, format!("{name} is known at {peer}, but no program took the flow{words}"))
        }
        Verdict::NotPermitted => (FailureKind::NotPermitted, format!("{peer} does not permit a flow to {name}{words}")),
        Verdict::UnsupportedQos => {
            (FailureKind::UnsupportedQos, format!("{name} at {peer} is not served with this QoS{words}; ask for raw"))
        }
        Verdict::Exhausted => (FailureKind::Exhausted, format!("{peer} has no room for the flow{words}; try later")),
        Verdict::Version => (
            FailureKind::Invalid,
            format!("the shim at {peer} does not speak version {VERSION}; update the older of the two"),
        ),
        Verdict::Pending | Verdict::Accepted | Verdict::Recovering | Verdict::Cookie => {
            (FailureKind::Internal, format!("{peer} gave an answer without a meaning for {name}"))
        }
    };
    Failure { reason: clip(reason, 200).to_owned(), ..Failure::new(kind, text) }
}

/// What the caller is told of a failure here.
pub(super) fn verdict_of(failure: &Failure) -> (Verdict, &str) {
    let verdict = match failure.kind() {
        FailureKind::Refused => return (Verdict::Refused, &failure.reason),
        // irmd gives a reason only where the caller may hear it.
        FailureKind::NotPermitted => return (Verdict::NotPermitted, &failure.reason),
        FailureKind::UnknownName => Verdict::UnknownName,
        FailureKind::UnsupportedQos => Verdict::UnsupportedQos,
        FailureKind::Exhausted => Verdict::Exhausted,
        FailureKind::NobodyAccepts | FailureKind::TimedOut => return (Verdict::NobodyAccepts, ""),
        FailureKind::ShuttingDown => return (Verdict::NobodyAccepts, "that host is shutting down"),
        FailureKind::IpcpDown | FailureKind::Recovering => {
            return (Verdict::NobodyAccepts, "irmd does not run on that host");
        }
        _ => return (Verdict::Exhausted, "that host could not make the flow; its log says why"),
    };
    (verdict, "")
}
