//! Words for people.

use proto::forward::Broken;

use super::life::{Outcome, Side};

/// How a connection ended, in a few words.
pub fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Clean => "clean".to_owned(),
        Outcome::Broken { by, cause } => {
            let who = match by {
                Some(Side::Client) => "client ",
                Some(Side::Target) => "target ",
                None => "",
            };
            let how = match cause.broken {
                Broken::Reset => "reset it".to_owned(),
                Broken::TimedOut => "was silent for too long".to_owned(),
                Broken::Unreachable => match &cause.words {
                    Some(words) => format!("cannot be reached any more: {words}"),
                    None => "cannot be reached any more".to_owned(),
                },
                Broken::Truncated => "cut it short".to_owned(),
                _ if by.is_none() => cause.to_string(),
                _ => format!("side broke: {cause}"),
            };
            format!("{who}{how}")
        }
    }
}

/// The same in a word, for counters: who broke it is in the log.
pub fn label(outcome: &Outcome) -> &'static str {
    let Outcome::Broken { by, cause } = outcome else { return "clean" };
    match (cause.broken, by) {
        (Broken::Reset, Some(Side::Client)) => "client reset",
        (Broken::Reset, _) => "target reset",
        (Broken::TimedOut, _) => "silent",
        (Broken::Unreachable, _) => "unreachable",
        (Broken::Idle, _) => "idle",
        (Broken::Stopped | Broken::Dropped, _) => "stopped",
        (Broken::Truncated, _) => "truncated",
        (Broken::Protocol, _) => "protocol",
        (Broken::FlowGone, _) => "flow gone",
        (Broken::Failed | Broken::Other(_), _) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cause::Cause;

    #[test]
    fn ends_are_told_apart() {
        let by = |by, broken| ending(&Outcome::Broken { by, cause: Cause::plain(broken) });
        assert_eq!(ending(&Outcome::Clean), "clean");
        assert_eq!(by(Some(Side::Target), Broken::Reset), "target reset it");
        assert_eq!(by(Some(Side::Client), Broken::TimedOut), "client was silent for too long");
        assert_eq!(by(None, Broken::Idle), "idle for too long");
        let gone = Cause::said(Broken::FlowGone, "the peer's program ended");
        let outcome = Outcome::Broken { by: Some(Side::Target), cause: gone };
        assert_eq!(ending(&outcome), "target side broke: its flow is gone: the peer's program ended");
    }
}
