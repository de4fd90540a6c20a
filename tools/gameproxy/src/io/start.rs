//! How each role begins and ends.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use libflow::Stack;
use rustix::net::AddressFamily;
use service::source::Source;
use service::{control, folder, logfile, page, process};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::core::SharedDoor;
use super::dial::{Dial, watch_over};
use super::far::Far;
use super::keep::{self, Carrying, Keeper};
use super::local::Local;
use super::near::Near;
use super::orders::Order;
use super::road::Road;
use super::serve::{Desks, Server};
use super::tally::Tally;
use super::{NAME, lookups, own};
use crate::cli::{Carrier, RulesFrom, Run};
use crate::machine::door::{ClientId, Door};
use crate::machine::front::Front;
use crate::machine::metrics;
use crate::said::control::Ask;
use crate::said::file::{self, File};
use crate::said::grammar;
use crate::said::rule::{Access, Carriage, Host, Net, Place, Redirect, Rules, Verdict, Way};

/// How long players may go on after SIGTERM, unless said otherwise: they come back by themselves.
const DRAIN: Duration = Duration::ZERO;
/// Asks that wait.
const ASKS: usize = 16;

/// Rules, and where they come from.
struct Given {
    source: Option<Source>,
    file: File,
}

/// The rules of a command line.
fn given(from: &RulesFrom) -> anyhow::Result<Given> {
    if let Some(path) = &from.config {
        let source = Source::file(path)?;
        return Ok(Given { file: keep::read(&source)?, source: Some(source) });
    }
    if from.redirect.is_empty() {
        bail!("there is no redirect; give --config FILE, or --redirect FROM=TO");
    }
    let (up, down) = from.delay.unwrap_or((Duration::ZERO, Duration::ZERO));
    let way = |delay| Way { delay, ..Way::default() };
    let redirects = from.redirect.iter().map(|(from, to)| Redirect {
        carriage: Carriage { up: way(up), down: way(down), ..Carriage::default() },
        ..Redirect::new(from.clone(), to.clone())
    });
    let any = Net { host: grammar::ANY, mask: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) };
    let everybody = Access { verdict: Verdict::Allow, from: any, ports: (0, u16::MAX) };
    let rules = Rules { access: vec![everybody], redirects: redirects.collect(), ..Rules::default() };
    Ok(Given { source: None, file: File { rules, ..File::default() } })
}

/// Keeps what carries until it is told to stop, or `ended` is over: what carries has ended by itself.
async fn keep(
    carrying: Carrying,
    door: Option<SharedDoor>,
    given: Option<Given>,
    run: &Run,
    ended: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (source, options) = given.map_or((None, file::Options::default()), |given| (given.source, given.file.options));
    let name = match carrying {
        Carrying::Local(_) => "gameproxy-local",
        Carrying::Sides(..) => "gameproxy-server",
        Carrying::Ways(_) => "gameproxy-client",
    };
    let taken = folder::take(name, NAME, run.place.run_dir.as_deref());
    let page = run.metrics.or(options.metrics).map(page::listen).transpose()?;
    let drain = run.drain.or(options.drain).unwrap_or(DRAIN);
    let (asks, mut inbox) = mpsc::channel(ASKS);
    let mut serving = JoinSet::new();
    if let Some(taken) = &taken {
        serving.spawn(control::serve(control::listen(taken)?, asks.clone()));
    }
    if let Some(page) = page {
        let listener = tokio::net::TcpListener::from_std(page)?;
        let ask = || Ask::Status { players: 0 };
        serving.spawn(page::serve(listener, "gameproxy", asks.clone(), ask, |status| metrics::page(status).ok()));
    }
    let mut keeper = Keeper::new(carrying, door, source, &options, run.watch, drain);
    tokio::select! {
        done = keeper.run(&mut inbox) => done,
        ended = ended => ended,
    }
}

/// One process.
pub(super) fn local(from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    begin(run)?;
    let given = given(from)?;
    let door = Door::new(given.file.rules.clone());
    let front = keep::local_front(&door);
    let door = Arc::new(Mutex::new(door));
    keep::lock(&door).machine(ClientId::default(), own::addresses());
    let (engine, desk) = Local::open(front, door.clone())?;
    let (over, is_over) = oneshot::channel();
    let thread = std::thread::Builder::new().name("gameproxy-carry".to_owned()).spawn(move || {
        let done = engine.run();
        // Nobody waits where it was told to stop.
        let _ = over.send(());
        done
    });
    let thread = thread.context("no thread can be started")?;
    runtime()?.block_on(async {
        tracing::info!("carries");
        let ended = async { is_over.await.map_err(|_| anyhow!("the thread that carries panicked")) };
        keep(Carrying::Local(desk.clone()), Some(door), Some(given), run, ended).await
    })?;
    desk.give(Order::Stop);
    thread.join().map_err(|_| anyhow!("the thread that carries panicked"))?
}

