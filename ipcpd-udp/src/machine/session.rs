//! This shim in its session with a rendezvous: names go there, introductions come from there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use proto::rendezvous::{Refusal, Seen};
use proto::v1::{EndReason, Failure, FailureKind};
use proto::{HostId, Name};

use super::directory::begins;
use super::flow::Flow;
use super::meeting::carried_to;
use super::output::Output;
use super::rendezvous::member::{Event, Member, Standing};
use super::rendezvous::nat;
use super::table::Phase;
use super::{Reason, Shim};

/// Flows that others were introduced for and that have no path yet, at most.
const MOST_MEETING: usize = 256;

impl Shim {
    /// The server was looked up.
    pub fn server_found(&mut self, now: Instant, found: Option<SocketAddr>) {
        let Some(member) = &mut self.member else { return };
        match found {
            Some(server) => member.server_at(now, server),
            None => member.no_server(now),
        }
        self.session_steps(now);
    }

    /// A datagram of the rendezvous' family, or one that claims to be, on the listen port.
    pub(super) fn handle_session(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let Some(member) = &mut self.member else { return self.counters.count(Reason::UnexpectedControl) };
        if let Err(malformed) = member.handle(now, from, bytes, &mut self.rng) {
            self.counters.count(malformed);
        }
        self.session_steps(now);
    }

    pub(super) fn session_timeout(&mut self, now: Instant) {
        if let Some(member) = &mut self.member {
            member.handle_timeout(now);
            self.session_steps(now);
        }
    }

    pub(super) fn next_of_session(&self) -> Option<Instant> {
        self.member.as_ref().and_then(|member| member.poll_timeout())
    }

    /// What the member wants to say, and to be done.
    pub(super) fn session_steps(&mut self, now: Instant) {
        self.measuring_steps(now);
        while let Some((to, bytes)) = self.member.as_mut().and_then(|member| member.poll_output()) {
            self.out(Output::SendListen { to, bytes });
        }
        while let Some(event) = self.member.as_mut().and_then(|member| member.poll_event()) {
            match event {
                Event::FindServer => {
                    if let Some(rendezvous) = &self.settings.rendezvous {
                        self.outputs.push_back(Output::FindServer { server: rendezvous.server.clone() });
                    }
                }
                Event::Stands(standing) => {
                    let text = self.session_words().unwrap_or_default();
                    self.out(match standing {
                        Standing::Joined | Standing::Left => Output::Note { text: text.into() },
                        Standing::Joining | Standing::Unknown | Standing::Full => Output::Warn { text: text.into() },
                    });
                }
                Event::Carried(from, payload) => {
                    if payload.first() == Some(&0) && !proto::rendezvous::is_ours(&payload) {
                        self.handle_control(now, carried_to(from), &payload);
                    }
                }
                Event::Measure => self.open_measuring(now),
                Event::Measured => self.close_measuring(now),
                Event::Introduction(introduction) => {
                    self.counters.count(Reason::Introductions);
                    let attempt = introduction.attempt;
                    if let Err(refusal) = self.introduced(now, introduction)
                        && let Some(member) = &mut self.member
                    {
                        member.decline(attempt, refusal);
                    }
                }
            }
        }
        while let Some((to, bytes)) = self.member.as_mut().and_then(|member| member.poll_output()) {
            self.out(Output::SendListen { to, bytes });
        }
        self.look_at_router(now);
        self.look_around(now);
    }

    /// Why this side cannot meet another one now.
    pub(super) fn no_meeting(&mut self, name: &Name) -> Option<Refusal> {
        if !self.directory.answers_for(name) {
            return Some(Refusal::UnknownName);
        }
        let full = self.stopping.is_some() || self.full();
        if full {
            return Some(Refusal::Exhausted);
        }
        (self.tallied(Phase::Meeting) >= MOST_MEETING).then_some(Refusal::TooMany)
    }

