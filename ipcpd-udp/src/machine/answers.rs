//! What was said to requests that are no flow (any more): the same request gets the same answer.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pace::Prefix;

use super::flow::RequestKey;

/// An extended caller asks again for a minute at most.
pub(super) const EXTENDED: Duration = Duration::from_secs(60);
/// A classic caller's duplicate within this time is no second request.
pub(super) const CLASSIC: Duration = Duration::from_secs(5);

/// Answers remembered at most; each at most about 800 bytes.
const MOST: usize = 4096;
/// Of one prefix.
const SHARE: usize = MOST / 4;

/// A bounded memory of answers. `None` is the answer that says nothing.
#[derive(Debug, Default)]
pub(super) struct Answers {
    of: HashMap<RequestKey, (Instant, Option<Vec<u8>>)>,
    order: VecDeque<(Instant, RequestKey)>,
    /// How many of `order` are of each prefix: none has more than [`SHARE`], so that nobody pushes others' out.
    shares: HashMap<Prefix, usize>,
}

impl Answers {
    pub(super) fn remember(&mut self, until: Instant, request: RequestKey, answer: Option<Vec<u8>>) {
        let share = self.shares.entry(Prefix::of(request.from.ip())).or_default();
        if *share >= SHARE {
            return;
        }
        *share += 1;
        while self.order.len() >= MOST {
            self.drop_first();
        }
        self.order.push_back((until, request.clone()));
        self.of.insert(request, (until, answer));
    }

    pub(super) fn find(&mut self, now: Instant, request: &RequestKey) -> Option<Option<&[u8]>> {
        // Kept in order of arrival, not of expiry: old ones leave from the front, late ones wait behind it.
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
        let (until, answer) = self.of.get(request)?;
        (*until > now).then_some(answer.as_deref())
    }

    fn drop_first(&mut self) {
        let Some((until, request)) = self.order.pop_front() else { return };
        let prefix = Prefix::of(request.from.ip());
        if let Some(share) = self.shares.get_mut(&prefix) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&prefix);
            }
        }
        if self.of.get(&request).is_some_and(|(known, _)| *known == until) {
            self.of.remove(&request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Name, WireId};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
    fn answers_are_remembered_for_a_time_and_in_a_number() {
        let now = Instant::now();
        let request = |n: u64| RequestKey {
            from: std::net::SocketAddr::from(([10, (n >> 8) as u8, n as u8, 2], 40_000)),
            client: Some(WireId(n)),
            name: Name::new("echo").unwrap(),
        };
        let mut answers = Answers::default();
        answers.remember(now + CLASSIC, request(0), None);
        answers.remember(now + EXTENDED, request(1), Some(vec![1]));
        assert_eq!(answers.find(now, &request(0)), Some(None));
        assert_eq!(answers.find(now + CLASSIC, &request(0)), None);
        assert_eq!(answers.find(now + CLASSIC, &request(1)), Some(Some(&[1][..])));
        for n in 2..20_000 {
            answers.remember(now + EXTENDED, request(n), None);
            assert!(answers.of.len() <= MOST && answers.order.len() <= MOST);
        }
        assert_eq!(answers.find(now, &request(1)), None);
        assert_eq!(answers.find(now, &request(19_999)), Some(None));
        // One prefix' answers push out at most a share of the others'.
        for n in 0..20_000 {
            let client = Some(WireId(n));
            answers.remember(now + EXTENDED, RequestKey { client, ..request(9) }, None);
        }
        assert_eq!(answers.find(now, &request(18_000)), Some(None));
        answers.find(now + EXTENDED, &request(0));
        assert!(answers.order.is_empty() && answers.of.is_empty() && answers.shares.is_empty());
    }
}
