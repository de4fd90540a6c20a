//! Identities: who gets certificates, which peers are trusted or let in, and what is said of that by hand.

use std::time::Instant;

use identity::{CertificateDer, CheckError, Shown};
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, Name};

use super::flow::{Flow, Peer, Stage, Way};
use super::leave::no_flow;
use super::name::Origin;
use super::policy::Rank;
use super::register::changed;
use super::trust::{Asked, Grounds, Known, Source, not_taken};
use super::{Answer, Caller, Effect, Irm, Reply, check_version, fail, parse_name};
use crate::config::{Identity, MOST_TRUST, Pattern, TrustEntry};

/// What a program says its peer showed, read.
#[derive(Clone, Debug)]
pub struct Judging {
    /// The flow.
    pub flow: FlowId,
    /// The certificates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whose they are.
    pub shown: Result<Shown, CheckError>,
    /// This host's clock, seconds since 1970.
    pub wall: u64,
}

impl Irm {
    /// Whether the caller may have a certificate as it asks for. The owner makes it.
    pub(super) fn certify(&mut self, now: Instant, caller: &Caller, request: &v1::CertifyRequest) -> Answer {
        check_version(request.version)?;
        if request.name.is_empty() && !request.serving {
            return Ok(Some(Reply::Done));
        }
        let name = parse_name(&request.name)?;
        let process = self.processes.get(caller.pid).filter(|p| p.process.uid == caller.uid);
        let serves = process.is_some_and(|p| p.serves.contains(&name));
        if request.serving && !serves {
            let text = format!("process {} does not serve {name}; it must Serve the name first", caller.pid);
            return Err(fail(FailureKind::NotPermitted, text));
        }
        if !serves {
            // Whoever asks as a name could as well serve it.
            self.check_serve(now, caller, &name)?;
        }
        Ok(Some(Reply::Done))
    }

    /// Whether who is at the other end of the caller's flow is the right one.
    pub(super) fn judge(&mut self, now: Instant, caller: &Caller, asked: &Judging) -> Answer {
        let flow = self.held(now, caller, asked.flow)?;
        let (name, peer) = (flow.name.clone(), flow.peer_address().to_owned());
        let asking = match &flow.way {
            Way::Out(out) => Some(out.host_key),
            Way::In(_) => None,
            Way::Local(_) => {
                let text = format!("flow {} stays within this host: the kernel says who is at its ends", asked.flow);
                return Err(fail(FailureKind::Invalid, text));
            }
        };
        let shown = asked.shown.clone().map_err(|error| {
            let text = match asking {
                Some(_) => not_taken(&name, &peer, &error),
                None => format!("the identity of who asks for {name} at {peer} is not taken: {error}"),
            };
            self.refused(now, "refused_identities", FailureKind::Untrusted, text.clone(), text)
        })?;
        let grounds = match asking {
            Some(directory) => {
                let first_use = self.options.trust_first_use;
                let (uid, chain, wall) = (caller.uid, &asked.chain[..], asked.wall);
                let asked = Asked { name: &name, uid, peer: &peer, shown: &shown, chain, directory, first_use, wall };
                let grounds = self.trust.judge(&asked);
                let grounds = grounds.map_err(|text| {
                    self.refused(now, "refused_identities", FailureKind::Untrusted, text.clone(), text)
                })?;
                self.remember(caller.uid, &name, &shown, grounds, wall)?;
                grounds
            }
            None => self.let_in(now, &name, &peer, &shown, asked)?,
        };
        let reply = v1::JudgeReply {
            host: shown.host.to_string(),
            name: shown.name.as_ref().map(Name::to_string).unwrap_or_default(),
            trusted_by: grounds.as_str().to_owned(),
        };
        self.flow_log(
            asked.flow,
            format!("flow {} of {name}: the peer at {peer} is {}, by {}", asked.flow, shown.host, reply.trusted_by),
        );
        if let Some(flow) = self.flows.get_mut(asked.flow) {
            let words = format!("{}, by {}", shown.host, grounds.as_str());
            flow.peer = Some(Box::new(Peer { shown, grounds }));
            self.note(asked.flow, v1::EventKind::Judged, Some(words.into()));
        }
        Ok(Some(Reply::Judged(reply)))
    }

    /// The flow between hosts that a caller's process holds.
    fn held(&self, now: Instant, caller: &Caller, id: FlowId) -> Result<&Flow, Failure> {
        let holder = |flow: &&Flow| {
            let holder = match (&flow.way, &flow.stage) {
                (Way::In(_), Stage::Allocated { to }) => to.as_ref(),
                (Way::In(_), _) => None,
                _ => flow.caller(),
            };
            let accepting = matches!(&flow.way, Way::Local(_)).then(|| flow.stage.acceptor()).flatten();
            [holder, accepting].into_iter().flatten().any(|p| (p.pid, p.uid) == (caller.pid, caller.uid))
        };
        let row = self.flows.row(id).and_then(|row| self.flows.get(row));
        row.filter(holder).ok_or_else(|| self.unless_returning(now, no_flow(id)))
    }

