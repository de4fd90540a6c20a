//! What the daemons log, and changes of it: irmd's own, and those of its IPCPs.

use proto::v1::{self, Failure, FailureKind};
use tokio::task::JoinSet;

use super::ipcp::{self, Links};

/// How irmd itself is called among the daemons.
const IRMD: &str = "irmd";

/// Asks those daemons that the request names. What one of them says no to is in its row; nothing is changed anywhere
/// unless irmd's own reading of the filter finds it good.
pub(super) async fn log(links: &Links, request: &v1::LogRequest) -> Result<Vec<v1::LogState>, Failure> {
    let all = request.daemon.is_empty();
    let asked = links.all().into_iter().filter(|(name, _)| all || *name == request.daemon);
    let mut asked: Vec<_> = asked.collect();
    asked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut states = Vec::new();
    if all || request.daemon == IRMD {
        states.push(v1::LogState { daemon: IRMD.to_owned(), ..logs::answer(request)? });
    } else if asked.is_empty() {
        let text = format!("no IPCP {} is attached; see irm ipcp list", request.daemon);
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    let mut answers = JoinSet::new();
    for (order, (name, link)) in asked.into_iter().enumerate() {
        let request = request.clone();
        answers.spawn(async move {
            let state = ipcp::log(link, request).await;
            let failed = |failure: Failure| v1::LogState { failure: failure.message, ..v1::LogState::default() };
            (order, v1::LogState { daemon: name, ..state.unwrap_or_else(failed) })
        });
    }
    let mut answers = answers.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    states.extend(answers.into_iter().map(|(_, state)| state));
    match states.as_slice() {
        // The only one that was asked said no: so does the call.
        [one] if !one.failure.is_empty() && !all => {
            Err(Failure::new(FailureKind::Invalid, format!("IPCP {}: {}", one.daemon, one.failure)))
        }
        _ => Ok(states),
    }
}
