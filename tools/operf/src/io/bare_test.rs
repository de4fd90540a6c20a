//! Tests over a bare socket: how the two sides meet without an allocation.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::bare::Bare;
use super::carrier::{Carrier, Gone};
use super::{NOTHING, OK, UNABLE, client, print, serve};
use crate::machine::params::Params;
use crate::machine::result::Route;
use crate::machine::sdu::{self, Sdu};

/// A server that is there answers at once; a greeting may be lost.
const GREET_EVERY: Duration = Duration::from_millis(100);
const GREETINGS: u32 = 20;

/// Between two tests the server's port is closed for a moment.
const AGAIN: Duration = Duration::from_millis(20);
const REFUSALS: u32 = 50;

/// `--bare ADDR:PORT`
pub(crate) fn measure(peer: SocketAddr, params: &Params, json: bool) -> u8 {
    let mut bare = match Bare::dial(peer) {
        Ok(bare) => bare,
        Err(error) => {
            print::error(&format!("cannot open a socket to {peer}: {error}"));
            return UNABLE;
        }
    };
    if let Err(why) = greet(&mut bare, params) {
        print::error(&format!("nobody to measure at {peer}: {why}; start `operf --bare-listen {peer}` there"));
        return NOTHING;
    }
    let route = Route {
        target: peer.to_string(),
        carrier: "bare",
        qos: "raw",
        flow_id: None,
        layer: None,
        peer_address: Some(peer.to_string()),
    };
    client::measure(&mut bare, &route, params, json)
}

fn greet(bare: &mut Bare, params: &Params) -> Result<(), String> {
    let hello = sdu::hello(&params.to_string());
    let mut room = vec![0; sdu::MAX];
    let (mut unanswered, mut refused) = (0, 0);
    while unanswered < GREETINGS {
        match bare.send(&hello).and_then(|_| bare.recv_within(&mut room, GREET_EVERY)) {
            Ok(Some(len)) if matches!(sdu::read(&room[..len]), Some(Sdu::Welcome | Sdu::Data(_))) => return Ok(()),
            Ok(_) => unanswered += 1,
            Err(Gone(why)) if refused == REFUSALS => return Err(why),
            Err(Gone(_)) => {
                refused += 1;
                std::thread::sleep(AGAIN);
            }
        }
    }
    Err("no answer".into())
}

/// `--bare-listen ADDR:PORT`: one test after the other, for ever.
pub(crate) fn listen(mut address: SocketAddr, quiet: bool) -> u8 {
    let mut announced = false;
    loop {
        let bound = UdpSocket::bind(address).and_then(|socket| socket.local_addr().map(|at| (socket, at)));
        let (socket, at) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                print::error(&format!("cannot listen on {address}: {error}"));
                return UNABLE;
            }
        };
        // Port 0 was the system's choice once; the next test uses the same.
        address = at;
        if !announced {
            announced = true;
            if !print::line(&format!("operf listens on {address}, bare")) {
                return OK;
            }
        }
        match test(socket) {
            Ok(line) if quiet || print::line(&line) => {}
            Ok(_) => return OK,
            Err(error) => {
                print::error(&format!("the socket on {address} failed: {error}"));
                return UNABLE;
            }
        }
    }
}

/// Waits for a greeting, connects to its sender, runs the test.
fn test(socket: UdpSocket) -> std::io::Result<String> {
    let mut room = vec![0; sdu::MAX];
    let (peer, params) = loop {
        let (len, peer) = socket.recv_from(&mut room)?;
        if let Some(Sdu::Hello(text)) = sdu::read(&room[..len])
            && let Ok(params) = Params::read(text)
        {
            break (peer, params);
        }
    };
    socket.connect(peer)?;
    socket.send(&sdu::welcome())?;
    let line = serve::serve(&mut Bare::new(socket), &params);
    Ok(format!("{peer}: {params}: {line}"))
}
