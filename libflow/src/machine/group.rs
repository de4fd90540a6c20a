//! A group of programs: which of them calls which, and what becomes of a pair whose flow breaks.
//!
//! Every member has a name of its own. Of two members the one with the lower name calls, so a pair has one flow. A member is
//! one as long as there is a flow to it, whatever lists of names say: they may be late, and a flow is not.
//!
//! ```text
//!             listed                 flow                        flow ended, listed
//!   (unknown) ───────► Calling ────────────► Here ───────────────────────────────► Pausing ─► Calling
//!       │                 │ no flow                                 (the higher: Waiting)
//!       │                 └────────► Pausing ─► Calling
//!       └──── calls ───► Answering ─────────► Here          not listed, no flow: unknown again
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Between two calls of one member that come to nothing: doubles, from here to there.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);
/// A flow that lived so long was no failure.
const LIVED: Duration = Duration::from_secs(10);
/// Calls of one member that are answered at a time.
const ADMITTED: u8 = 2;
/// Whoever called and was let in has so long to show up.
const ANSWERING: Duration = Duration::from_secs(10);

/// One flow or one call, as its owner counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Link(pub(crate) u64);

/// What its owner is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Todo {
    /// Ask for a flow to the member; [`Gathering::called`] says what came of it.
    Call(String, Link),
    /// A member is here, with this flow.
    Joined(String, Link),
    /// It is not any more.
    Left(String, Link),
    /// A flow that another one of the same member took the place of.
    End(Link),
    /// It is called in vain; told once for each reason.
    Unreached(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It calls, being the lower.
    Waiting,
    /// It called, and was let in.
    Answering(Instant),
    Calling(Link),
    Pausing(Instant),
    Here(Link, Instant),
}

#[derive(Debug)]
struct Member {
    listed: bool,
    state: State,
    /// Its host vouches for the flow that is here.
    vouched: bool,
    /// Calls of its that were let in and have not come yet.
    admitted: u8,
    /// Calls in a row that came to nothing.
    tries: u32,
    /// What was told of it last.
    why: String,
}

impl Member {
    fn new(listed: bool, state: State) -> Self {
        Self { listed, state, vouched: false, admitted: 0, tries: 0, why: String::new() }
    }
}

/// The members of a group, as one of them sees them.
#[derive(Debug)]
pub(crate) struct Gathering {
    own: String,
    /// Others, at most.
    most: usize,
    members: BTreeMap<String, Member>,
    next: u64,
    todo: VecDeque<Todo>,
}

impl Gathering {
    /// `own`: this member. `most`: members, this one with them.
    pub(crate) fn new(own: &str, most: usize) -> Self {
        let (members, todo) = (BTreeMap::new(), VecDeque::new());
        Self { own: own.to_owned(), most: most.saturating_sub(1), members, next: 1, todo }
    }

    /// A number for a flow that is to come.
    pub(crate) fn link(&mut self) -> Link {
        self.next += 1;
        Link(self.next)
    }

    /// These others are known to have names of the group. Of more than there is room for, those known longest stay.
    pub(crate) fn listed(&mut self, now: Instant, names: &BTreeSet<String>) {
        for (name, member) in &mut self.members {
            member.listed = names.contains(name);
        }
        self.members.retain(|_, member| member.listed || matches!(member.state, State::Here(..) | State::Answering(_)));
        for name in names {
            if self.members.len() >= self.most {
                return;
            }
            if *name != self.own && !self.members.contains_key(name) {
                self.members.insert(name.clone(), Member::new(true, State::Waiting));
                self.call(now, name);
            }
        }
    }

    /// Calls a member, if that is this side's to do.
    fn call(&mut self, now: Instant, name: &str) {
        let calls = self.calls(name);
        let link = self.link();
        let Some(member) = self.members.get_mut(name) else { return };
        if !calls {
            member.state = State::Waiting;
        } else if member.tries == 0 {
            member.state = State::Calling(link);
            self.todo.push_back(Todo::Call(name.to_owned(), link));
        } else {
            let doubled = SHORTEST.saturating_mul(1 << (member.tries - 1).min(10));
            member.state = State::Pausing(now + doubled.min(LONGEST));
        }
    }

    /// Whether this side calls that member.
    fn calls(&self, name: &str) -> bool {
        self.own.as_str() < name
    }