    /// A host that is trusted for the first time is so from now on.
    fn remember(&mut self, uid: u32, name: &Name, shown: &Shown, grounds: Grounds, wall: u64) -> Result<(), Failure> {
        let source = match grounds {
            Grounds::FirstUse => Source::FirstUse,
            Grounds::Directory => Source::Directory,
            _ => return Ok(()),
        };
        if let Some(why) = self.trust.is_full(uid, self.is_unlimited(uid)) {
            let text = format!("the host of {name} cannot be remembered: {why}; irm identity forget takes some away");
            return Err(self.exhausted("refused_memories", text));
        }
        let (host, since) = (shown.host, wall);
        self.trust.remember(Known { uid, name: name.clone(), host, source, since });
        self.effects.push_back(Effect::PersistKnown);
        self.info(format!("the host of {name} is {host} from now on, for flows of user {uid} ({})", source.as_str()));
        Ok(())
    }

    /// Whether a host may allocate flows to a name of this one. It hears who it is, and no more.
    fn let_in(
        &mut self,
        now: Instant,
        name: &Name,
        peer: &str,
        shown: &Shown,
        asked: &Judging,
    ) -> Result<Grounds, Failure> {
        let host = shown.host;
        let admission = self.about(name.as_str(), self.settings.uid).admit(host, &asked.chain, asked.wall);
        let Some((grounds, ruling)) = admission else { return Ok(Grounds::Any) };
        grounds.ok_or_else(|| {
            let log = format!(
                "the host {host} at {peer} may not allocate flows to {name}: {ruling}; to let it in: irm identity allow \
                 {name} {host}"
            );
            let text = format!("the host {host} may not allocate flows to {name}");
            (log, text)
        })
        .map_err(|(log, text)| {
            self.refused(now, "refused_allocate_remote", FailureKind::NotPermitted, text, log)
        })
    }

    /// Whether a peer that shows no identity may allocate flows to a name.
    pub(super) fn check_plaintext(&mut self, now: Instant, name: &Name, peer: &str) -> Result<(), Failure> {
        if !self.judges_identities(name) {
            return Ok(());
        }
        let reason = "it asks for identity: ask for a message or stream flow".to_owned();
        let text = format!("{name} asks for identity: ask for a message or stream flow");
        let log = format!("{peer} may not allocate raw flows to {name}: its rule asks for identity");
        let failure = self.refused(now, "refused_allocate_remote", FailureKind::NotPermitted, text, log);
        // The peer may know: that it must show who it is tells nothing of who is let in.
        Err(Failure { reason, ..failure })
    }

    /// Somebody is trusted with a name from now on: for all, if an administrator says so, else for the caller's flows.
    pub(super) fn identity_trust(
        &mut self,
        now: Instant,
        caller: &Caller,
        name: &str,
        who: Identity,
        wall: u64,
    ) -> Answer {
        let pattern = Pattern::new(name).map_err(|e| fail(FailureKind::Invalid, e))?;
        if self.rank(caller) == Rank::User {
            return self.trust_own(now, caller, name, &who, wall);
        }
        let (mut entry, origin) = match self.trust.pin_of(&pattern) {
            Some(pinned) => (pinned.entry.clone(), changed(pinned.origin)),
            None if self.trust.pins().len() >= MOST_TRUST => {
                let text = format!("{MOST_TRUST} names and patterns are trusted by hand, as many as may; use patterns");
                return Err(fail(FailureKind::Exhausted, text));
            }
            None => (TrustEntry { name: pattern, identities: Vec::new() }, Origin::Runtime),
        };
        // A file of CAs is read again.
        entry.identities.retain(|known| *known != who);
        entry.identities.push(who);
        entry.check().map_err(|e| fail(FailureKind::Invalid, e))?;
        self.trust.pin(entry, origin);
        // By hand outranks memory, which would only puzzle.
        if self.trust.forget(name, |_| true) > 0 {
            self.effects.push_back(Effect::PersistKnown);
        }
        self.effects.push_back(Effect::Persist);
        Ok(Some(Reply::Done))
    }

