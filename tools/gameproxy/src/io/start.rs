//! How each role begins and ends.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use libflow::Stack;
use rustix::net::AddressFamily;
use tokio::task::JoinSet;

use super::dial::Dial;
use super::far::Far;
use super::local::Local;
use super::near::Near;
use super::orders::Order;
use super::road::Road;
use super::serve::{Desks, Server};
use crate::cli::{Carrier, RulesFrom, Run};
use crate::machine::door::{ClientId, Door};
use crate::machine::front::Front;
use crate::said::rule::{Access, Carriage, Host, Net, Place, Redirect, Rules, Verdict, Way};

/// Descriptors: one for each player, and more than what is usual for those.
pub(super) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The rules of a command line.
pub(super) fn rules(from: &RulesFrom) -> anyhow::Result<Rules> {
    if from.config.is_some() {
        bail!("configuration files are not read yet");
    }
    if from.redirect.is_empty() {
        bail!("there is no redirect; give --config FILE, or --redirect FROM=TO");
    }
    let (up, down) = from.delay.unwrap_or((Duration::ZERO, Duration::ZERO));
    let way = |delay| Way { delay, ..Way::default() };
    let redirects = from.redirect.iter().map(|(from, to)| Redirect {
        carriage: Carriage { up: way(up), down: way(down), ..Carriage::default() },
        ..Redirect::new((*from).into(), (*to).into())
    });
    let all = |any: &str| Access {
        verdict: Verdict::Allow,
        from: Net {
            host: Host::Address(any.parse().expect("an address")),
            mask: Some(any.parse().expect("an address")),
        },
        ports: (0, u16::MAX),
    };
    Ok(Rules { access: vec![all("0.0.0.0"), all("::")], redirects: redirects.collect(), ..Rules::default() })
}

/// One process.
pub(super) fn local(from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    log(run)?;
    raise_limit();
    let rules = rules(from)?;
    let front = Front::of(&rules);
    let (engine, desk) = Local::open(front, Arc::new(Mutex::new(Door::new(rules))))?;
    let thread = std::thread::Builder::new().name("gameproxy-carry".to_owned()).spawn(move || engine.run());
    let thread = thread.context("no thread can be started")?;
    runtime()?.block_on(async {
        let mut stop = tool::Stop::new()?;
        tracing::info!("carries");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        stop.asked().await;
        anyhow::Ok(())
    })?;
    desk.give(Order::Stop);
    thread.join().map_err(|_| anyhow!("the thread that carries panicked"))?
}

/// The side near the players.
pub(super) fn client(servers: &[String], carrier: Carrier, from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    log(run)?;
    raise_limit();
    let own = from.config.is_some() || !from.redirect.is_empty();
    let front = if own { Front::of(&rules(from)?) } else { Front::default() };
    if own && servers.len() > 1 {
        bail!(
            "which of the servers is --redirect for? Give it with one --server, and start another gameproxy for the other"
        );
    }
    if !own && carrier == Carrier::Stream {
        bail!("over a byte stream no redirects are told; give them with --redirect or --config");
    }
    let stack = || Stack::find(run.run_dir.as_deref()).context("irmd's run directory is not known");
    let dials = servers.iter().map(|server| dial(server, carrier, stack)).collect::<anyhow::Result<Vec<_>>>()?;
    runtime()?.block_on(async {
        let mut stop = tool::Stop::new()?;
        let (mut sides, mut desks) = (JoinSet::new(), Vec::new());
        for dial in dials {
            let (near, desk) = Near::new(dial, front.clone())?;
            desks.push(desk);
            sides.spawn(near.run());
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            () = stop.asked() => {}
            // It cannot wait for its sockets any more.
            Some(ended) = sides.join_next() => return ended?,
        }
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
    log(run)?;
    raise_limit();
    let door = Arc::new(Mutex::new(Door::new(rules(from)?)));
    let stack = Stack::find(run.run_dir.as_deref()).context("irmd's run directory is not known")?;
    runtime()?.block_on(async {
        let mut stop = tool::Stop::new()?;
        let listener = stack.listen(name).await.with_context(|| format!("the name {name} cannot be served"))?;
        tracing::info!("serves {name}");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        Server::new(listener, carrier, door, Desks::default()).run(stop.asked()).await;
        Ok(())
    })
}

/// The side near the game servers, for the one client side whose byte stream is descriptor 0.
pub(super) fn inetd(from: &RulesFrom, run: &Run) -> anyhow::Result<()> {
    // Where inetd made standard error the same socket, lines of a log would be in the stream.
    if !is_same(rustix::stdio::stdin(), rustix::stdio::stderr()) {
        log(run)?;
    }
    raise_limit();
    let door = Arc::new(Mutex::new(Door::new(rules(from)?)));
    let stream = rustix::io::dup(rustix::stdio::stdin()).context("descriptor 0 is not open")?;
    runtime()?.block_on(async {
        let mut stop = tool::Stop::new()?;
        let (far, desk) = Far::new(ClientId::default(), door)?;
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
            let _ = stream.set_nodelay(true);
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

/// Logs to standard error, as the command line says.
pub(super) fn log(run: &Run) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&run.log).with_context(|| format!("--log {}", run.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
