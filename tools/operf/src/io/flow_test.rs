//! Tests over a flow: the client's side allocates it, the server's side accepts it.

use std::time::Duration;

use libflow::{AcceptError, Cube, Flow, Incoming, Listener, Stack, blocking};
use tokio::task::JoinSet;

use super::flow::FlowCarrier;
use super::stream::StreamCarrier;
use super::{OK, UNABLE, alloc_test, client, print, serve};
use crate::cli::Cli;
use crate::machine::params::{Mode, Params, VERSION};
use crate::machine::result::{Route, printable};

/// Tests at a time; each has a thread of its own. More would measure each other.
const MAX_TESTS: usize = 32;

/// Flows of `--alloc` at a time.
const MAX_FLOWS: usize = 20_000;

/// Without descriptors, or without irmd: how long until the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// `operf NAME`
pub(crate) fn measure(name: &str, cli: &Cli) -> Result<u8, String> {
    let params = cli.params();
    let stack = Stack::find(cli.run_dir.as_deref()).map_err(|error| error.to_string())?;
    if cli.layers.len() > 1 {
        return Err("a flow goes over one layer; give --layer once".to_owned());
    }
    if params.mode == Mode::Alloc {
        return alloc_test::measure(stack, name, cli);
    }
    let mut alloc = stack.alloc(name).qos(cli.qos.into()).source("operf").data(params.to_string());
    if let Some(congestion) = cli.congestion {
        alloc = alloc.congestion(congestion);
    }
    if let Some(layer) = cli.layers.first() {
        alloc = alloc.layer(layer);
    }
    if let Some(timeout) = cli.alloc_timeout {
        alloc = alloc.timeout(timeout);
    }
    let flow = alloc.wait().map_err(|error| error.to_string())?;
    if flow.data() != VERSION.as_bytes() {
        flow.dealloc();
        return Err(format!("{name} is served by a program other than {VERSION}; start `operf --listen NAME` there"));
    }
    let (limit, size) = (flow.sdu_limit(), params.size as usize);
    if size > limit && cli.qos != Cube::Stream {
        flow.dealloc();
        return Err(format!("an SDU of {size} bytes is above this flow's limit of {limit}; give -s {limit} or less"));
    }
    let route = route(&flow, name);
    if cli.qos == Cube::Stream {
        let mut carrier = StreamCarrier::open(flow)?;
        let code = client::measure(&mut carrier, &route, &params, cli.json);
        carrier.dealloc();
        return Ok(code);
    }
    let mut carrier = FlowCarrier::new(flow);
    let code = client::measure(&mut carrier, &route, &params, cli.json);
    carrier.dealloc();
    Ok(code)
}

fn route(flow: &blocking::Flow, name: &str) -> Route {
    let peer = flow.peer();
    Route {
        target: name.to_owned(),
        carrier: "flow",
        qos: flow.qos().cube.as_str(),
        flow_id: Some(flow.id().0),
        layer: Some(peer.layer.clone()),
        peer_address: (!peer.address.is_empty()).then(|| peer.address.clone()),
    }
}

/// `operf --listen NAME`
pub(crate) fn listen(name: &str, cli: &Cli) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    // As a task of its own: what wakes the future of `block_on` goes through the kernel each time.
    let serving = runtime.spawn(serve_name(name.to_owned(), cli.clone()));
    let code = runtime.block_on(serving).unwrap_or_else(|error| Err(format!("{error}; please report it")));
    // Tests still under way wait in the kernel; they end with the process.
    runtime.shutdown_background();
    code
}

async fn serve_name(name: String, cli: Cli) -> Result<u8, String> {
    let mut stop = tool::Stop::new().map_err(|error| format!("cannot catch signals: {error}"))?;
    let stack = Stack::find(cli.run_dir.as_deref()).map_err(|error| error.to_string())?;
    let mut listen = stack.listen(&name).create(true).register(true).layers(cli.layers.iter().map(String::as_str));
    if let Some(congestion) = cli.congestion {
        listen = listen.congestion(congestion);
    }
    let listener = tokio::select! {
        listener = async { listen.await } => listener.map_err(|error| error.to_string())?,
        () = stop.asked() => return Ok(OK),
    };
    if !cli.quiet {
        print::line(&format!("operf listens on {name}"));
    }
    tokio::select! {
        why = accept_all(&listener, cli.quiet) => Err(why),
        () = stop.asked() => Ok(OK),
    }
}

/// Ends only when the name is no longer ours; says why.
async fn accept_all(listener: &Listener, quiet: bool) -> String {
    let (mut tests, mut flows) = (JoinSet::new(), JoinSet::new());
    loop {
        let incoming = match listener.incoming().await {
            Ok(incoming) => incoming,
            Err(AcceptError::Gone { .. } | AcceptError::TimedOut(_)) => continue,
            Err(error @ AcceptError::NotPermitted { .. }) => return error.to_string(),
            Err(error) => {
                // irmd may be restarted, descriptors may come free. A pause: trying again at once may fail at once.
                print::error(&printable(&error.to_string()));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while tests.try_join_next().is_some() || flows.try_join_next().is_some() {}
        match Params::read(incoming.data()) {
            Err(not) => flows.spawn(refuse(incoming, not.to_string())),
            Ok(params) if params.mode == Mode::Alloc && flows.len() < MAX_FLOWS => flows.spawn(hold(incoming)),
            Ok(params) if params.mode != Mode::Alloc && tests.len() < MAX_TESTS => {
                tests.spawn(test(incoming, params, quiet))
            }
            Ok(_) => flows.spawn(refuse(incoming, "operf has enough to do; try again later".to_owned())),
        };
    }
}

async fn refuse(incoming: Incoming, why: String) {
    // The caller that is gone meanwhile needs no answer.
    let _ = incoming.refuse(&why).await;
}

/// A flow that is measured by being there: kept until the client deallocates it.
async fn hold(incoming: Incoming) {
    if let Ok(flow) = incoming.accept_with(VERSION).await {
        let mut room = [0; 16];
        while !matches!(flow.recv(&mut room).await, Err(libflow::FlowError::Gone(_) | libflow::FlowError::Io(_))) {}
    }
}

async fn test(incoming: Incoming, params: Params, quiet: bool) {
    let who = match incoming.peer().address.as_str() {
        "" => format!("{} on this host", incoming.source()),
        address => format!("{} at {address}", incoming.source()),
    };
    match incoming.accept_with(VERSION).await {
        Ok(flow) => {
            // The loops wait in the kernel, so they have a thread; the runtime bounds their number, we bound it lower.
            let line = tokio::task::spawn_blocking(move || run(flow, &params)).await;
            if let (Ok(line), false) = (line, quiet) {
                print::line(&printable(&format!("{who}: {params}: {line}")));
            }
        }
        Err(error) => print::error(&printable(&error.to_string())),
    }
}

fn run(flow: Flow, params: &Params) -> String {
    if flow.qos().cube == Cube::Stream {
        let mut carrier = match StreamCarrier::accept(flow.into()) {
            Ok(carrier) => carrier,
            Err(why) => return format!("no stream: {why}"),
        };
        let line = serve::serve(&mut carrier, params);
        carrier.dealloc();
        return line;
    }
    let mut carrier = FlowCarrier::new(flow.into());
    let line = serve::serve(&mut carrier, params);
    carrier.dealloc();
    line
}

/// The exit code of what failed before anything was measured.
pub(crate) fn settle(result: Result<u8, String>) -> u8 {
    result.unwrap_or_else(|why| {
        print::error(&printable(&why));
        UNABLE
    })
}