    /// Somebody calls who says it is `name`. An error is for its eyes.
    pub(crate) fn calling(&mut self, now: Instant, name: &str) -> Result<(), String> {
        if name == self.own {
            return Err(format!("{name} is this member itself; take another name"));
        }
        if self.calls(name) {
            return Err(format!("of two members the one with the lower name calls, and that is {}", self.own));
        }
        if let Some(member) = self.members.get_mut(name) {
            if member.admitted >= ADMITTED {
                return Err(format!("calls of {name} are being answered; ask again in a moment"));
            }
            member.admitted += 1;
            // The flow there is stays until another has come.
            if !matches!(member.state, State::Here(..)) {
                member.state = State::Answering(now + ANSWERING);
            }
            return Ok(());
        }
        if self.members.len() >= self.most {
            return Err(format!("the group has {} members, as many as it may", self.most + 1));
        }
        let member = Member::new(false, State::Answering(now + ANSWERING));
        self.members.insert(name.to_owned(), Member { admitted: 1, ..member });
        Ok(())
    }

    /// Who called is here; `vouched`: its host says that it is who it says. To be told, or [`came_not`](Self::came_not), once
    /// for each call that was let in.
    pub(crate) fn came(&mut self, now: Instant, name: &str, link: Link, vouched: bool) {
        self.has_come(name);
        self.here(now, name, link, vouched);
    }

    /// Who called and was let in did not come.
    pub(crate) fn came_not(&mut self, name: &str) {
        if self.has_come(name) == 0 {
            self.expect_no_longer(name);
        }
    }

    /// One call less to wait for; how many there still are.
    fn has_come(&mut self, name: &str) -> u8 {
        let Some(member) = self.members.get_mut(name) else { return 0 };
        member.admitted = member.admitted.saturating_sub(1);
        member.admitted
    }

    fn expect_no_longer(&mut self, name: &str) {
        if let Some(member) = self.members.get_mut(name)
            && matches!(member.state, State::Answering(_))
        {
            member.state = State::Waiting;
            if !member.listed {
                self.members.remove(name);
            }
        }
    }

    /// What came of a call: whether the host of the flow with this link vouches for the member, or why there is no flow.
    pub(crate) fn called(&mut self, now: Instant, name: &str, link: Link, result: Result<bool, String>) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.state == State::Calling(link)) else {
            // It has gone meanwhile.
            if result.is_ok() {
                self.todo.push_back(Todo::End(link));
            }
            return;
        };
        let why = match result {
            Ok(vouched) => return self.here(now, name, link, vouched),
            Err(why) => why,
        };
        member.tries += 1;
        if member.why != why {
            member.why.clone_from(&why);
            self.todo.push_back(Todo::Unreached(name.to_owned(), why));
        }
        self.call(now, name);
    }

    fn here(&mut self, now: Instant, name: &str, link: Link, vouched: bool) {
        let Some(member) = self.members.get_mut(name) else { return self.todo.push_back(Todo::End(link)) };
        // For whom nobody vouches takes no place of somebody who is known.
        if matches!(member.state, State::Here(..)) && member.vouched && !vouched {
            return self.todo.push_back(Todo::End(link));
        }
        member.vouched = vouched;
        let before = std::mem::replace(&mut member.state, State::Here(link, now));
        member.why.clear();
        if let State::Here(old, _) = before {
            self.todo.push_back(Todo::Left(name.to_owned(), old));
            self.todo.push_back(Todo::End(old));
        }
        self.todo.push_back(Todo::Joined(name.to_owned(), link));
    }

    /// A flow is over.
    pub(crate) fn ended(&mut self, now: Instant, name: &str, link: Link) {
        let Some(member) = self.members.get_mut(name) else { return };
        let State::Here(own, since) = member.state else { return };
        if own != link {
            return;
        }
        self.todo.push_back(Todo::Left(name.to_owned(), link));
        member.tries = if now.saturating_duration_since(since) >= LIVED { 1 } else { member.tries + 1 };
        if member.listed {
            self.call(now, name);
        } else {
            self.members.remove(name);
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due = |member: &Member| matches!(member.state, State::Pausing(at) | State::Answering(at) if at <= now);
        let names: Vec<String> =
            self.members.iter().filter(|(_, member)| due(member)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.expect_no_longer(&name);
            let link = self.link();
            if let Some(member) = self.members.get_mut(&name)
                && matches!(member.state, State::Pausing(_))
            {
                member.state = State::Calling(link);
                self.todo.push_back(Todo::Call(name, link));
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = |member: &Member| match member.state {
            State::Pausing(at) | State::Answering(at) => Some(at),
            _ => None,
        };
        self.members.values().filter_map(at).min()
    }

    /// What to do next.
    pub(crate) fn poll(&mut self) -> Option<Todo> {
        self.todo.pop_front()
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