/// The side near the players.
pub(super) fn client(servers: &[String], carrier: Carrier, from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    begin(run)?;
    let own = from.config.is_some() || !from.redirect.is_empty();
    let mut given = own.then(|| given(from)).transpose()?;
    if let Some(given) = &mut given {
        given.file.rules = Front::part(std::mem::take(&mut given.file.rules));
    }
    let door = given.as_ref().map(|given| Door::new(given.file.rules.clone()));
    let front = door.as_ref().map(keep::local_front);
    let door = door.map(|door| Arc::new(Mutex::new(door)));
    if own && servers.len() > 1 {
        bail!(
            "which of the servers is --redirect for? Give it with one --server, and start another gameproxy for the other"
        );
    }
    if !own && carrier == Carrier::Stream {
        bail!("over a byte stream no redirects are told; give them with --redirect or --config");
    }
    let stack = || Stack::find(run.place.run_dir.as_deref()).context("irmd's run directory is not known");
    let dials = servers.iter().map(|server| dial(server, carrier, stack)).collect::<anyhow::Result<Vec<_>>>()?;
    runtime()?.block_on(async {
        let (mut sides, mut desks) = (JoinSet::new(), Vec::new());
        for dial in dials {
            let (near, desk) = Near::new(dial, front.clone())?;
            desks.push(desk);
            sides.spawn(near.run());
        }
        // It cannot wait for its sockets any more.
        let ended = async { sides.join_next().await.unwrap_or(Ok(Ok(())))? };
        keep(Carrying::Ways(desks.clone()), door, given, run, ended).await?;
        for desk in desks {
            desk.give(Order::Stop);
        }
        let told = async { while sides.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        Ok(())
    })
}

fn dial(server: &str, carrier: Carrier, stack: impl FnOnce() -> anyhow::Result<Stack>) -> anyhow::Result<Dial> {
    if let Some(name) = server.strip_prefix("flow:") {
        return Ok(Dial::Flow { stack: stack()?, name: tool::name(name).map_err(|why| anyhow!(why))?, carrier });
    }
    if carrier == Carrier::Message {
        bail!("'{server}' is no flow:NAME; only --carrier stream goes to a TCP port");
    }
    let wrong = || anyhow!("'{server}' is neither flow:NAME nor HOST:PORT");
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.parse().map_or_else(|_| Host::Named(host.to_owned()), Host::Address);
    Ok(Dial::Tcp(Place { host, port: port.parse().map_err(|_| wrong())? }))
}

/// The side near the game servers, for client sides that ask for a name.
pub(super) fn server(name: &str, carrier: Carrier, from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    begin(run)?;
    let given = given(from)?;
    let door = Arc::new(Mutex::new(Door::new(given.file.rules.clone())));
    let stack = Stack::find(run.place.run_dir.as_deref()).context("irmd's run directory is not known")?;
    runtime()?.block_on(async {
        let listener = stack.listen(name).await.with_context(|| format!("the name {name} cannot be served"))?;
        tracing::info!("serves {name}");
        let (desks, tally) = (Desks::default(), Arc::new(Tally::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::new(listener, carrier, door.clone(), desks.clone(), tally.clone());
        let serving = server.run(async { drop(stopped.await) });
        tokio::pin!(serving);
        let ended = async {
            (&mut serving).await;
            Ok(())
        };
        keep(Carrying::Sides(desks, tally), Some(door), Some(given), run, ended).await?;
        drop(stop);
        serving.await;
        Ok(())
    })
}

/// The side near the game servers, for the one client side whose byte stream is descriptor 0.
pub(super) fn inetd(from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    // Where inetd made standard error the same socket, lines of a log would be in the stream.
    if !is_same(rustix::stdio::stdin(), rustix::stdio::stderr()) {
        log(run)?;
    }
    process::raise_descriptor_limit();
    let given = given(from)?;
    let mut door = Door::new(given.file.rules);
    let stream = rustix::io::dup(rustix::stdio::stdin()).context("descriptor 0 is not open")?;
    runtime()?.block_on(async {
        let mut stop = tool::Stop::new()?;
        // Names once, before the first datagram: this lives as long as its stream.
        for name in file::names(&door.rules().clone()) {
            match lookups::look_up(name).await {
                Ok(addresses) => drop(door.learn(name, &addresses)),
                Err(why) => tracing::warn!("{name} is not found ({why}); redirects that need it wait"),
            }
        }
        let door = Arc::new(Mutex::new(door));
        let (far, desk) = Far::new(ClientId::default(), door, Arc::default(), "inetd")?;
        let carried = far.run(passed(stream)?);
        tokio::pin!(carried);
        let why = tokio::select! {
            why = &mut carried => why,
            () = stop.asked() => {
                desk.give(Order::Stop);
                carried.await
            }
        };
        tracing::info!(%why, "the stream is over");
        Ok(())
    })
}

/// A stream that was passed.
fn passed(stream: OwnedFd) -> anyhow::Result<Road> {
    let family = rustix::net::getsockname(&stream)
        .context("descriptor 0 is no socket; start it from inetd, or leave --inetd out")?;
    match family.address_family() {
        AddressFamily::UNIX => {
            let stream = std::os::unix::net::UnixStream::from(stream);
            stream.set_nonblocking(true)?;
            Ok(Road::stream(tokio::net::UnixStream::from_std(stream)?))
        }
        _ => {
            let stream = std::net::TcpStream::from(stream);
            stream.set_nonblocking(true)?;
            watch_over(&stream);
            Ok(Road::stream(tokio::net::TcpStream::from_std(stream)?))
        }
    }
}

fn is_same(one: impl std::os::fd::AsFd, other: impl std::os::fd::AsFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("there is no runtime")
}

/// What every role does first.
fn begin(run: &Run) -> anyhow::Result<()> {
    log(run)?;
    process::raise_descriptor_limit();
    Ok(())
}

/// Logs as the command line says.
fn log(run: &Run) -> anyhow::Result<()> {
    logfile::begin("gameproxy", &run.log, run.log_file.as_deref())
}
