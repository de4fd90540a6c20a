//! One flow's conversation: two directions, each of which ends for itself, or one that takes the other along.

use std::time::{Duration, Instant};

/// How a direction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All there was has been passed on.
    Clean,
    /// The peer or the path broke it: what came is incomplete, or what was sent is not read.
    Broken(String),
    /// The pipe on this side broke.
    Local(String),
    /// Whoever read this side's output went away, as `head` does: nothing to complain about, and not complete.
    Unread,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each direction has an end that the peer sees.
    Stream,
    /// Only the flow has an end.
    Datagrams,
}

/// Which side of it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Asked for the flow.
    Asking,
    /// Accepted it.
    Accepting,
}

/// What came of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Everything is complete.
    pub whole: bool,
    /// What is to be said on standard error, sentences.
    pub words: Vec<String>,
}

/// One flow's conversation.
#[derive(Debug)]
pub struct Conversation {
    kind: Kind,
    side: Side,
    linger: Option<Duration>,
    sent: Option<End>,
    received: Option<End>,
    /// The flow is gone altogether.
    gone: bool,
    until: Option<Instant>,
    lingered: bool,
}

impl Conversation {
    /// Both directions are open. `linger`: how long the peer may go on after this side's end.
    pub fn new(kind: Kind, side: Side, linger: Option<Duration>) -> Self {
        Self { kind, side, linger, sent: None, received: None, gone: false, until: None, lingered: false }
    }

    /// What this side sends has ended.
    pub fn sent(&mut self, now: Instant, end: End) {
        if end == End::Clean {
            let linger = match (self.kind, self.side) {
                (Kind::Stream, _) | (Kind::Datagrams, Side::Accepting) => self.linger,
                // Nobody says when the last answer has come.
                (Kind::Datagrams, Side::Asking) => Some(self.linger.unwrap_or_default()),
            };
            self.until = linger.map(|linger| now + linger);
        }
        self.sent.get_or_insert(end);
    }

    /// What this side receives has ended.
    pub fn received(&mut self, end: End) {
        self.received.get_or_insert(end);
    }

    /// The flow is over, as the peer wished.
    pub fn gone(&mut self) {
        self.gone = true;
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_over())
    }

    /// The peer has had its time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lingered |= self.until.is_some_and(|until| now >= until);
    }

    /// What came of it, once it is over.
    pub fn verdict(&self) -> Option<Verdict> {
        if !self.is_over() {
            return None;
        }
        let ends = [&self.received, &self.sent];
        let words = ends.into_iter().flatten().filter_map(|end| match end {
            End::Broken(words) | End::Local(words) => Some(words.clone()),
            End::Clean | End::Unread => None,
        });
        let mut words: Vec<String> = words.collect();
        words.dedup();
        let whole = ends.into_iter().flatten().all(|end| *end == End::Clean) && !self.is_cut();
        Some(Verdict { whole, words })
    }

    fn is_over(&self) -> bool {
        let broke = |end: &Option<End>| matches!(end, Some(End::Local(_) | End::Unread));
        // What came is incomplete, whatever else comes of it.
        let incomplete = matches!(self.received, Some(End::Broken(_)));
        let both = self.received.is_some() && (self.sent.is_some() || self.gone || self.kind == Kind::Datagrams);
        both || self.lingered || incomplete || broke(&self.received) || broke(&self.sent)
    }

    /// The peer had more to say and was not heard out. Of datagrams nobody knows.
    fn is_cut(&self) -> bool {
        self.kind == Kind::Stream && self.received.is_none()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has to start from some instant")]
mod tests {
    use super::*;

    fn stream() -> Conversation {
        Conversation::new(Kind::Stream, Side::Asking, None)
    }

    fn broken(words: &str) -> End {
        End::Broken(words.to_owned())
    }

    fn verdict(whole: bool, words: &[&str]) -> Option<Verdict> {
        Some(Verdict { whole, words: words.iter().map(|it| (*it).to_owned()).collect() })
    }

    #[test]
    fn a_stream_is_over_when_both_directions_are() {
        let now = Instant::now();
        let mut it = stream();
        it.sent(now, End::Clean);
        assert_eq!((it.verdict(), it.poll_timeout()), (None, None));
        it.received(End::Clean);
        assert_eq!(it.verdict(), verdict(true, &[]));

        let mut it = stream();
        it.received(End::Clean);
        assert_eq!(it.verdict(), None, "the input goes on");
        it.sent(now, broken("nobody reads"));
        assert_eq!(it.verdict(), verdict(false, &["nobody reads"]));

        let mut it = stream();
        it.received(End::Clean);
        it.gone();
        assert_eq!(it.verdict(), verdict(true, &[]), "the peer said all, and waits for nothing");
    }

    #[test]
    fn what_broke_is_told_once_and_never_whole() {
        let now = Instant::now();
        for end in [broken("reset"), End::Local("disk full".to_owned()), End::Unread] {
            let mut it = stream();
            it.received(end.clone());
            let words: &[&str] = match &end {
                End::Broken(words) | End::Local(words) => &[words],
                _ => &[],
            };
            assert_eq!(it.verdict(), verdict(false, words), "{end:?}");
        }
        let mut it = stream();
        it.sent(now, broken("stopped"));
        assert_eq!(it.verdict(), None, "its answer may still come");
        it.received(End::Clean);
        assert_eq!(it.verdict(), verdict(false, &["stopped"]));

        let mut it = stream();
        it.sent(now, broken("the flow is gone"));
        it.received(broken("the flow is gone"));
        assert_eq!(it.verdict(), verdict(false, &["the flow is gone"]));

        let mut it = stream();
        it.sent(now, End::Local("cannot read".to_owned()));
        assert_eq!(it.verdict(), verdict(false, &["cannot read"]));
    }

    #[test]
    fn a_peer_that_does_not_end_is_waited_for_as_long_as_asked() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut it = Conversation::new(Kind::Stream, Side::Asking, Some(second));
        assert_eq!(it.poll_timeout(), None);
        it.sent(now, End::Clean);
        assert_eq!(it.poll_timeout(), Some(now + second));
        it.handle_timeout(now);
        assert_eq!(it.verdict(), None, "too early");
        it.handle_timeout(now + second);
        assert_eq!(it.verdict(), verdict(false, &[]));
        assert_eq!(it.poll_timeout(), None);
    }

    #[test]
    fn datagrams_end_with_the_input_of_who_asked_and_with_the_flow() {
        let now = Instant::now();
        let mut it = Conversation::new(Kind::Datagrams, Side::Asking, None);
        it.sent(now, End::Clean);
        assert_eq!(it.poll_timeout(), Some(now));
        it.handle_timeout(now);
        assert_eq!(it.verdict(), verdict(true, &[]));

        let mut it = Conversation::new(Kind::Datagrams, Side::Accepting, None);
        it.sent(now, End::Clean);
        assert_eq!((it.poll_timeout(), it.verdict()), (None, None));
        it.received(End::Clean);
        assert_eq!(it.verdict(), verdict(true, &[]));

        let mut it = Conversation::new(Kind::Datagrams, Side::Accepting, None);
        it.received(broken("the peer's program ended"));
        assert_eq!(it.verdict(), verdict(false, &["the peer's program ended"]));
    }
}
