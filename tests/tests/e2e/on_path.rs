//! Somebody on the path who strips or changes what hosts say to each other: no message or stream flow comes of it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::Host;
use libflow::blocking::{Flow, Stack};
use libflow::{AllocError, Cube};

pub(crate) fn cases() -> Vec<Case> {
    cases![a_stripped_extension_gives_no_encrypted_flow, changed_data_gives_no_encrypted_flow]
}

/// Where shims listen.
const SHIM: u16 = 3359;
const LOOK: Duration = Duration::from_millis(50);
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);

/// Host m in the middle: a takes it for the one that serves "talk".
fn stage() -> Result<(Net, Host)> {
    let net = Net::bare()?;
    let m = net.another("m")?;
    net.a.bootstrap(&[("talk", &m)])?;
    net.b.bootstrap(&[])?;
    Ok((net, m))
}

fn alloc(net: &Net, cube: Cube) -> Result<Flow, AllocError> {
    let stack = Stack::find(Some(net.a.run_dir()))?;
    stack.alloc("talk").qos(cube.into()).data("player one").timeout(SOON).wait()
}

/// Only the name is left of the request: what answers is classic, or made to look so.
fn a_stripped_extension_gives_no_encrypted_flow() -> Result<()> {
    let (net, m) = stage()?;
    let (listens, answers) = (m.socket(SHIM)?, m.socket(0)?);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut request = [0; 2048];
            listens.set_read_timeout(Some(LOOK)).expect("a time");
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, from)) = listens.recv_from(&mut request) {
                    let _ = answers.send_to(b"talk", from);
                }
            }
        });
        let results = [Cube::Stream, Cube::Message].map(|cube| (cube, alloc(&net, cube)));
        // A raw flow is had so: the stage works.
        let raw = alloc(&net, Cube::Raw);
        stop.store(true, Ordering::Relaxed);
        for (cube, result) in results {
            let Err(AllocError::UnsupportedQos { message }) = result else { panic!("{cube:?}: {result:?}") };
            let wanted = format!(
                "answered for talk as a classic shim does, which carries raw flows only: it is one, or its answer was changed \
                 on the path; ask for QoS raw instead of {}, or have that host updated",
                cube.as_str()
            );
            ensure!(message.contains(&wanted), "{message}");
        }
        raw?.dealloc();
        Ok(())
    })
}

/// Passes datagrams between a client and the shim and the flows of b, each way from one port of m's, and changes the request.
fn forward(m: &Host, listens: &UdpSocket, b: IpAddr, stop: &AtomicBool, change: impl Fn(&mut [u8])) -> Result<()> {
    let onward = m.socket(0)?;
    let (mut client, mut sp): (Option<SocketAddr>, Option<(u16, UdpSocket)>) = (None, None);
    let mut bytes = [0; 65_536];
    for socket in [listens, &onward] {
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    }
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = listens.recv_from(&mut bytes)
            && from.port() != SHIM
        {
            client = Some(from);
            change(&mut bytes[..length]);
            onward.send_to(&bytes[..length], (b, SHIM))?;
        }
        while let Ok((length, from)) = onward.recv_from(&mut bytes) {
            let Some(client) = client else { continue };
            if from.port() == SHIM {
                listens.send_to(&bytes[..length], client)?;
                continue;
            }
            // From the flow's port: as if from a port of m's own, on which the client's datagrams then come.
            if sp.as_ref().is_none_or(|(port, _)| *port != from.port()) {
                let socket = m.socket(from.port())?;
                socket.set_read_timeout(Some(Duration::from_millis(1)))?;
                sp = Some((from.port(), socket));
            }
            if let Some((_, socket)) = &sp {
                socket.send_to(&bytes[..length], client)?;
            }
        }
        if let Some((port, socket)) = &sp {
            while let Ok((length, _)) = socket.recv_from(&mut bytes) {
                onward.send_to(&bytes[..length], (b, *port))?;
            }
        }
    }
    Ok(())
}

fn changed_data_gives_no_encrypted_flow() -> Result<()> {
    let (net, m) = stage()?;
    // Taken once: a process that another test starts meanwhile may hold a closed socket, and so its port, for a moment.
    let listens = m.socket(SHIM)?;
    let listener = flowring_tests::flows::listen(&net.b, "talk")?;
    let b = net.b.address();
    for changed in [false, true] {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let forwarding = scope.spawn(|| {
                forward(&m, &listens, b, &stop, |bytes| {
                    let at = bytes.windows(10).position(|window| window == b"player one");
                    if let (true, Some(at)) = (changed, at) {
                        bytes[at..at + 10].copy_from_slice(b"player two");
                    }
                })
            });
            // Nobody is accepted where the request was changed: waited for as long as this side hears of it.
            let accepting = scope.spawn(|| listener.accept_within(if changed { ACCEPTED_WITHIN } else { SOON }));
            let asked = alloc(&net, Cube::Stream);
            let accepted = accepting.join().expect("no panic");
            let verdict = match (changed, asked) {
                // The stage works: an unchanged request becomes a flow.
                (false, Ok(_)) => Ok(()),
                (true, Err(AllocError::Handshake { message })) if message.contains("changed on the path") => Ok(()),
                (_, other) => Err(anyhow::anyhow!("changed: {changed}; {other:?}")),
            };
            stop.store(true, Ordering::Relaxed);
            forwarding.join().expect("no panic")?;
            ensure!(accepted.is_ok() != changed, "accepted: {accepted:?}");
            verdict
        })?;
    }
    Ok(())
}
