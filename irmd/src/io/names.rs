//! Names that begin alike, for programs that are a group: those of this host and what each layer knows, told whole, again each
//! time they change.
#![expect(clippy::disallowed_methods, reason = "io owns timers; a follower's task ends with its stream")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::MOST_NAMES;
use proto::v1::{Failure, KnownName, NamesReply, NamesRequest};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::api_irm::nonsense;
use super::calls::Asker;
use super::ipcp::{self, Links};
use super::places::{Place, Places};
use crate::machine::{Caller, Command, Reply};

/// Streams of one user, and of all users but root.
const STREAMS_OF_USER: usize = 64;
const STREAMS_OF_USERS: usize = 256;
/// The first answer waits so long for layers that do not say anything.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Changes that come together are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// An IPCP that does not answer is asked again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// What it takes to follow names.
#[derive(Clone)]
pub(super) struct Following {
    pub(super) asker: Asker,
    pub(super) links: Links,
    /// Changes when names of this host are served, or no longer.
    pub(super) served: watch::Receiver<u64>,
    pub(super) places: Places,
}

/// A stream of names.
pub(super) type Stream = ReceiverStream<Result<NamesReply, Status>>;

type To = mpsc::Sender<Result<NamesReply, Status>>;

impl Following {
    pub(super) fn new(asker: Asker, links: Links, served: watch::Receiver<u64>) -> Self {
        Self { asker, links, served, places: Places::new("follow names", STREAMS_OF_USER, STREAMS_OF_USERS) }
    }

    /// The names, as long as the stream is read. Fails at once where the request makes no sense.
    pub(super) async fn follow(&self, caller: Caller, request: NamesRequest) -> Result<Stream, Failure> {
        let place = self.places.place(caller.uid)?;
        let mut served = self.served.clone();
        served.mark_unchanged();
        let here = here(&self.asker, &caller, &request).await?;
        let (to, stream) = mpsc::channel(1);
        let follower =
            Follower { of: self.clone(), caller, request, served, here, layers: Layers::default(), told: None };
        tokio::spawn(follower.run(to, place));
        Ok(ReceiverStream::new(stream))
    }
}

async fn here(asker: &Asker, caller: &Caller, request: &NamesRequest) -> Result<BTreeMap<String, bool>, Failure> {
    match asker.ask(caller.clone(), Command::Names(request.clone())).await? {
        Reply::NamesHere(names) => Ok(names),
        other => Err(nonsense(&other)),
    }
}

/// What IPCPs told and the follower has not looked at: the last word of each. Who tells never waits: all that irmd and an
/// IPCP say to each other shares one connection, which a follower that is not read would stop.
#[derive(Default)]
struct Said {
    last: Mutex<BTreeMap<String, NamesReply>>,
    news: Notify,
}