    fn trust_own(&mut self, now: Instant, caller: &Caller, name: &str, who: &Identity, wall: u64) -> Answer {
        let uid = caller.uid;
        let &Identity::Host(host) = who else { return Err(self.only_hosts(now, uid)) };
        if Pattern::is_one(name) {
            return Err(self.only_hosts(now, uid));
        }
        let name = parse_name(name)?;
        let known = self.trust.known().any(|known| known.uid == uid && known.name == name);
        if !known && let Some(why) = self.trust.is_full(uid, self.is_unlimited(uid)) {
            return Err(self.exhausted("refused_memories", format!("{why}; irm identity forget takes some away")));
        }
        self.trust.remember(Known { uid, name, host, source: Source::Trusted, since: wall });
        self.effects.push_back(Effect::PersistKnown);
        Ok(Some(Reply::Done))
    }

    fn only_hosts(&mut self, now: Instant, uid: u32) -> Failure {
        let text = format!(
            "user {uid} may not trust CAs, or anybody with a pattern, only single hosts with whole names, for flows of its own; \
             ask an administrator"
        );
        self.refused(now, "refused_administration", FailureKind::NotPermitted, text.clone(), text)
    }

    /// Somebody is trusted no longer: in whatever was said by hand, if an administrator says so, and in memory.
    pub(super) fn identity_forget(&mut self, caller: &Caller, name: &str, who: Option<&Identity>) -> Answer {
        let pattern = Pattern::new(name).map_err(|e| fail(FailureKind::Invalid, e))?;
        let administrator = self.rank(caller) >= Rank::Administrator;
        let is_it = |identity: &Identity| who.is_none_or(|who| who == identity);
        let remembered = self
            .trust
            .forget(name, |known| (administrator || known.uid == caller.uid) && is_it(&Identity::Host(known.host)));
        if remembered > 0 {
            self.effects.push_back(Effect::PersistKnown);
        }
        let mut forgotten = remembered;
        if administrator && let Some(pinned) = self.trust.pin_of(&pattern) {
            let (mut entry, origin) = (pinned.entry.clone(), changed(pinned.origin));
            let before = entry.identities.len();
            entry.identities.retain(|identity| !is_it(identity));
            if entry.identities.len() < before {
                forgotten += before - entry.identities.len();
                self.trust.pin(entry, origin);
                self.effects.push_back(Effect::Persist);
            }
        }
        if forgotten == 0 {
            let text = format!("nobody of the kind is trusted with {name}; see irm identity list");
            return Err(fail(FailureKind::NotFound, text));
        }
        Ok(Some(Reply::Forgotten(u32::try_from(forgotten).unwrap_or(u32::MAX))))
    }

    /// What is trusted by hand, and what is remembered: of all users only for an administrator.
    pub(super) fn identity_list(&self, caller: &Caller) -> Answer {
        let all = self.rank(caller) >= Rank::Administrator;
        let by_hand = self.trust.pins().iter().flat_map(|pinned| {
            let source = if pinned.origin == Origin::Config { "irmd.toml" } else { "runtime.toml" };
            pinned.entry.identities.iter().map(move |identity| v1::TrustInfo {
                name: pinned.entry.name.as_str().to_owned(),
                identity: identity.to_string(),
                source: source.to_owned(),
                ..v1::TrustInfo::default()
            })
        });
        let known = self.trust.known().filter(|known| all || known.uid == caller.uid).map(|known| v1::TrustInfo {
            name: known.name.to_string(),
            identity: known.host.to_string(),
            source: known.source.as_str().to_owned(),
            user: known.uid.to_string(),
            since: known.since,
        });
        Ok(Some(Reply::Trusts(by_hand.chain(known).collect())))
    }

    /// One more identity that a name, or the names of a pattern, let in, or one less.
    pub(super) fn identity_allow(&mut self, name: &str, who: Option<Identity>, remove: bool) -> Answer {
        let mut rules = self.rules_of(name)?;
        match who {
            // Nobody has to show an identity any more, as far as this rule goes.
            None => rules.identities = None,
            Some(who) => {
                let list = rules.identities.get_or_insert_default();
                let before = list.len();
                list.retain(|known| *known != who);
                if remove && list.len() == before {
                    let text = format!("{name} does not let {who} in; see irm name list --json");
                    return Err(fail(FailureKind::NotFound, text));
                }
                if !remove {
                    list.push(who);
                }
            }
        }
        rules.check().map_err(|e| fail(FailureKind::Invalid, e))?;
        self.set_rules(name, rules)
    }

    /// Hosts that were remembered by an earlier irmd. To be called before [`Self::begin`].
    pub fn restore_known(&mut self, known: Vec<Known>) {
        known.into_iter().for_each(|known| self.trust.remember(known));
    }

    /// Hosts that are remembered, to be written down.
    pub fn known_hosts(&self) -> impl Iterator<Item = &Known> {
        self.trust.known()
    }
}
