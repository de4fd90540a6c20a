//! `tcpstripe relay`: takes tracks, finds their group, and connects each group to the target.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use libflow::{AcceptError, Cube, Flow, Incoming, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::carrier::Carrier;
use super::inbox::Inbox;
use super::local::Local;
use super::registry::{Place, Registry};
use super::tie::{Command, Tie};
use super::{print, proxy, sockets};
use crate::machine::{Classic, Group, State, Stripe};
use crate::said::classic;
use crate::said::frame::{Abort, Frame};
use crate::said::join::{GroupId, Join};
use crate::said::rule::Relay;

/// Tracks that have not said yet which group they are of.
const UNKNOWN: usize = 256;
/// Groups that are over and remembered, so that a late track does not make them anew.
const REMEMBERED: usize = 1024;
/// Without descriptors, or without irmd: how long until the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Who opened a track, as far as its flow vouches for it, and the number it says.
type Key = (String, GroupId);

/// What groups are connected to.
pub(super) enum Target {
    /// The rule's target, by TCP.
    Dialled,
    /// A folder for files.
    Inbox(Arc<Inbox>),
}

/// A rule's relay.
pub(super) struct Relaying {
    pub(super) rule: Relay,
    name: Arc<str>,
    pub(super) registry: Arc<Registry>,
    target: Target,
    flows: Table<Key>,
    tcp: Table<NonZeroU32>,
    unknown: Arc<Semaphore>,
}

/// The groups of a rule.
struct Table<K>(Mutex<Groups<K>>);

struct Groups<K> {
    running: HashMap<K, mpsc::Sender<Command>>,
    /// With what a late track is told.
    over: VecDeque<(K, Abort)>,
}