impl Said {
    fn tell(&self, ipcp: &str, names: NamesReply) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(ipcp.to_owned(), names);
        self.news.notify_one();
    }

    fn take(&self) -> BTreeMap<String, NamesReply> {
        std::mem::take(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the layers say, each as its IPCP told last.
#[derive(Default)]
struct Layers {
    readers: JoinSet<()>,
    /// By IPCP: its reader, and what it told.
    of: BTreeMap<String, (AbortHandle, Option<NamesReply>)>,
}

struct Follower {
    of: Following,
    caller: Caller,
    request: NamesRequest,
    served: watch::Receiver<u64>,
    here: BTreeMap<String, bool>,
    layers: Layers,
    told: Option<NamesReply>,
}

impl Follower {
    async fn run(mut self, to: To, _place: Place) {
        let mut links = self.of.links.changes();
        let said = Arc::new(Said::default());
        self.read_all(&said);
        let first = tokio::time::sleep(FIRST_WITHIN);
        tokio::pin!(first);
        let mut waits = true;
        loop {
            if !waits || self.layers.of.values().all(|(_, told)| told.is_some()) {
                waits = false;
                if self.tell(&to).await.is_err() {
                    return;
                }
                tokio::time::sleep(TOGETHER).await;
            }
            tokio::select! {
                () = to.closed() => return,
                () = &mut first, if waits => waits = false,
                changed = links.changed() => match changed {
                    Ok(()) => self.read_all(&said),
                    Err(_) => return,
                },
                changed = self.served.changed() => match (changed, here(&self.of.asker, &self.caller, &self.request).await) {
                    (Ok(()), Ok(here)) => self.here = here,
                    // irmd is stopping: who follows comes again.
                    _ => return,
                },
                () = said.news.notified() => {}
                Some(_) = self.layers.readers.join_next() => {}
            }
            for (ipcp, names) in said.take() {
                self.heard(&ipcp, names);
            }
        }
    }

    fn heard(&mut self, ipcp: &str, names: NamesReply) {
        if let Some((_, told)) = self.layers.of.get_mut(ipcp) {
            *told = Some(names);
        }
    }

    /// Each attached IPCP has one reader.
    fn read_all(&mut self, said: &Arc<Said>) {
        let attached: HashMap<String, _> = self.of.links.all().into_iter().collect();
        self.layers.of.retain(|ipcp, (reader, _)| {
            let stays = attached.contains_key(ipcp);
            if !stays {
                reader.abort();
            }
            stays
        });
        for ipcp in attached.into_keys().filter(|ipcp| !self.layers.of.contains_key(ipcp)).collect::<Vec<_>>() {
            let read = read(self.of.links.clone(), ipcp.clone(), self.request.clone(), said.clone());
            let reader = self.layers.readers.spawn(read);
            self.layers.of.insert(ipcp, (reader, None));
        }
    }

    async fn tell(&mut self, to: &To) -> Result<(), ()> {
        let layers = self.layers.of.values().filter_map(|(_, told)| told.as_ref());
        let all = merged(&self.request.layer, &self.here, layers);
        if self.told.as_ref() != Some(&all) {
            to.send(Ok(all.clone())).await.map_err(drop)?;
            self.told = Some(all);
        }
        Ok(())
    }
}

/// What one IPCP says, until it is aborted.
async fn read(links: Links, ipcp: String, request: NamesRequest, said: Arc<Said>) {
    loop {
        if let Some(link) = links.get(&ipcp)
            && let Some(mut names) = ipcp::names(link, request.clone()).await
        {
            while let Ok(Some(names)) = names.message().await {
                said.tell(&ipcp, names);
            }
        }
        // It has no layer yet, or ends: it knows nothing.
        said.tell(&ipcp, NamesReply::default());
        tokio::time::sleep(AGAIN).await;
    }
}

/// One list, in order of name; what this host serves before what others do.
fn merged<'a>(layer: &str, here: &BTreeMap<String, bool>, layers: impl Iterator<Item = &'a NamesReply>) -> NamesReply {
    let mut all: BTreeSet<(String, bool, String, bool)> =
        here.iter().map(|(name, idle)| (name.clone(), false, String::new(), *idle)).collect();
    let mut more = false;
    for reply in layers {
        more |= reply.more;
        let wanted = reply.names.iter().filter(|known| layer.is_empty() || known.layer == layer);
        all.extend(wanted.map(|known| (known.name.clone(), true, known.layer.clone(), false)));
    }
    more |= all.len() > MOST_NAMES;
    let known = |(name, elsewhere, layer, idle): (String, bool, String, bool)| KnownName {
        name,
        here: !elsewhere,
        layer,
        idle,
    };
    NamesReply { names: all.into_iter().take(MOST_NAMES).map(known).collect(), more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(names: &[(&str, &str)]) -> NamesReply {
        let known = |(name, layer): &(&str, &str)| KnownName {
            name: (*name).into(),
            layer: (*layer).into(),
            ..KnownName::default()
        };
        NamesReply { names: names.iter().map(known).collect(), more: false }
    }

    #[test]
    fn lists_are_one_and_bounded() {
        let here = BTreeMap::from([("chat.b".to_owned(), false)]);
        let replies = [reply(&[("chat.a", "x"), ("chat.b", "x")]), reply(&[("chat.a", "y"), ("chat.c", "y")])];
        let row = |known: &KnownName| format!("{} {} {}", known.name, known.here, known.layer);
        let all = merged("", &here, replies.iter());
        let rows: Vec<_> = all.names.iter().map(row).collect();
        assert_eq!(rows, ["chat.a false x", "chat.a false y", "chat.b true ", "chat.b false x", "chat.c false y"]);
        let of_y: Vec<_> = merged("y", &here, replies.iter()).names.iter().map(row).collect();
        assert_eq!(of_y, ["chat.a false y", "chat.b true ", "chat.c false y"]);
        let many: Vec<_> = (0..MOST_NAMES + 9).map(|n| format!("chat.{n:04}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
        let cut = merged("", &here, [reply(&many)].iter());
        assert!(cut.more && cut.names.len() == MOST_NAMES);
    }
}
