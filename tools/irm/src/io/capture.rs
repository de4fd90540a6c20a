//! `irm flow capture`: what passes the wire of a flow, into a file.
#![expect(clippy::disallowed_methods, reason = "io/: the clock, timers, signals")]

mod devices;
mod sink;
mod socket;

use std::io;
use std::time::Duration;

use proto::{Name, v1};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::sink::Sink;
use self::socket::PacketSocket;
use super::irmd::{Irmd, QUICK};
use super::{Fault, print};
use crate::cli::Capture;
use crate::machine::capture::{Flow, Named, Subject, Unfit, filter};

/// How often irmd is asked whether the flow is still there.
const LOOK: Duration = Duration::from_millis(500);
/// An irmd that says nothing for so long is asked again; the capture stands still meanwhile, and the kernel keeps packets.
const LOOK_WITHIN: Duration = Duration::from_millis(300);
/// After its end the shims still talk about it.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A restarted irmd does not know its flows for so long (docs/irmd.md).
const RETURN: Duration = Duration::from_secs(12);
/// Packets read before signals and timers have their turn.
const BATCH: usize = 256;

pub(super) async fn capture(irmd: &mut Irmd, options: Capture) -> Result<(), Fault> {
    let subject = match (options.id, &options.name) {
        (Some(id), _) => Subject::Flow(flow(irmd, id).await?),
        (None, Some(name)) => Subject::Name(named(irmd, name).await?),
        (None, None) => return Err(Fault::Unable("give a flow's id, or --name NAME".to_owned())),
    };
    is_here(&subject)?;
    let device = options.interface.as_deref().map(device).transpose()?;
    let socket = PacketSocket::open(&filter::program(&subject.places()), device).map_err(|error| refused(&error))?;
    let mut stop = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(interrupt), Ok(terminate)] = &mut stop else {
        return Err(Fault::Unable("cannot catch signals".to_owned()));
    };
    let mut sink = Sink::create(&options, &subject)?;
    let text = subject.text();
    print::note(&format!("capturing {text} into {}; Ctrl-C stops", sink.name()));
    // SAFETY: the socket keeps its one descriptor open until it is dropped, which is after this.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    let mut socket = registered.map_err(|error| failed(&io::Error::from(error)))?;
    let mut capture = Running { subject, sink: &mut sink, left: options.count.unwrap_or(u64::MAX) };
    let end = capture.run(&mut socket, irmd, [interrupt, terminate]).await;
    // What the reader of a pipe missed it does not want.
    let statistics = socket.get_ref().statistics();
    let cuts = socket.get_ref().cuts();
    let told = sink.finish(statistics, cuts);
    let end = end?;
    print::note(&format!("{}{}", told?, end.text(options.id)));
    Ok(())
}

/// Why a capture is over.
enum End {
    Stopped,
    Counted,
    FlowOver,
    Unread,
}

impl End {
    fn text(&self, id: Option<u64>) -> String {
        match (self, id) {
            (Self::FlowOver, Some(id)) => format!("; flow {id} has ended"),
            (Self::Unread, _) => "; nobody reads it any more".to_owned(),
            _ => String::new(),
        }
    }
}

struct Running<'a> {
    subject: Subject,
    sink: &'a mut Sink,
    left: u64,
}

impl Running<'_> {
    async fn run(
        &mut self,
        socket: &mut AsyncFd<PacketSocket>,
        irmd: &mut Irmd,
        [interrupt, terminate]: [&mut Signal; 2],
    ) -> Result<End, Fault> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flow = Watch { id: self.id(), lost: None, over: None };
        loop {
            let over = flow.over;
            tokio::select! {
                biased;
                _ = interrupt.recv() => return self.last(socket, End::Stopped),
                _ = terminate.recv() => return self.last(socket, End::Stopped),
                () = until(over) => return self.last(socket, End::FlowOver),
                // Before the socket, which a busy flow makes readable always.
                _ = look.tick(), if over.is_none() => flow.look(irmd).await,
                ready = socket.readable_mut() => {
                    let mut ready = ready.map_err(|error| failed(&error))?;
                    match self.read(ready.get_inner_mut(), BATCH)? {
                        Read::Dry => ready.clear_ready(),
                        Read::More => tokio::task::yield_now().await,
                        Read::Over(end) => return Ok(end),
                    }
                }
            }
        }
    }

    fn id(&self) -> Option<u64> {
        match &self.subject {
            Subject::Flow(flow) => Some(flow.label.flow),
            Subject::Name(_) => None,
        }
    }

    /// What waits to be read is of the capture, too.
    fn last(&mut self, socket: &mut AsyncFd<PacketSocket>, end: End) -> Result<End, Fault> {
        match self.read(socket.get_mut(), 1 << 16)? {
            Read::Over(end) => Ok(end),
            _ => Ok(end),
        }
    }

    fn read(&mut self, socket: &mut PacketSocket, most: usize) -> Result<Read, Fault> {
        for _ in 0..most {
            let Some(received) = socket.receive().map_err(|error| failed(&error))? else {
                return Ok(if self.sink.flush()? { Read::Dry } else { Read::Over(End::Unread) });
            };
            if !self.sink.take(&received, &mut self.subject, &mut self.left)? {
                return Ok(Read::Over(End::Unread));
            }
            if self.left == 0 {
                return Ok(Read::Over(End::Counted));
            }
        }
        Ok(Read::More)
    }
}

