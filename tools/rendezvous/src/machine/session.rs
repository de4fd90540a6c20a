//! One session: its members, the names they have, what changed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pace::Bucket;
use proto::rendezvous::{Change, Join, NamesAt};
use proto::{HostId, Name, WireId};

use super::cookie;
use super::counts::Reason;
use super::list::{Item, List, Told};
use super::member::{Age, Marks, Member};
use super::rules::{Limits, SessionRules};
use super::server::Via;

/// Who has left is known for as long as a cookie of then may be good: a JOIN said again does not bring it back.
const DEPARTED: Duration = cookie::PERIOD.saturating_mul(2);
/// From a change to the word that there is news: more may come.
const NEWS_AFTER: Duration = Duration::from_millis(20);
/// From one word to the next, for each member: each asks at once.
const NEWS_SHARE: Duration = Duration::from_millis(10);
const NEWS_PAUSE: Duration = Duration::from_secs(1);

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) rules: SessionRules,
    pub(super) list: List,
    pub(super) members: HashMap<HostId, Member>,
    pub(super) names: HashMap<Name, BTreeSet<HostId>>,
    at: HashMap<IpAddr, u32>,
    departed: HashMap<HostId, Marks>,
    departures: VecDeque<(Instant, HostId)>,
    /// When members hear of news, and when they last did.
    pub(super) news: Option<Instant>,
    pub(super) told: Option<Instant>,
    pub(super) pairs: u32,
    pub(super) relayed: Bucket,
    /// Attempts that were begun, those that met.
    pub(super) attempts: [u64; 2],
}

/// A JOIN that was understood.
pub(super) struct Joining<'a> {
    pub(super) now: Instant,
    pub(super) member: HostId,
    pub(super) count: WireId,
    pub(super) from: SocketAddr,
    pub(super) via: Via,
    pub(super) locals: Vec<SocketAddr>,
    pub(super) join: &'a Join,
    pub(super) limits: &'a Limits,
    /// Nobody is let in any more.
    pub(super) closing: bool,
}

/// What a JOIN came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    Came,
    Booted,
    Moved(SocketAddr),
    Stays,
}

impl Session {
    /// An empty one; `epoch` is random.
    pub(super) fn new(rules: SessionRules, epoch: u64) -> Self {
        Self {
            rules,
            list: List::new(epoch),
            members: HashMap::new(),
            names: HashMap::new(),
            at: HashMap::new(),
            departed: HashMap::new(),
            departures: VecDeque::new(),
            news: None,
            told: None,
            pairs: 0,
            relayed: Bucket::default(),
            attempts: [0; 2],
        }
    }

    /// Takes a JOIN.
    pub(super) fn join(&mut self, joining: Joining<'_>) -> Result<Joined, Reason> {
        self.forget_departed(joining.now);
        let (boot, count) = (joining.join.boot, joining.count.0);
        let known = self.members.get(&joining.member).map(|member| &member.marks);
        let age = known.or(self.departed.get(&joining.member)).map_or(Age::Booted, |marks| marks.age(boot, count));
        let came = known.is_none();
        match age {
            Age::Replaced => return Err(Reason::Replaced),
            Age::Stale => return Err(Reason::Stale),
            Age::Fresh | Age::Booted => {}
        }
        let elsewhere = self.members.get(&joining.member).is_none_or(|member| member.at.ip() != joining.from.ip());
        if elsewhere && !self.has_room(&joining, came) {
            return Err(Reason::Full);
        }
        let joined = match (came, age) {
            (true, _) => Joined::Came,
            (false, Age::Booted) => Joined::Booted,
            _ => Joined::Stays,
        };
        if came {
            self.enter(&joining);
        }
        Ok(self.refresh(joining, joined))
    }

    fn has_room(&self, joining: &Joining<'_>, came: bool) -> bool {
        let Limits { members, members_per_address, .. } = *joining.limits;
        let most = self.rules.members.unwrap_or(members) as usize;
        let here = self.at.get(&joining.from.ip()).copied().unwrap_or(0);
        here < members_per_address && !(came && (joining.closing || self.members.len() >= most))
    }

