//! Failures between processes: a typed [`Failure`] in the details of a gRPC status.

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{Failure, FailureKind};

impl Failure {
    /// A failure of `kind`; `message` is one sentence: what happened, to what, what to do next.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), ..Self::default() }
    }

    /// The failure a status carries; one made of the status' own text where it carries none (a daemon that went
    /// away in mid-call, a method of another version).
    pub fn from_status(status: &Status) -> Self {
        match Self::decode(status.details()) {
            Ok(failure) if failure.kind != 0 => failure,
            _ => Self::new(kind_of(status.code()), status.message()),
        }
    }
}

fn kind_of(code: Code) -> FailureKind {
    match code {
        Code::DeadlineExceeded => FailureKind::TimedOut,
        Code::Unavailable | Code::Cancelled | Code::Unknown => FailureKind::IpcpDown,
        Code::PermissionDenied | Code::Unauthenticated => FailureKind::NotPermitted,
        Code::ResourceExhausted => FailureKind::Exhausted,
        Code::InvalidArgument | Code::Unimplemented => FailureKind::Invalid,
        _ => FailureKind::Internal,
    }
}

fn code_of(kind: FailureKind) -> Code {
    match kind {
        FailureKind::UnknownName | FailureKind::NotFound | FailureKind::NoSuchLayer | FailureKind::NoSuchAddress => {
            Code::NotFound
        }
        FailureKind::Refused | FailureKind::NobodyAccepts | FailureKind::FlowGone => Code::FailedPrecondition,
        FailureKind::TimedOut => Code::DeadlineExceeded,
        FailureKind::NotPermitted | FailureKind::Untrusted => Code::PermissionDenied,
        FailureKind::UnsupportedQos | FailureKind::Invalid => Code::InvalidArgument,
        FailureKind::Exhausted => Code::ResourceExhausted,
        FailureKind::AlreadyExists | FailureKind::AddressInUse => Code::AlreadyExists,
        FailureKind::IpcpDown | FailureKind::Recovering | FailureKind::ShuttingDown => Code::Unavailable,
        FailureKind::DirectoryFailed => Code::Aborted,
        FailureKind::Internal | FailureKind::Unspecified => Code::Internal,
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = code_of(failure.kind());
        let message = failure.message.clone();
        Status::with_details(code, message, failure.encode_to_vec().into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_its_status() {
        let failure = Failure { asked: 4, reason: "full".into(), ..Failure::new(FailureKind::Refused, "no") };
        assert_eq!(Failure::from_status(&failure.clone().into()), failure);
    }

    #[test]
    fn a_bare_status_becomes_a_failure() {
        let failure = Failure::from_status(&Status::unavailable("transport error"));
        assert_eq!(failure.kind(), FailureKind::IpcpDown);
        assert_eq!(failure.message, "transport error");
    }
}