enum Read {
    Dry,
    More,
    Over(End),
}

/// Whether the flow is still there.
struct Watch {
    id: Option<u64>,
    /// When irmd was not reachable last.
    lost: Option<Instant>,
    /// When the capture ends.
    over: Option<Instant>,
}

impl Watch {
    async fn look(&mut self, irmd: &mut Irmd) {
        let Some(flow_id) = self.id else { return };
        let path = irmd.path();
        let asked = irmd.client.flow_show(v1::FlowShowRequest { flow_id });
        let now = Instant::now();
        let over = match Irmd::answer(&path, LOOK_WITHIN, asked).await {
            Ok(info) => {
                self.lost = None;
                !matches!(info.state(), v1::FlowState::Allocated | v1::FlowState::Pending | v1::FlowState::Ending)
            }
            // Of one that ended irmd knows for a minute. So it is another irmd, which may not have heard of it yet.
            Err(Fault::Said(failure)) if failure.kind() == v1::FailureKind::NotFound => {
                now.duration_since(*self.lost.get_or_insert(now)) > RETURN
            }
            // Flows outlive daemons.
            Err(_) => {
                self.lost = Some(now);
                false
            }
        };
        if over {
            self.over = Some(now + LAST_WORDS);
        }
    }
}

async fn until(over: Option<Instant>) {
    match over {
        Some(over) => tokio::time::sleep_until(over).await,
        None => std::future::pending().await,
    }
}

async fn flow(irmd: &mut Irmd, id: u64) -> Result<Flow, Fault> {
    let path = irmd.path();
    let info = Irmd::answer(&path, QUICK, irmd.client.flow_show(v1::FlowShowRequest { flow_id: id })).await?;
    let unfit = |unfit: Unfit| Fault::Unable(unfit.text(id));
    let listen = listens(irmd).await?.into_iter().find(|(name, _)| *name == info.ipcp).map(|(_, address)| address);
    // A local flow has no IPCP, and says so itself.
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    Flow::new(&info, listen.unwrap_or(nowhere)).map_err(unfit)
}

async fn named(irmd: &mut Irmd, name: &str) -> Result<Named, Fault> {
    let name = Name::new(name).map_err(|error| Fault::Unable(error.to_string()))?;
    let listen: Vec<_> = listens(irmd).await?.into_iter().map(|(_, address)| address).collect();
    if listen.is_empty() {
        let text = "no IPCP of this host has an address, so flows stay within it and there are no packets; see `irm ipcp bootstrap --help`";
        return Err(Fault::Unable(text.to_owned()));
    }
    Ok(Named::new(name, listen))
}

/// Where this host's shims listen, by their names.
async fn listens(irmd: &mut Irmd) -> Result<Vec<(String, std::net::SocketAddr)>, Fault> {
    let path = irmd.path();
    let stream = Irmd::answer(&path, QUICK, irmd.client.ipcp_list(v1::Empty {})).await?;
    let rows: Vec<v1::IpcpInfo> = Irmd::rows(&path, stream).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.name, row.address.parse().ok()?))).collect())
}

/// The packets pass the network that this program is in, which may be another than the IPCP's.
fn is_here(subject: &Subject) -> Result<(), Fault> {
    let (_, addresses) = devices::with_addresses()?;
    match subject.places().iter().find(|(address, _)| !address.is_loopback() && !addresses.contains(address)) {
        None => Ok(()),
        Some((address, _)) => Err(Fault::Unable(format!(
            "{address} is no address of the network that irm runs in; run irm where the IPCP runs: \
             `sudo nsenter --net --target PID irm flow capture …`, its PID is in `irm ipcp list`"
        ))),
    }
}

fn device(name: &str) -> Result<u32, Fault> {
    let unknown = |_| Fault::Unable(format!("there is no device {name}; `ip link` shows those there are"));
    nix::net::if_::if_nametoindex(name).map_err(unknown)
}

/// Why there is no socket.
fn refused(error: &io::Error) -> Fault {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return failed(error);
    }
    let program = std::env::current_exe().map_or_else(|_| "irm".to_owned(), |path| path.display().to_string());
    Fault::Unable(format!(
        "capturing needs the capability CAP_NET_RAW; run it with sudo, or let whoever may run this program see all \
         packets: `sudo setcap cap_net_raw+ep {program}`"
    ))
}

fn failed(error: &io::Error) -> Fault {
    Fault::Unable(format!("cannot capture: {error}"))
}