    fn enter(&mut self, joining: &Joining<'_>) {
        let Joining { now, member, from, via, .. } = *joining;
        let marks = self.departed.remove(&member);
        let marks = marks.unwrap_or_else(|| Marks::new(joining.join.boot, joining.count.0));
        let fresh = Member {
            marks,
            at: from,
            via,
            locals: joining.locals.clone(),
            names_at: NamesAt::default(),
            names: BTreeSet::new(),
            since: now,
            heard: now,
            due: now,
            told: 0,
            round_trip_us: 0,
            asks: Bucket::default(),
            asked: Bucket::default(),
            missed: None,
        };
        self.members.insert(member, fresh);
        *self.at.entry(from.ip()).or_default() += 1;
        self.list.came(member);
    }

    fn refresh(&mut self, joining: Joining<'_>, mut joined: Joined) -> Joined {
        let Joining { now, member: id, from, via, join, limits, .. } = joining;
        let Some(member) = self.members.get_mut(&id) else { return joined };
        member.marks.take(join.boot, joining.count.0);
        (member.heard, member.via, member.round_trip_us) = (now, via, join.round_trip_us);
        let was = std::mem::replace(&mut member.at, from);
        let locals_changed = member.locals != joining.locals;
        member.locals = joining.locals;
        let (came, went) = member.take_names(join, limits.names as usize);
        if was != from || locals_changed {
            self.list.moved(id);
        }
        if was != from {
            if joined == Joined::Stays {
                joined = Joined::Moved(was);
            }
            self.leave_address(was.ip());
            *self.at.entry(from.ip()).or_default() += 1;
        }
        for name in &went {
            self.list.unnamed(id, name);
            self.unname(id, name);
        }
        for name in came {
            self.list.named(id, &name);
            self.names.entry(name).or_default().insert(id);
        }
        joined
    }

    fn leave_address(&mut self, ip: IpAddr) {
        if let Some(count) = self.at.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.at.remove(&ip);
            }
        }
    }

    fn unname(&mut self, member: HostId, name: &Name) {
        if let Some(having) = self.names.get_mut(name) {
            having.remove(&member);
            if having.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// A member is gone.
    pub(super) fn remove(&mut self, now: Instant, id: HostId) -> Option<Member> {
        let member = self.members.remove(&id)?;
        self.leave_address(member.at.ip());
        for name in &member.names {
            self.unname(id, name);
        }
        self.list.left(id, member.names.iter());
        self.departed.insert(id, member.marks.clone());
        self.departures.push_back((now + DEPARTED, id));
        Some(member)
    }

    fn forget_departed(&mut self, now: Instant) {
        let most = 2 * self.members.len().max(512);
        while self.departures.front().is_some_and(|(until, _)| *until <= now || self.departures.len() > most) {
            let Some((_, id)) = self.departures.pop_front() else { break };
            // Who came and left again since is known for longer.
            if !self.departures.iter().any(|(_, other)| *other == id) {
                self.departed.remove(&id);
            }
        }
    }

    /// What a member is to hear of the list.
    pub(super) fn read(&self, reader: HostId, join: &Join, hide: bool) -> Option<Told> {
        let to = self.members.get(&reader)?;
        let change = |item: &Item| match item {
            Item::Came(id) | Item::Moved(id) if *id != reader => {
                let member = self.members.get(id)?;
                let locals = shown(&member.locals, member.at, to.at, &to.locals, hide);
                Some(Change::Member { member: *id, public: member.at, locals })
            }
            Item::Left(id) if *id != reader => Some(Change::Left(*id)),
            Item::Name(id, name) if *id != reader => Some(Change::Name(*id, name.clone())),
            Item::NameGone(id, name) if *id != reader => Some(Change::NameGone(*id, name.clone())),
            _ => None,
        };
        Some(self.list.read(join.seen, change))
    }

    /// When members are to hear that there is news, where they are not already.
    pub(super) fn news_at(&mut self, now: Instant) -> Option<Instant> {
        let share = NEWS_SHARE * u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let at = self.told.map_or(now, |told| told + share.max(NEWS_PAUSE)).max(now + NEWS_AFTER);
        self.news.is_none().then(|| *self.news.insert(at))
    }

    /// Names that members have.
    pub(super) fn name_count(&self) -> usize {
        self.names.len()
    }
}

/// The local addresses of a member, as another is told: none where they are hidden and it is behind another address, and none
/// that the reader has itself.
pub(super) fn shown(
    locals: &[SocketAddr],
    at: SocketAddr,
    reader: SocketAddr,
    own: &[SocketAddr],
    hide: bool,
) -> Vec<SocketAddr> {
    if hide && at.ip() != reader.ip() {
        return Vec::new();
    }
    locals.iter().copied().filter(|address| *address != reader && !own.contains(address)).collect()
}