impl<K: Eq + Hash + Clone> Table<K> {
    fn new() -> Self {
        Self(Mutex::new(Groups { running: HashMap::new(), over: VecDeque::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Groups<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, key: &K, state: State) {
        let why = match state {
            State::Aborted(why) => why,
            _ => Abort::NoGroup,
        };
        let mut groups = self.lock();
        groups.running.remove(key);
        groups.over.push_back((key.clone(), why));
        if groups.over.len() > REMEMBERED {
            groups.over.pop_front();
        }
    }
}

impl Relaying {
    pub(super) fn new(rule: Relay, name: Arc<str>, registry: Arc<Registry>, target: Target) -> Arc<Self> {
        let unknown = Arc::new(Semaphore::new(UNKNOWN));
        Arc::new(Self { rule, name, registry, target, flows: Table::new(), tcp: Table::new(), unknown })
    }

    /// The local side of a new group.
    async fn connect(&self, from: &str) -> io::Result<Local> {
        match &self.target {
            Target::Inbox(inbox) => inbox.begin(from.to_owned()).map(Local::pair),
            Target::Dialled => {
                let target = sockets::dial(&self.rule.to, self.rule.how.dial_timeout).await?;
                sockets::prepare(&target)?;
                Ok(Local::tcp(target))
            }
        }
    }
}

/// Takes TCP connections as tracks until it is dropped.
pub(super) async fn serve_tcp(listener: TcpListener, relaying: Arc<Relaying>) {
    loop {
        // Whoever connects and says nothing keeps a place for as long as dialling may take, and no longer.
        let Ok(room) = relaying.unknown.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let relaying = relaying.clone();
                tokio::spawn(async move {
                    if let Err(why) = take_tcp(&relaying, stream, from.to_string()).await {
                        relaying.registry.stranger();
                        print::log(&format!("{from}: no track, because {why}"));
                    }
                    drop(room);
                });
            }
            Err(error) if proxy::is_of_one(&error) => {}
            Err(error) => {
                print::log(&format!("cannot accept a track: {error}; trying again"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The seed's establishment, the relay's part.
async fn take_tcp(relaying: &Arc<Relaying>, mut stream: TcpStream, from: String) -> Result<(), String> {
    let words = |error: io::Error| format!("it broke: {error}");
    sockets::prepare_track(&stream).map_err(words)?;
    let within = relaying.rule.how.dial_timeout;
    let mut number = [0; classic::NUMBER];
    match tokio::time::timeout(within, stream.read_exact(&mut number)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(format!("it ended before it said a group's number: {error}")),
        Err(_) => return Err(format!("it said no group's number within {} s", within.as_secs_f64())),
    }
    let Some(number) = classic::read_number(number) else { return begin_tcp(relaying, stream, from).await };
    let commands = relaying.tcp.lock().running.get(&number).cloned();
    let commands = commands.ok_or_else(|| format!("there is no group {number}"))?;
    let first = Bytes::copy_from_slice(&classic::number(Some(number)));
    // The group itself answers: so the track is its own before the proxy knows.
    let joined = commands.try_send(Command::Track(Carrier::Tcp(stream), 0, first));
    joined.map_err(|_| format!("group {number} takes no more"))
}

/// The first track of a group: it is answered when the target has.
async fn begin_tcp(relaying: &Arc<Relaying>, stream: TcpStream, from: String) -> Result<(), String> {
    let rule = &relaying.rule;
    let Some((place, sender, commands)) = relaying.registry.enter(&relaying.name, from.clone()) else {
        return Err("as many clients as may be are served".to_owned());
    };
    let local =
        relaying.connect(&from).await.map_err(|error| format!("its target {} cannot be reached: {error}", rule.to))?;
    let number = {
        let mut groups = relaying.tcp.lock();
        let number = loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|error| format!("there are no random numbers: {error}"))?;
            match classic::read_number(bytes) {
                Some(number) if !groups.running.contains_key(&number) => break number,
                _ => {}
            }
        };
        groups.running.insert(number, sender);
        number
    };
    let mut tie = Tie::new(Box::new(Classic::new(&rule.how)), Some(local), commands);
    tie.add(Carrier::Tcp(stream), 0, Bytes::copy_from_slice(&classic::number(Some(number))));
    let relaying = relaying.clone();
    tokio::spawn(async move {
        finish(tie, &from, place, |state| relaying.tcp.end(&number, state)).await;
    });
    Ok(())
}

/// Runs a group to its end; `end` takes it from the table first, so that late tracks hear why it ended.
async fn finish(tie: Tie, from: &str, place: Place, end: impl FnOnce(State)) {
    let ended = tie.run().await;
    end(ended.outcome.state);
    let outcome = ended.close().await;
    proxy::tell(from, &outcome, place.age());
    place.leave(&outcome);
}

/// Takes flows as tracks until it is dropped.
pub(super) async fn serve_flows(listener: Listener, relaying: Arc<Relaying>) {
    loop {
        let Ok(room) = relaying.unknown.clone().acquire_owned().await else { return };
        match listener.incoming().await {
            Ok(incoming) => {
                let relaying = relaying.clone();
                tokio::spawn(async move {
                    let refused = take_flow(&relaying, incoming).await;
                    // Who takes its time to hear that it is none keeps nobody out.
                    drop(room);
                    if let Some((carrier, abort)) = refused {
                        refuse(*carrier, abort).await;
                    }
                });
            }
            Err(AcceptError::Gone { .. } | AcceptError::TimedOut(_)) => {}
            Err(error) => {
                print::log(&format!("cannot accept a track: {error}; trying again"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A track for its group; given back if it is for none.
async fn take_flow(relaying: &Arc<Relaying>, incoming: Incoming) -> Option<(Box<Carrier>, Abort)> {
    // Not authenticated yet: good enough to refuse whoever did not mean us.
    let wrong = match (incoming.qos().cube, Join::decode(incoming.data())) {
        (Cube::Stream, Ok(_)) => None,
        (Cube::Stream, Err(error)) => Some(error.to_string()),
        _ => Some("this name takes tracks of tcpstripe, which are stream flows".to_owned()),
    };
    if let Some(why) = wrong {
        relaying.registry.stranger();
        // It may be gone meanwhile.
        let _ = incoming.refuse(&why).await;
        return None;
    }
    let from = match incoming.peer().address.as_str() {
        "" => incoming.source().to_owned(),
        address => address.to_owned(),
    };
    let opened = async {
        let flow = incoming.accept().await.map_err(|error| error.to_string())?;
        let join = Join::decode(flow.data()).map_err(|error| error.to_string())?;
        let stream = flow.accept_stream().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((join, who(&flow), Carrier::Flow { stream, flow: Box::new(flow) }))
    };
    let (join, who, carrier) = match tokio::time::timeout(relaying.rule.how.dial_timeout, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(why)) => {
            no_track(relaying, &from, &why);
            return None;
        }
        Err(_) => {
            no_track(relaying, &from, "it opened no stream in time");
            return None;
        }
    };
    let refused = assign(relaying, join, who, carrier, from.clone()).err()?;
    no_track(relaying, &from, refused.1.words());
    Some(refused)
}

fn no_track(relaying: &Relaying, from: &str, why: &str) {
    relaying.registry.stranger();
    print::log(&format!("{from}: no track, because {why}"));
}

/// Who opened a flow: the host that its handshake showed, or somebody on this host.
fn who(flow: &Flow) -> String {
    match &flow.peer().identity {
        Some(identity) => identity.host.clone(),
        None => format!("local {}", flow.peer().source),
    }
}

/// Gives a track to its group; the first one makes it.
fn assign(
    relaying: &Arc<Relaying>,
    join: Join,
    who: String,
    carrier: Carrier,
    from: String,
) -> Result<(), (Box<Carrier>, Abort)> {
    let key = (who, join.group);
    let mut groups = relaying.flows.lock();
    if let Some((_, why)) = groups.over.iter().find(|(over, _)| *over == key) {
        return Err((Box::new(carrier), *why));
    }
    if let Some(commands) = groups.running.get(&key) {
        let joined = commands.try_send(Command::Track(carrier, join.track, Bytes::new()));
        return joined.map_err(|full| match full.into_inner() {
            Command::Track(carrier, ..) => (Box::new(carrier), Abort::NoGroup),
            Command::View(_) | Command::Stop => unreachable!("what was sent comes back"),
        });
    }
    if join.again {
        return Err((Box::new(carrier), Abort::NoGroup));
    }
    let Some((place, sender, commands)) = relaying.registry.enter(&relaying.name, from.clone()) else {
        return Err((Box::new(carrier), Abort::Busy));
    };
    groups.running.insert(key.clone(), sender);
    drop(groups);
    let relaying = relaying.clone();
    tokio::spawn(async move {
        let tie = tie(&relaying, join, carrier, &from, commands).await;
        finish(tie, &from, place, |state| relaying.flows.end(&key, state)).await;
    });
    Ok(())
}

/// A group whose target is dialled while its tracks come; if that fails, its tracks are told.
async fn tie(relaying: &Relaying, join: Join, carrier: Carrier, from: &str, commands: mpsc::Receiver<Command>) -> Tie {
    let rule = &relaying.rule;
    let mut machine = Stripe::new(std::time::Instant::now(), &rule.how, Some(join.window));
    let (local, why) = match relaying.connect(from).await {
        Ok(local) => (Some(local), None),
        Err(error) => {
            let refused = error.kind() == io::ErrorKind::ConnectionRefused;
            machine.abort(if refused { Abort::Refused } else { Abort::Unreachable });
            (None, Some(format!("the target {} cannot be reached: {error}", rule.to)))
        }
    };
    let mut tie = Tie::new(Box::new(machine), local, commands);
    tie.why = why;
    tie.add(carrier, join.track, Bytes::new());
    tie
}

/// Tells a track why it is none.
async fn refuse(carrier: Carrier, abort: Abort) {
    let Carrier::Flow { mut stream, flow } = carrier else { return };
    // It may be gone, and then knows.
    let _ = stream.write_all(&Frame::Abort(abort).encode()).await;
    let _ = stream.finish();
    Carrier::Flow { stream, flow }.close().await;
}
