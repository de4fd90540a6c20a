//! Keeps flows busy and counts what gets lost: `steady NAME FLOWS`. On each flow one numbered SDU goes to an echo server and is
//! waited for, then the next. Says "at N" after every ten round trips of all flows together. A line on standard input stops
//! it: it says "sent N lost N gone N" and holds its flows until its standard input is closed.

use std::cell::Cell;
use std::io::BufRead as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use libflow::{Flow, Stack};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// An SDU that has not come back by then is lost: nothing on the way takes so long.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Between one round trip of a flow and the next.
const PAUSE: Duration = Duration::from_millis(4);

#[derive(Default)]
struct Tally {
    sent: Cell<u64>,
    back: Cell<u64>,
    lost: Cell<u64>,
    gone: Cell<u64>,
}

fn count(cell: &Cell<u64>) -> u64 {
    cell.set(cell.get() + 1);
    cell.get()
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let name = words.next().context("steady NAME FLOWS")?;
    let flows: usize = words.next().context("steady NAME FLOWS")?.parse()?;
    let (stop, stopped) = watch::channel(0);
    std::thread::Builder::new().name("input".into()).spawn(move || {
        let mut lines = std::io::stdin().lock().lines();
        let _ = lines.next();
        let _ = stop.send(1);
        for _ in lines {}
        let _ = stop.send(2);
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(&name, flows, stopped))
}

async fn run(name: &str, count: usize, mut stopped: watch::Receiver<i32>) -> Result<()> {
    let stack = Stack::global()?;
    let tally = Rc::new(Tally::default());
    let mut flows = JoinSet::new();
    for _ in 0..count {
        let flow = stack.alloc(name).timeout(Duration::from_secs(10)).await?;
        flows.spawn_local(keep_busy(flow, tally.clone(), stopped.clone()));
    }
    println!("{count} flows");
    let mut held = Vec::new();
    while let Some(flow) = flows.join_next().await {
        held.extend(flow?);
    }
    println!("sent {} lost {} gone {}", tally.sent.get(), tally.lost.get(), tally.gone.get());
    // Until all is told, nobody lets go.
    let _ = stopped.wait_for(|stage| *stage == 2).await;
    Ok(())
}

/// Sends and waits for the echo until it is told to stop; gives the flow back if it lives.
#[expect(clippy::disallowed_methods, reason = "a flow is kept busy at a pace")]
async fn keep_busy(flow: Flow, tally: Rc<Tally>, stopped: watch::Receiver<i32>) -> Option<Flow> {
    let mut buffer = [0; 64];
    let mut number = 0_u64;
    while *stopped.borrow() == 0 {
        number += 1;
        if let Err(error) = flow.send(&number.to_be_bytes()).await {
            eprintln!("flow {}: {error}", flow.id());
            count(&tally.gone);
            return None;
        }
        count(&tally.sent);
        let echo = async {
            loop {
                // A late echo of an SDU that was given up is not this one's.
                match flow.recv(&mut buffer).await {
                    Ok(length) if buffer[..length] == number.to_be_bytes() => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        match tokio::time::timeout(LOST_AFTER, echo).await {
            Ok(Ok(())) => {
                let back = count(&tally.back);
                if back.is_multiple_of(10) {
                    println!("at {back}");
                }
            }
            Ok(Err(error)) => {
                eprintln!("flow {}: {error}", flow.id());
                count(&tally.gone);
                return None;
            }
            Err(_) => {
                eprintln!("flow {}: SDU {number} was lost", flow.id());
                count(&tally.lost);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Some(flow)
}
