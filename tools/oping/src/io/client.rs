//! `oping NAME`

use std::time::{Duration, Instant};

use libflow::{Flow, FlowError, Stack};
use tool::Stop;

use super::{NOTHING, OK, print};
use crate::cli::Cli;
use crate::machine::ping::{Output, Ping, Plan};
use crate::machine::sdu;
use crate::machine::text::{self, Route, Summary};

/// Pings until the plan, the flow or the user ends it.
pub(super) async fn ping(stack: &Stack, name: &str, cli: &Cli, mut stop: Stop) -> Result<u8, String> {
    let (flow, took) = tokio::select! {
        allocated = alloc(stack, name, cli) => allocated?,
        () = stop.asked() => return Ok(NOTHING),
    };
    let route = route(&flow, name, cli.size, took);
    if cli.size > flow.sdu_limit() {
        let limit = flow.sdu_limit();
        flow.dealloc().await;
        return Err(format!(
            "an SDU of {} bytes is above this flow's limit of {limit}; give -s {limit} or less",
            cli.size
        ));
    }
    let mut run = Run { flow, route, show: !cli.quiet && !cli.json, sdu: sdu::blank(cli.size), ended: None };
    if !cli.json {
        print::line(&text::opening(&run.route));
    }
    let start = Instant::now();
    let plan = Plan { count: cli.count, interval: cli.interval, wait: cli.wait };
    let mut ping = Ping::new(start, plan);
    run.drive(&mut ping, &mut stop).await;
    Ok(run.finish(&ping, start.elapsed(), cli.json).await)
}

async fn alloc(stack: &Stack, name: &str, cli: &Cli) -> Result<(Flow, Duration), String> {
    let mut alloc = stack.alloc(name).qos(cli.qos.into()).source("oping");
    match cli.layers.as_slice() {
        [] => {}
        [layer] => alloc = alloc.layer(layer),
        _ => return Err("a flow goes over one layer; give --layer once".to_owned()),
    }
    if let Some(timeout) = cli.alloc_timeout {
        alloc = alloc.timeout(timeout);
    }
    let start = Instant::now();
    let flow = alloc.await.map_err(|error| error.to_string())?;
    Ok((flow, start.elapsed()))
}

fn route(flow: &Flow, name: &str, size: usize, alloc: Duration) -> Route {
    let peer = flow.peer();
    Route {
        name: name.to_owned(),
        qos: flow.qos().cube.as_str(),
        flow_id: flow.id().0,
        layer: peer.layer.clone(),
        address: (!peer.address.is_empty()).then(|| peer.address.clone()),
        classic: peer.classic,
        size,
        alloc,
    }
}

/// A run and all it touches.
struct Run {
    flow: Flow,
    route: Route,
    show: bool,
    sdu: Vec<u8>,
    ended: Option<String>,
}

impl Run {
    async fn drive(&mut self, ping: &mut Ping, stop: &mut Stop) {
        let mut room = vec![0; sdu::MAX];
        ping.handle_timeout(Instant::now());
        loop {
            while let Some(output) = ping.poll_output() {
                match output {
                    Output::Send(header) => self.send(ping, header).await,
                    Output::Reply(reply) => {
                        if self.show && !print::line(&text::reply(&self.route, &reply)) {
                            ping.stop();
                        }
                    }
                    Output::Done => return,
                }
            }
            let due = ping.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                got = self.flow.recv(&mut room) => match got {
                    Ok(len) => ping.handle_sdu(Instant::now(), &room[..len]),
                    // Not ours, and lost; the flow lives.
                    Err(FlowError::Truncated { .. }) => {}
                    Err(error) => self.end(ping, &error),
                },
                () = tokio::time::sleep_until(due.into()) => ping.handle_timeout(Instant::now()),
                () = stop.asked() => ping.stop(),
            }
        }
    }

    async fn send(&mut self, ping: &mut Ping, header: sdu::Header) {
        sdu::write(&mut self.sdu, header);
        match self.flow.send(&self.sdu).await {
            Ok(()) => {}
            // The path's MTU may shrink under us.
            Err(error @ (FlowError::Gone(_) | FlowError::TooLong { .. })) => self.end(ping, &error),
            Err(error) => print::error(&format!("seq={} was not sent: {error}", header.seq)),
        }
    }

    fn end(&mut self, ping: &mut Ping, why: &FlowError) {
        self.ended.get_or_insert_with(|| match why {
            FlowError::Gone(reason) => reason.to_string(),
            other => other.to_string(),
        });
        ping.stop();
    }

    async fn finish(self, ping: &Ping, time: Duration, json: bool) -> u8 {
        let Self { flow, route, ended, .. } = self;
        let (tally, rtt) = (ping.tally(), ping.stats().rtt_ms());
        if let Some(why) = &ended {
            print::error(&format!("flow {} ended before its time: {why}", route.flow_id));
        } else {
            flow.dealloc().await;
        }
        // A reader that went away changes nothing about the result.
        if json {
            let summary = Summary::new(&route, &tally, rtt, time, ended.as_deref());
            serde_json::to_string_pretty(&summary).map(|text| print::line(&text)).ok();
        } else {
            print::text(&text::summary(&route, &tally, rtt, time));
        }
        if tally.received > 0 && ended.is_none() { OK } else { NOTHING }
    }
}
