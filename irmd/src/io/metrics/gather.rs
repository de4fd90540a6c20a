//! One walk through irmd and its IPCPs for all scrapers that wait.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the timer")]

use std::time::Duration;

use handoff::server::Server;
use scrape::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::process;
use crate::io::api_admin::Tools;
use crate::io::callers::Callers;
use crate::io::calls::Asker;
use crate::io::ipcp::Links;
use crate::io::listing;
use crate::machine::metrics::census::LOCAL;
use crate::machine::metrics::{Census, Format, Snapshot, Sums, text};
use crate::machine::{Caller, Command, Reply};

/// Walks begin at most so often.
const EVERY: Duration = Duration::from_millis(100);
/// Scrapers that wait for a walk.
const WAITING: usize = 64;

/// What is asked at a walk.
pub(super) struct Gatherer {
    asker: Asker,
    links: Links,
    handoff: Server,
    callers: Callers,
    /// irmd itself.
    own: Caller,
    sums: Sums,
}

/// The scrapers' end.
#[derive(Clone, Debug)]
pub(super) struct Scrapes(mpsc::Sender<Scrape>);

#[derive(Debug)]
struct Scrape {
    format: Format,
    reply: oneshot::Sender<Bytes>,
}

impl Scrapes {
    /// The page of a walk that begins after this call; `None` once irmd stops.
    pub(super) async fn scrape(&self, format: Format) -> Option<Bytes> {
        let (reply, page) = oneshot::channel();
        self.0.send(Scrape { format, reply }).await.ok()?;
        page.await.ok()
    }
}

/// The scrapers' end, and the work, to be polled; it ends with irmd.
pub(super) fn start(mut gatherer: Gatherer) -> (Scrapes, impl Future<Output = ()>) {
    let (sender, mut scrapes) = mpsc::channel::<Scrape>(WAITING);
    let work = async move {
        let mut last: Option<Instant> = None;
        while let Some(first) = scrapes.recv().await {
            if let Some(last) = last {
                tokio::time::sleep_until(last + EVERY).await;
            }
            last = Some(Instant::now());
            let mut waiting = vec![first];
            while let Ok(scrape) = scrapes.try_recv() {
                waiting.push(scrape);
            }
            waiting.retain(|scrape| !scrape.reply.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let Some(now) = gatherer.walk().await else { return };
            answer(&now, waiting);
        }
    };
    (Scrapes(sender), work)
}

fn answer(now: &Snapshot, waiting: Vec<Scrape>) {
    let mut pages: [Option<Bytes>; 2] = [None, None];
    for Scrape { format, reply } in waiting {
        let page = &mut pages[format as usize];
        if page.is_none() {
            match text::text(now, format) {
                Ok(text) => *page = Some(Bytes::from(text)),
                Err(error) => tracing::error!("metrics cannot be written: {error}; please report it"),
            }
        }
        if let Some(page) = page {
            let _ = reply.send(page.clone());
        }
    }
}

impl Gatherer {
    pub(super) fn new(tools: &Tools) -> Self {
        let own = Caller {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: None,
        };
        Self {
            asker: tools.asker.clone(),
            links: tools.links.clone(),
            handoff: tools.handoff.clone(),
            callers: tools.callers.clone(),
            own,
            sums: Sums::default(),
        }
    }

    /// `None`: irmd stops.
    async fn walk(&mut self) -> Option<Snapshot> {
        let Ok(Reply::Census(census)) = self.asker.ask(self.own.clone(), Command::Census).await else { return None };
        let census: Census = *census;
        // Asked after the census: an IPCP's process is the one that it knows, or a later one.
        let reports = listing::reports(&self.links).await;
        for ipcp in &census.ipcps {
            if let Some(carried) = reports.get(&ipcp.name).and_then(|report| report.carried) {
                let older = process::is_older(ipcp.pid);
                self.sums.heard(&ipcp.name, ipcp.pid, older, &ipcp.layer, carried);
            }
        }
        self.sums.keep(|name| census.ipcps.iter().any(|ipcp| ipcp.name == name));
        let mut carried: Vec<_> = self.sums.totals().map(|(layer, sum)| (layer.to_owned(), sum)).collect();
        carried.push((LOCAL.to_owned(), self.handoff.carried()));
        let refused =
            vec![("refused_leases", self.handoff.refused_leases()), ("refused_callers", self.callers.turned_away())];
        Some(Snapshot { census, reports, carried, refused, process: process::own() })
    }
}
