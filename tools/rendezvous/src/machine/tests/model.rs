//! Random histories against a naive model: who is there, with which names, where; what each member has heard; what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proto::rendezvous::{Change, Joined, NamesAt, Refusal, Said, Seen};
use proto::{BootId, HostId};

use super::super::*;
use super::world::*;

const MEMBERS: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Step {
    /// It joins or is heard again, and names one more.
    Join(usize, Option<u8>),
    /// The same, and no answer comes.
    Lost(usize, Option<u8>),
    Leave(usize),
    /// Its NAT forgot.
    Move(usize, u8),
    /// Its shim is started anew.
    Boot(usize),
    /// It has other names.
    Rename(usize, Vec<u8>),
    Introduce(usize, u8),
    Wait(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..MEMBERS;
    prop_oneof![
        8 => (who(), proptest::option::of(0..6_u8)).prop_map(|(who, name)| Step::Join(who, name)),
        2 => (who(), proptest::option::of(0..6_u8)).prop_map(|(who, name)| Step::Lost(who, name)),
        1 => who().prop_map(Step::Leave),
        1 => (who(), 0..4_u8).prop_map(|(who, to)| Step::Move(who, to)),
        1 => who().prop_map(Step::Boot),
        1 => (who(), proptest::collection::vec(0..6_u8, 0..4)).prop_map(|(who, names)| Step::Rename(who, names)),
        3 => (who(), 0..6_u8).prop_map(|(who, name)| Step::Introduce(who, name)),
        2 => (0..60_u8).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

fn text(name: u8) -> String {
    format!("name-{name}")
}

/// What a member has, as it thinks.
struct Player {
    peer: Peer,
    /// Changes of its names, all of this generation.
    log: Vec<String>,
    has: BTreeMap<HostId, (std::net::SocketAddr, BTreeSet<String>)>,
}

/// What the server should have of a member.
#[derive(Clone, Debug, PartialEq)]
struct Truth {
    at: std::net::SocketAddr,
    names: BTreeSet<String>,
    /// Seconds since it was heard.
    silent: u32,
}

struct Game {
    world: World,
    players: Vec<Player>,
    truth: BTreeMap<usize, Truth>,
    next_id: u64,
}

impl Game {
    fn new() -> Self {
        let player = |n: usize| Player {
            peer: Peer::new(n as u64 + 1, &format!("203.0.{n}.1:3359")),
            log: Vec::new(),
            has: BTreeMap::new(),
        };
        Self {
            world: World::new(rules()),
            players: (0..MEMBERS).map(player).collect(),
            truth: BTreeMap::new(),
            next_id: 1,
        }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Join(who, name) => self.join(*who, *name, true),
            Step::Lost(who, name) => self.join(*who, *name, false),
            Step::Leave(who) => self.leave(*who),
            Step::Move(who, to) => {
                self.players[*who].peer.at = address(&format!("203.0.{who}.1:{}", 1_000 + u16::from(*to)))
            }
            Step::Boot(who) => {
                let peer = &mut self.players[*who].peer;
                (peer.boot, peer.count) = (BootId(peer.boot.0 + 1_000), 0);
                self.begin_names(*who);
            }
            Step::Rename(who, names) => {
                self.players[*who].log =
                    names.iter().map(|name| text(*name)).collect::<BTreeSet<_>>().into_iter().collect();
                self.begin_names(*who);
            }
            Step::Introduce(who, name) => self.introduce(*who, *name),
            Step::Wait(seconds) => self.wait((*seconds).into()),
            Step::Restart => {
                let places = self.world.server.places.clone();
                self.next_id += 1;
                // Another one each time, and not the first's.
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&self.next_id.to_be_bytes());
                self.world.server = Server::new(rules(), places, seed);
                self.truth.clear();
            }
        }
    }

    fn begin_names(&mut self, who: usize) {
        let at = &mut self.players[who].peer.names_at;
        *at = NamesAt { generation: at.generation + 1, count: 0 };
    }

    fn join(&mut self, who: usize, name: Option<u8>, heard: bool) {
        let player = &mut self.players[who];
        if let Some(name) = name.map(text).filter(|name| !player.log.contains(name)) {
            player.log.push(name);
        }
        let (known, from) = (player.peer.names_at, player.peer.names_at.count as usize);
        let (log, before) = (player.log.clone(), player.peer.clone());
        let names: Vec<&str> = log.iter().skip(from).map(String::as_str).collect();
        let Some(joined) = self.world.join(&mut self.players[who].peer, &names) else { panic!("{who} is not let in") };
        // The server takes what fits what it has: a new beginning, or what comes behind what it has.
        let fresh = joined.names_at.generation == known.generation;
        let truth = self.truth.entry(who).or_insert(Truth { at: before.at, names: BTreeSet::new(), silent: 0 });
        (truth.at, truth.silent) = (before.at, 0);
        if fresh {
            truth.names = log.iter().take(joined.names_at.count as usize).cloned().collect();
        }
        let player = &mut self.players[who];
        if heard {
            player.take(joined);
            if !fresh {
                self.begin_names(who);
            }
        } else {
            (player.peer.seen, player.peer.names_at) = (before.seen, before.names_at);
        }
    }

    fn leave(&mut self, who: usize) {
        let peer = &mut self.players[who].peer;
        peer.count += 1;
        let (at, id, boot) = (peer.at, peer.count, peer.boot);
        let stale = |said: &[Said]| said.is_empty();
        let said = self.world.say(peer, at, id, |cookie| Said::Leave { boot, cookie });
        // A shim that was started anew and never joined since cannot leave for the one before.
        assert!(said == [Said::Left] || stale(&said), "{said:?}");
        if said == [Said::Left] {
            self.truth.remove(&who);
        }
    }

    fn introduce(&mut self, who: usize, name: u8) {
        self.next_id += 1;
        let (id, name) = (self.next_id, text(name));
        let from = self.players[who].peer.at;
        let from = format!("{}:{}", from.ip(), 40_000);
        let said = self.world.introduce(&mut self.players[who].peer, &from, id, &name);
        let others: Vec<usize> = self
            .truth
            .iter()
            .filter(|(other, truth)| **other != who && truth.names.contains(&name))
            .map(|(n, _)| *n)
            .collect();
        let own = self.truth.get(&who).is_some_and(|truth| truth.names.contains(&name));
        let refused = |refusal| vec![Said::NotIntroduced(refusal)];
        let silent = |other: &usize| self.truth[other].silent > 62;
        if !self.truth.contains_key(&who) {
            assert_eq!(said, refused(Refusal::UnknownAttempt));
        } else if others.is_empty() {
            assert_eq!(said, refused(if own { Refusal::Yourself } else { Refusal::UnknownName }));
        } else if said == [Said::Introducing] {
            let told: Vec<usize> = (0..MEMBERS).filter(|n| self.is_told(*n)).collect();
            assert!(told.len() == 1 && others.contains(&told[0]) && !silent(&told[0]), "{told:?} of {others:?}");
        } else {
            let why = if others.iter().any(silent) { Refusal::Silent } else { Refusal::TooMany };
            assert_eq!(said, refused(why), "{others:?}");
        }
    }

    /// Whether an introduction went to where the member is.
    fn is_told(&self, who: usize) -> bool {
        let Some(truth) = self.truth.get(&who) else { return false };
        let said = self.world.answers(&self.players[who].peer, truth.at);
        said.iter().any(|said| matches!(said, Said::Introduction(_)))
    }

    fn wait(&mut self, seconds: u32) {
        for sent in self.world.pass(SECOND * seconds) {
            assert!(self.truth.values().any(|truth| truth.at == sent.to), "a word to nobody");
        }
        for truth in self.truth.values_mut() {
            truth.silent += seconds;
        }
        self.truth.retain(|_, truth| truth.silent < 100);
    }

    fn check(&self) {
        let status = self.world.server.status(self.world.now, Some("lobby"));
        let seen = |n: &usize| self.players[*n].peer.host.to_string();
        let want: Vec<_> =
            self.truth.iter().map(|(n, truth)| (seen(n), truth.at.to_string(), truth.names.clone())).collect();
        let have = status.of_session.into_iter();
        let have: Vec<_> = have.map(|m| (m.host, m.public, m.names.into_iter().collect::<BTreeSet<_>>())).collect();
        assert_eq!(have, want);
    }

    /// Whoever is there and asks until it has heard all has what there is.
    fn check_lists(&mut self) {
        for who in self.truth.keys().copied().collect::<Vec<_>>() {
            let mut asked = 0;
            loop {
                self.join(who, None, true);
                asked += 1;
                assert!(asked < 20, "{who} never hears all");
                let latest = self.world.server.sessions.values().find(|session| &*session.rules.name == "lobby");
                if latest.map(|session| session.list.latest()) == Some(self.players[who].peer.seen) && asked > 3 {
                    break;
                }
            }
        }
        // Once more: the others may have had something to say.
        for who in self.truth.keys().copied().collect::<Vec<_>>() {
            self.join(who, None, true);
            let others = self.truth.iter().filter(|(other, _)| **other != who);
            let want = others.map(|(n, truth)| (self.players[*n].peer.host, (truth.at, truth.names.clone())));
            assert_eq!(self.players[who].has, want.collect());
        }
    }
}

impl Player {
    fn take(&mut self, joined: Joined) {
        if joined.reset {
            self.has.clear();
        }
        for change in joined.changes {
            match change {
                Change::Member { member, public, .. } => {
                    self.has.entry(member).or_insert((public, BTreeSet::new())).0 = public
                }
                Change::Left(member) => drop(self.has.remove(&member)),
                Change::Name(member, name) => {
                    self.has.get_mut(&member).expect("a name of nobody").1.insert(name.to_string());
                }
                Change::NameGone(member, name) => {
                    self.has.get_mut(&member).map(|(_, names)| names.remove(name.as_str()));
                }
            }
        }
        assert_ne!(joined.seen, Seen::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_server_knows_what_a_naive_one_would(steps in proptest::collection::vec(step(), 1..80)) {
        let mut game = Game::new();
        for step in &steps {
            game.play(step);
            game.check();
        }
        game.check_lists();
        game.check();
        // All that lives has an end.
        game.world.pass(SECOND * 600);
        prop_assert_eq!(game.world.server.poll_timeout(), None);
        prop_assert_eq!(game.world.server.timers.len(), 0);
    }
}
