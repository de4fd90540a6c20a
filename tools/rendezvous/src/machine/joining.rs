//! Members come, are heard again, leave, are forgotten; the others hear of it.

use std::time::Instant;

use proto::rendezvous::{Join, Joined as Answer, Refusal, Said, SessionId};
use proto::{BootId, HostId, WireId};

use super::counts::Reason;
use super::hygiene::clean;
use super::member::Age;
use super::server::{Asker, Event, Role, Server};
use super::session::{Joined, Joining};
use super::timers::Due;

/// A member is forgotten when it was silent for so many refreshes.
const SILENT: u32 = 4;

impl Server {
    pub(super) fn join(&mut self, now: Instant, asker: &Asker, join: &Join) -> Result<(), Reason> {
        let (limits, head) = (self.rules.limits, asker.head);
        let locals = clean(&join.locals, asker.from, &self.own(asker.via));
        let session = self.sessions.get_mut(&head.session).ok_or(Reason::Unasked)?;
        let joining = Joining {
            now,
            member: head.member,
            count: head.sender,
            from: asker.from,
            via: asker.via,
            locals,
            join,
            limits: &limits,
            closing: self.closing,
        };
        let before = session.list.latest();
        let joined = match session.join(joining) {
            Ok(joined) => joined,
            Err(Reason::Full) => {
                self.reply(asker, &Said::NotIntroduced(Refusal::TooMany));
                return Err(Reason::Full);
            }
            Err(reason) => return Err(reason),
        };
        if session.list.latest() != before
            && let Some(at) = session.news_at(now)
        {
            self.timers.set(at, Due::News(head.session));
        }
        self.count_join(now, asker, joined);
        self.answer_join(asker, join);
        Ok(())
    }

    fn count_join(&mut self, now: Instant, asker: &Asker, joined: Joined) {
        let (id, member) = (asker.head.session, asker.head.member);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let name = session.rules.name.to_string();
        if joined == Joined::Came
            && let Some(known) = session.members.get_mut(&member)
        {
            known.due = now + self.rules.limits.refresh * SILENT;
            self.timers.set(known.due, Due::Member(id, member));
        }
        match joined {
            Joined::Came => self.counts.joins += 1,
            _ => self.counts.refreshes += 1,
        }
        let (session, at) = (name, asker.from);
        match joined {
            Joined::Came => self.tell(Event::Joined { session, member, at, anew: false }),
            Joined::Booted => self.tell(Event::Joined { session, member, at, anew: true }),
            Joined::Moved(from) => self.tell(Event::Moved { session, member, from, to: at }),
            Joined::Stays => {}
        }
    }

    fn answer_join(&mut self, asker: &Asker, join: &Join) {
        let (hide, refresh) = (self.rules.hide_local, self.rules.limits.refresh);
        let relay = self.places[asker.via.place].relay.filter(|_| self.rules.relay.is_some());
        let cookie = self.cookie(asker);
        let Some(session) = self.sessions.get_mut(&asker.head.session) else { return };
        let Some(told) = session.read(asker.head.member, join, hide) else { return };
        let latest = session.list.latest().version;
        let relay = relay.filter(|_| session.rules.relay).map_or(0, |at| at.port());
        let Some(member) = session.members.get_mut(&asker.head.member) else { return };
        member.told = told.seen.version;
        let answer = Said::Joined(Answer {
            public: asker.from,
            seen: told.seen,
            latest,
            reset: told.reset,
            names_at: member.names_at,
            refresh_ms: u32::try_from(refresh.as_millis()).unwrap_or(u32::MAX),
            relay,
            cookie,
            changes: told.changes,
        });
        self.reply(asker, &answer);
    }

    pub(super) fn leave(&mut self, now: Instant, asker: &Asker, boot: BootId) -> Result<(), Reason> {
        let (id, member) = (asker.head.session, asker.head.member);
        let session = self.sessions.get(&id).ok_or(Reason::Unasked)?;
        if let Some(known) = session.members.get(&member) {
            match known.marks.age(boot, asker.head.sender.0) {
                Age::Fresh => {}
                Age::Stale => return Err(Reason::Stale),
                Age::Booted | Age::Replaced => return Err(Reason::Replaced),
            }
            self.drop_member(now, id, member, Some(asker.head.sender));
        }
        // Who is not there has left.
        self.reply(asker, &Said::Left);
        Ok(())
    }

    /// A member is gone; `said` is the count of its LEAVE.
    fn drop_member(&mut self, now: Instant, id: SessionId, member: HostId, said: Option<WireId>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some((known, count)) = session.members.get_mut(&member).zip(said) {
            let boot = known.marks.boot;
            known.marks.take(boot, count.0);
        }
        let Some(gone) = session.remove(now, member) else { return };
        self.timers.cancel(gone.due, Due::Member(id, member));
        if let Some(at) = session.news_at(now) {
            self.timers.set(at, Due::News(id));
        }
        self.counts.left[usize::from(said.is_none())] += 1;
        let session = session.rules.name.to_string();
        let after = now.saturating_duration_since(gone.since);
        self.tell(Event::Left { session, member, at: gone.at, silent: said.is_none(), after });
    }

    pub(super) fn look_at_member(&mut self, now: Instant, id: SessionId, member: HostId) {
        let patience = self.rules.limits.refresh * SILENT;
        let Some(known) = self.sessions.get_mut(&id).and_then(|session| session.members.get_mut(&member)) else {
            return;
        };
        if known.heard + patience <= now {
            return self.drop_member(now, id, member, None);
        }
        known.due = known.heard + patience;
        self.timers.set(known.due, Due::Member(id, member));
    }

    /// Tells those who do not know it that there is news.
    pub(super) fn say_news(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        (session.news, session.told) = (None, Some(now));
        let seen = session.list.latest();
        let head = proto::rendezvous::Head { session: id, member: HostId(0), sender: WireId(0), receiver: WireId(0) };
        // The same bytes for all.
        let bytes = head.encode(&session.rules.key, &Said::News(seen));
        let behind = session.members.values().filter(|member| member.told < seen.version);
        let to: Vec<_> = behind.map(|member| (member.via, member.at)).collect();
        for (via, at) in to {
            self.send(via, at, bytes.clone());
        }
    }

    /// A control datagram for another member's shim.
    pub(super) fn carry(&mut self, asker: &Asker, to: HostId, payload: Vec<u8>) -> Result<(), Reason> {
        let session = self.sessions.get(&asker.head.session).ok_or(Reason::Elsewhere)?;
        let other = session.members.get(&to).ok_or(Reason::Elsewhere)?;
        debug_assert!(other.via.role == Role::Main, "members are at main ports");
        // Who says it, not the server.
        let head = proto::rendezvous::Head { receiver: WireId(0), ..asker.head };
        let bytes = head.encode(&session.rules.key, &Said::Carried(payload));
        self.send(other.via, other.at, bytes);
        Ok(())
    }
}
