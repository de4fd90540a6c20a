//! `operf NAME --alloc`: flows allocated and deallocated, one after the other, `--parallel` chains at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libflow::{Qos, Stack};
use tokio::task::JoinSet;

use super::{NOTHING, OK, UNABLE, print};
use crate::cli::Cli;
use crate::machine::latency::Latency;
use crate::machine::result::{Alloc, Allocs};

/// After a failure: a chain that fails at once must not eat the CPU that the others are measured on.
const PAUSE: Duration = Duration::from_millis(10);

/// What the chains count together. Locked for a few stores, never while waiting.
#[derive(Default)]
struct Tally {
    allocs: Allocs,
    alloc: Latency,
    dealloc: Latency,
}

/// One chain's errand.
#[derive(Clone)]
struct Errand {
    stack: Stack,
    name: String,
    qos: Qos,
    layer: Option<String>,
    timeout: Option<Duration>,
    data: Vec<u8>,
    end: Instant,
    tally: Arc<Mutex<Tally>>,
}

/// Measures, prints; the exit code.
pub(crate) fn measure(stack: Stack, name: &str, cli: &Cli) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let start = Instant::now();
    let errand = Errand {
        stack,
        name: name.to_owned(),
        qos: cli.qos.into(),
        layer: cli.layers.first().cloned(),
        timeout: cli.alloc_timeout,
        data: cli.params().to_string().into_bytes(),
        end: start + cli.time,
        tally: Arc::default(),
    };
    if !cli.json {
        let seconds = cli.time.as_secs_f64();
        print::line(&format!("OPERF {name}: allocations, {} at a time, {seconds} s", cli.parallel));
    }
    let mut chains = JoinSet::new();
    for _ in 0..cli.parallel {
        chains.spawn_on(chain(errand.clone()), runtime.handle());
    }
    runtime.block_on(async { while chains.join_next().await.is_some() {} });
    let took = start.elapsed().as_secs_f64();
    Ok(report(&errand, cli, took))
}

fn report(errand: &Errand, cli: &Cli, took: f64) -> u8 {
    let tally = errand.tally.lock().unwrap_or_else(PoisonError::into_inner);
    let Tally { allocs, alloc, dealloc } = &*tally;
    if let (0, Some(why)) = (allocs.done, &allocs.last_failure) {
        print::error(why);
        return UNABLE;
    }
    let result = Alloc::new(&errand.name, cli.parallel, took, allocs, alloc.micros(), dealloc.micros());
    // A reader that went away changes nothing about the measurement.
    let _ = if cli.json { print::json(&result) } else { print::text(&result.text()) };
    if allocs.done > 0 { OK } else { NOTHING }
}

/// Allocates and deallocates until the end; gives up at once where nothing ever worked.
async fn chain(errand: Errand) {
    while Instant::now() < errand.end {
        match pair(&errand).await {
            Ok((alloc, dealloc)) => errand.count(|tally| {
                tally.alloc.record(alloc);
                tally.dealloc.record(dealloc);
                tally.allocs.done += 1;
            }),
            Err(why) => {
                let hopeless = errand.count(|tally| {
                    tally.allocs.failures += 1;
                    tally.allocs.last_failure = Some(why);
                    tally.allocs.done == 0
                });
                if hopeless {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn pair(errand: &Errand) -> Result<(Duration, Duration), String> {
    let mut alloc = errand.stack.alloc(&errand.name).qos(errand.qos).source("operf").data(errand.data.as_slice());
    if let Some(layer) = &errand.layer {
        alloc = alloc.layer(layer);
    }
    if let Some(timeout) = errand.timeout {
        alloc = alloc.timeout(timeout);
    }
    let start = Instant::now();
    let flow = alloc.await.map_err(|error| error.to_string())?;
    let allocated = Instant::now();
    flow.dealloc().await;
    Ok((allocated - start, allocated.elapsed()))
}

impl Errand {
    fn count<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R {
        act(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
