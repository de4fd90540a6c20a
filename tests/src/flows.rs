//! Flows of the tests' own, by libflow's blocking face.

use std::io::{Read as _, Write as _};

use anyhow::{Result, ensure};
use lab::Host;
use libflow::blocking::{Flow, Listener, Stack};
use libflow::{Cube, Qos};

use crate::net::{Net, SOON};

/// The daemons of a host.
pub fn stack(host: &Host) -> Result<Stack> {
    Ok(Stack::find(Some(host.run_dir()))?)
}

/// A listener at a host.
pub fn listen(host: &Host, name: &str) -> Result<Listener> {
    Ok(stack(host)?.listen(name).wait()?)
}

/// A flow from a host to a listener, and its other end.
pub fn flow(from: &Host, listener: &Listener, cube: Cube) -> Result<(Flow, Flow)> {
    let asking = stack(from)?;
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept_within(SOON));
        let asked = asking.alloc(listener.name()).qos(Qos::from(cube)).timeout(SOON).wait()?;
        Ok((asked, accepted.join().expect("no panic")?))
    })
}

/// A flow from a to a new listener at b, its other end, and the listener.
pub fn pair(net: &Net, name: &str, cube: Cube) -> Result<(Flow, Flow, Listener)> {
    let listener = listen(&net.b, name)?;
    let (asked, accepted) = flow(&net.a, &listener, cube)?;
    Ok((asked, accepted, listener))
}

/// Bytes that differ everywhere.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32 / 4 + 1).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

/// Sends the bytes over one new stream of the flow; the other end must get these and no others.
pub fn carry(asked: &Flow, accepted: &Flow, bytes: &[u8]) -> Result<()> {
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<Vec<u8>> {
            let mut got = Vec::new();
            accepted.accept_stream()?.read_to_end(&mut got)?;
            Ok(got)
        });
        let mut stream = asked.open_stream()?;
        stream.write_all(bytes)?;
        stream.finish()?;
        ensure!(reader.join().expect("no panic")? == bytes, "other bytes came");
        Ok(())
    })
}
