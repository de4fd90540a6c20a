//! `tcpstripe proxy`: takes clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libflow::Stack;
use tokio::net::{TcpListener, TcpStream};

use super::adapting::Adapting;
use super::dial::{self, Dialer};
use super::local::Local;
use super::registry::{Place, Registry};
use super::tie::{Command, Outcome, Tie};
use super::{print, sockets};
use crate::machine::adapt::Adapt;
use crate::machine::{Classic, State, Stripe};
use crate::said::join::GroupId;
use crate::said::rule::Proxy;

/// Without descriptors: how long until the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// A rule's proxy, ready to take clients.
pub(super) struct Proxying {
    pub(super) rule: Proxy,
    pub(super) name: Arc<str>,
    pub(super) stack: Option<Stack>,
    pub(super) registry: Arc<Registry>,
}

/// Takes clients until it is dropped.
pub(super) async fn serve(listener: TcpListener, proxying: Arc<Proxying>) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                print::log(&format!("cannot accept a client: {error}; trying again"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Else closing it would be no reset; its reads will tell what is wrong with it.
        let _ = sockets::prepare(&stream);
        let Some((place, _, commands)) = proxying.registry.enter(&proxying.name, client.to_string()) else {
            print::log(&format!("{client}: reset, because as many clients as may be are served"));
            continue;
        };
        tokio::spawn(carry(proxying.clone(), stream, client.to_string(), place, commands));
    }
}

/// An error of the connection that was to be accepted, and of no other.
pub(super) fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | NetworkUnreachable)
}

/// One client, from its acceptance to its end.
async fn carry(
    proxying: Arc<Proxying>,
    stream: TcpStream,
    client: String,
    place: Place,
    commands: tokio::sync::mpsc::Receiver<Command>,
) {
    let local = Local::tcp(stream);
    match tie(&proxying, &client, local, commands).await {
        Ok(tie) => {
            let outcome = tie.run().await.close().await;
            tell(&client, &outcome, place.age());
            place.leave(&outcome);
        }
        Err(why) => print::log(&format!("{client}: reset, because {why}")),
    }
}

/// A group for one client, about to run.
pub(super) async fn tie(
    proxying: &Proxying,
    client: &str,
    local: Local,
    commands: tokio::sync::mpsc::Receiver<Command>,
) -> Result<Tie, String> {
    let rule = &proxying.rule;
    match &proxying.stack {
        None => {
            let carriers = dial::establish(rule).await?;
            let mut tie = Tie::new(Box::new(Classic::new(&rule.how)), Some(local), commands);
            for (index, carrier) in (0..).zip(carriers) {
                tie.add(carrier, index, bytes::Bytes::new());
            }
            Ok(tie)
        }
        Some(stack) => {
            let mut number = [0; 8];
            getrandom::fill(&mut number).map_err(|error| format!("there are no random numbers: {error}"))?;
            let group = GroupId(u64::from_be_bytes(number));
            let now = std::time::Instant::now();
            let machine = Stripe::new(now, &rule.how, None);
            let (least, most) = rule.tracks.bounds(rule.to.len());
            let dialer = Dialer::new(stack.clone(), &rule.to, most, group, &rule.how);
            let adapting = Adapting { adapt: Adapt::new(now, least, most), client: client.to_owned() };
            Ok(Tie::new(Box::new(machine), Some(local), commands).with_dialer(dialer, adapting))
        }
    }
}

/// One line for a group that is over.
pub(super) fn tell(client: &str, outcome: &Outcome, age: Duration) {
    let (out, back) = (outcome.view.bytes_out, outcome.view.bytes_in);
    let carried = format!("{out} bytes from here, {back} to here, {:.1} s", age.as_secs_f64());
    let why = outcome.why.as_deref().map_or(String::new(), |why| format!(" ({why})"));
    match outcome.state {
        State::Done | State::Open => print::log(&format!("{client}: complete, {carried}{why}")),
        State::Aborted(abort) => print::log(&match &outcome.why {
            Some(why) => format!("{client}: reset, because {why}; {carried}"),
            None => format!("{client}: reset, because {}; {carried}", abort.words()),
        }),
        State::PeerAborted(abort) => {
            print::log(&format!("{client}: reset by the other end, because {}; {carried}{why}", abort.words()));
        }
    }
}
