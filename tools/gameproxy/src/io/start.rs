//! How each role begins and ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::local::Local;
use super::orders::Order;
use crate::cli::{RulesFrom, Run};
use crate::machine::door::Door;
use crate::machine::front::Front;
use crate::said::rule::{Access, Carriage, Host, Net, Redirect, Rules, Verdict, Way};

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
    let front = Front::here(&rules, &crate::machine::names::Names::default(), &[]);
    let (engine, desk) = Local::open(front, Arc::new(Mutex::new(Door::new(rules))))?;
    let thread = std::thread::Builder::new().name("gameproxy-carry".to_owned()).spawn(move || engine.run());
    let thread = thread.context("no thread can be started")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = tool::Stop::new()?;
        tracing::info!("carries");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        stop.asked().await;
        anyhow::Ok(())
    })?;
    desk.give(Order::Stop);
    thread.join().map_err(|_| anyhow::anyhow!("the thread that carries panicked"))?
}

/// Logs to standard error, as the command line says.
pub(super) fn log(run: &Run) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&run.log).with_context(|| format!("--log {}", run.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