    /// How it stands with the session, in a sentence; nothing without one.
    pub fn session_words(&self) -> Option<String> {
        let member = self.member.as_ref()?;
        let rendezvous = self.settings.rendezvous.as_ref()?;
        let (session, server) = (&rendezvous.name, &rendezvous.server);
        Some(match member.standing() {
            Standing::Joined => {
                let public = member.public().map_or_else(|| "nowhere".to_owned(), |public| public.to_string());
                let nat = nat::words(member.nat());
                let others = member.others().len();
                let router = self.router_words().map_or_else(String::new, |words| format!("; {words}"));
                format!(
                    "joined session {session} at {server}: seen as {public}, NAT: {nat}, {others} other members{router}"
                )
            }
            Standing::Joining if member.server().is_none() => format!(
                "session {session}: {server} is not found yet; see that a name server says where it is (asked again every 8 s)"
            ),
            Standing::Joining => {
                format!("session {session}: {server} does not answer yet; see that it runs and UDP may go there")
            }
            Standing::Unknown => format!(
                "session {session}: {server} knows no such session, or its key is another; compare --session and --key-file"
            ),
            Standing::Full => format!(
                "session {session}: {server} has no room for another member, or is about to end; raise members or \
                 members-per-address there, or have a member leave (asked again every 10 s)"
            ),
            Standing::Left => format!("left session {session} at {server}"),
        })
    }

    /// Which other members have the name, where they are seen.
    pub fn members_with(&self, name: &Name) -> Vec<(HostId, SocketAddr)> {
        let others = self.member.iter().flat_map(|member| member.others());
        others.filter(|(_, other)| other.names.contains(name)).map(|(id, other)| (*id, other.public)).collect()
    }

    /// Names of other hosts that begin so: of the session's members and the static table, in order, at most so many.
    pub fn names_below(&self, prefix: &Name, most: usize) -> Vec<Name> {
        let others = self.member.iter().flat_map(|member| member.others().values());
        let behind = (Bound::Excluded(prefix), Bound::Unbounded);
        let of_members =
            others.flat_map(|other| other.names.range::<Name, _>(behind).take_while(|name| begins(name, prefix)));
        let mut names: BTreeSet<&Name> = self.directory.hosts_below(prefix, self.settings.listen).take(most).collect();
        for name in of_members {
            names.insert(name);
            if names.len() > most {
                names.pop_last();
            }
        }
        names.into_iter().cloned().collect()
    }

    /// How much is known of the session's members and their names; nothing without one.
    pub fn members_seen(&self) -> Seen {
        self.member.as_ref().map(|member| member.seen()).unwrap_or_default()
    }

    pub(super) fn name_added(&mut self, now: Instant, name: &Name) {
        if let Some(member) = &mut self.member {
            member.add_name(now, name);
        }
    }

    pub(super) fn name_removed(&mut self, now: Instant, name: &Name) {
        if let Some(member) = &mut self.member {
            member.remove_name(now, name);
        }
    }

    /// Where the rendezvous is, once it was found.
    pub fn rendezvous_at(&self) -> Option<SocketAddr> {
        self.member.as_ref().and_then(|member| member.server())
    }

    /// The listen port is at another address of this host now. Flows that can go there do, the others stay where they are.
    pub fn moved(&mut self, now: Instant, listen: SocketAddr) {
        self.settings.listen = listen;
        if let Some(member) = &mut self.member {
            member.moved(now, listen);
        }
        self.router_is_elsewhere();
        self.session_steps(now);
        self.rename(now);
        self.go_along(now, listen.ip());
    }

    /// This host has no such address any more. What is bound to it ends: no socket can be bound anew.
    pub fn lost_address(&mut self, now: Instant, address: IpAddr) {
        let on_it = |flow: &Flow| flow.local.is_some_and(|local| local.ip() == address);
        for key in self.flows.iter().filter(|(_, flow)| on_it(flow)).map(|(key, _)| *key).collect::<Vec<_>>() {
            // The peer's NAT lets in nothing from an address that it never sent to: the server says it.
            if let Some(flow) = self.flows.get_mut(&key)
                && let (Some(of), true) = (flow.of, flow.way.is_some())
            {
                (flow.control, flow.vital.strayed) = (carried_to(of.host), true);
            }
            self.end(now, key, EndReason::AddressGone);
            self.settle(key);
        }
    }

    pub(super) fn leave_session(&mut self, now: Instant) {
        if let Some(member) = &mut self.member {
            member.leave();
        }
        self.session_steps(now);
    }

    /// Why a flow cannot be asked for through the rendezvous in this moment; nothing where it can.
    pub(super) fn not_joined(&self) -> Option<Failure> {
        let member: &Member = self.member.as_ref()?;
        let failed = |kind| self.session_words().map(|text| Failure::new(kind, text));
        match member.standing() {
            Standing::Joined => None,
            Standing::Unknown => failed(FailureKind::NotPermitted),
            Standing::Full => failed(FailureKind::Exhausted),
            Standing::Joining | Standing::Left => failed(FailureKind::DirectoryFailed),
        }
    }
}

/// A flow that is asked for before this host is a member looks again after this.
pub(super) const NOT_YET: Duration = Duration::from_millis(50);
