//! ro-ro-tcp's protocols, spoken byte by byte by a scripted peer in both roles.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::Host;

use super::stage::{self, Over, Stage, connect, expect_reset, listening, patient, read, start};

pub(super) fn cases() -> Vec<Case> {
    cases![
        the_relay_speaks_the_seeds_protocols,
        the_proxy_speaks_the_seeds_protocols,
        serials_go_around_on_the_wire,
        the_relay_ends_who_is_no_track,
        a_broken_group_is_torn_down_whole,
    ]
}

fn relay(at: &Host, words: &[&str]) -> Result<(lab::Running, SocketAddr, TcpListener)> {
    let target = at.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let to = target.local_addr()?.to_string();
    let relay = start(at, &[&["relay", "--accept", "tcp:127.0.0.1:0", "--to", &to], words].concat())?;
    let address = listening(&relay)?;
    Ok((relay, address, target))
}

fn number(from: &mut TcpStream) -> Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// A track as the seed's proxy opens it; 0 asks for a group.
fn join(at: &Host, relay: SocketAddr, group: u32) -> Result<(TcpStream, u32)> {
    let mut track = connect(at, relay)?;
    track.write_all(&group.to_be_bytes())?;
    let answer = number(&mut track)?;
    Ok((track, answer))
}

fn datagram(serial: u16, bytes: &[u8], long: bool) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&serial.to_be_bytes()[..], if long { &size[..] } else { &size[2..] }, bytes].concat()
}

/// One datagram of a track: its serial and its bytes; `None` at the track's end.
fn next(track: &mut TcpStream, long: bool) -> Result<Option<(u16, Vec<u8>)>> {
    let mut header = [0; 6];
    let header = &mut header[..if long { 6 } else { 4 }];
    match track.read(&mut header[..1])? {
        0 => return Ok(None),
        _ => track.read_exact(&mut header[1..])?,
    }
    let size = header[2..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut bytes = vec![0; size];
    track.read_exact(&mut bytes)?;
    Ok(Some((u16::from_be_bytes([header[0], header[1]]), bytes)))
}

fn accepted(target: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = target.accept()?;
    patient(&stream)?;
    Ok(stream)
}

fn the_relay_speaks_the_seeds_protocols() -> Result<()> {
    let net = Net::bare()?;
    for long in [false, true] {
        let (_relay, address, target) = relay(&net.b, &["--framing", if long { "u32" } else { "u16" }])?;
        let (mut first, group) = join(&net.b, address, 0)?;
        ensure!(group != 0, "the number of no group");
        let mut server = accepted(&target)?;
        let (mut second, same) = join(&net.b, address, group)?;
        ensure!(same == group, "{same} for {group}");
        // Out of order over two tracks, and a datagram in two parts.
        second.write_all(&datagram(2, b"world", long))?;
        let one = datagram(1, b"hello ", long);
        first.write_all(&one[..7])?;
        first.write_all(&one[7..])?;
        let mut got = [0; 11];
        server.read_exact(&mut got)?;
        ensure!(&got == b"hello world");
        // The answer begins with serial 1, whichever track brings it.
        server.write_all(b"answer")?;
        server.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        for track in [&mut first, &mut second] {
            while let Some(datagram) = next(track, long)? {
                all.push(datagram);
            }
        }
        all.sort();
        let serials: Vec<u16> = all.iter().map(|(serial, _)| *serial).collect();
        ensure!(serials == (1..=serials.len() as u16).collect::<Vec<_>>(), "{serials:?}");
        ensure!(all.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>() == b"answer", "{all:?}");
        // Half-closed: this way still carries, until all tracks have ended.
        first.write_all(&datagram(3, b"!", long))?;
        first.shutdown(Shutdown::Write)?;
        second.shutdown(Shutdown::Write)?;
        ensure!(read(&server)? == b"!");
    }
    Ok(())
}

fn the_proxy_speaks_the_seeds_protocols() -> Result<()> {
    let net = Net::bare()?;
    let relay = net.a.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let to = format!("tcp:{}", relay.local_addr()?);
    let proxy = start(&net.a, &["proxy", "--listen", "127.0.0.1:0", "--to", &to, "-n", "3"])?;
    let mut client = connect(&net.a, listening(&proxy)?)?;
    client.write_all(b"early")?;
    let mut tracks = vec![accepted(&relay)?];
    ensure!(number(&mut tracks[0])? == 0, "the first track asks for a group");
    tracks[0].write_all(&0x0102_0304_u32.to_be_bytes())?;
    for _ in 1..3 {
        let mut track = accepted(&relay)?;
        ensure!(number(&mut track)? == 0x0102_0304, "the others say its number");
        tracks.push(track);
    }
    // Data before all are up: kept, in order, until its turn.
    tracks[0].write_all(&datagram(2, b"day", false))?;
    for track in &mut tracks[1..] {
        track.write_all(&0x0102_0304_u32.to_be_bytes())?;
    }
    tracks[2].write_all(&datagram(1, b"good ", false))?;
    let mut got = [0; 8];
    client.read_exact(&mut got)?;
    ensure!(&got == b"good day");
    client.write_all(b" bird")?;
    client.shutdown(Shutdown::Write)?;
    let mut all = Vec::new();
    for track in &mut tracks {
        while let Some(datagram) = next(track, false)? {
            all.push(datagram);
        }
    }
    all.sort();
    ensure!(all.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>() == b"early bird", "{all:?}");
    ensure!(all[0].0 == 1, "the first serial is 1: {all:?}");
    // The end of this way, on all tracks, is the client's.
    drop(tracks);
    ensure!(read(&client)?.is_empty());
    Ok(())
}

/// More datagrams than a serial has numbers, three times over, both ways of framing them known from here.
fn serials_go_around_on_the_wire() -> Result<()> {
    let net = Net::bare()?;
    let (_relay, address, target) = relay(&net.b, &["--chunk", "8"])?;
    let (mut first, group) = join(&net.b, address, 0)?;
    let (mut second, _) = join(&net.b, address, group)?;
    let mut server = accepted(&target)?;
    const MANY: u32 = 210_000;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<()> {
            let got = read(&server)?;
            let numbers = got.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four")));
            ensure!(got.len() == 4 * MANY as usize && numbers.eq(1..=MANY), "{} bytes", got.len());
            (&server).write_all(&got)?;
            server.shutdown(Shutdown::Write)?;
            Ok(())
        });
        for block in (1..=MANY).collect::<Vec<_>>().chunks(1_000) {
            for (track, odd) in [(&mut first, 1), (&mut second, 0)] {
                let of = block.iter().filter(|serial| **serial % 2 == odd);
                // The low bits: that is what a serial on the wire is.
                let bytes: Vec<u8> =
                    of.flat_map(|serial| datagram(*serial as u16, &serial.to_be_bytes(), false)).collect();
                track.write_all(&bytes)?;
            }
        }
        first.shutdown(Shutdown::Write)?;
        second.shutdown(Shutdown::Write)?;
        reading.join().expect("no panic")
    })?;
    server.flush()?;
    // And back: 105,000 datagrams of 8 bytes, each track's own in order.
    let mut last = [0_u64; 2];
    let mut tracks = [std::io::BufReader::new(first), std::io::BufReader::new(second)];
    let mut numbers = Vec::new();
    for (track, last) in tracks.iter_mut().zip(&mut last) {
        loop {
            let mut header = [0; 4];
            if track.read(&mut header[..1])? == 0 {
                break;
            }
            track.read_exact(&mut header[1..])?;
            let [high, low, _, size] = header;
            *last += u64::from(u16::from_be_bytes([high, low]).wrapping_sub(*last as u16));
            numbers.push(*last);
            track.read_exact(&mut vec![0; size.into()])?;
        }
    }
    numbers.sort_unstable();
    ensure!(
        numbers.len() >= 4 * MANY as usize / 8 && numbers.iter().copied().eq(1..=numbers.len() as u64),
        "{} datagrams",
        numbers.len()
    );
    Ok(())
}

fn the_relay_ends_who_is_no_track() -> Result<()> {
    let net = Net::bare()?;
    let (relay, address, target) = relay(&net.b, &["--dial-timeout", "0.5"])?;
    // Of a group that is not there; garbage is one, too.
    for bytes in [[0, 0, 0, 9], *b"GET "] {
        let mut stranger = connect(&net.b, address)?;
        stranger.write_all(&bytes)?;
        expect_reset(&stranger, "a stranger")?;
    }
    // Says half a number, or nothing.
    for bytes in [&b"\0\0"[..], b""] {
        let mut stranger = connect(&net.b, address)?;
        stranger.write_all(bytes)?;
        expect_reset(&stranger, "who says nothing")?;
    }
    relay.expect_log(SOON, "there is no group 9")?;
    // Whoever they were, groups come about.
    let (mut track, _) = join(&net.b, address, 0)?;
    track.write_all(&datagram(1, b"fine", false))?;
    let mut server = accepted(&target)?;
    let mut got = [0; 4];
    server.read_exact(&mut got)?;
    // And the target's death is told by no number at all.
    let dead = target.local_addr()?;
    drop(target);
    // A program that is being started at this moment may have it open for a little longer.
    lab::wait_until(SOON, "the target's port to be closed", || {
        net.b.inside(|| TcpStream::connect(dead)).is_ok_and(|connected| connected.is_err())
    })?;
    let mut late = connect(&net.b, address)?;
    late.write_all(&[0; 4])?;
    expect_reset(&late, "who asks for a dead target")?;
    relay.expect_log(SOON, "cannot be reached")?;
    Ok(())
}

/// "In case of errors, all related connections are torn down."
fn a_broken_group_is_torn_down_whole() -> Result<()> {
    type Story = fn(&mut [TcpStream; 2]) -> Result<()>;
    let stories: [(&str, Story); 4] = [
        ("a track ends in a header", |[_, second]| {
            second.write_all(&[0])?;
            Ok(second.shutdown(Shutdown::Write)?)
        }),
        ("a track ends in a datagram", |[_, second]| {
            second.write_all(&datagram(1, b"abcdef", false)[..6])?;
            Ok(second.shutdown(Shutdown::Write)?)
        }),
        ("a serial comes twice", |[first, second]| {
            first.write_all(&datagram(1, b"a", false))?;
            Ok(second.write_all(&datagram(1, b"a", false))?)
        }),
        ("a datagram is missing at the end", |[first, second]| {
            first.write_all(&datagram(2, b"b", false))?;
            first.shutdown(Shutdown::Write)?;
            Ok(second.shutdown(Shutdown::Write)?)
        }),
    ];
    let net = Net::bare()?;
    let (_relay, address, target) = relay(&net.b, &[])?;
    for (what, story) in stories {
        let (first, group) = join(&net.b, address, 0)?;
        let (second, _) = join(&net.b, address, group)?;
        let server = accepted(&target)?;
        let mut tracks = [first, second];
        story(&mut tracks).context(what)?;
        expect_reset(&server, &format!("the target, when {what},"))?;
        expect_reset(&tracks[0], &format!("the other track, when {what},"))?;
    }
    let (first, group) = join(&net.b, address, 0)?;
    let (second, _) = join(&net.b, address, group)?;
    let server = accepted(&target)?;
    stage::reset(second)?;
    expect_reset(&server, "the target, when a track is reset,")?;
    expect_reset(&first, "the other track, when one is reset,")?;
    // A proxy of ours tears down its client's, too.
    let stage = Stage::up(Over::Tcp, 2)?;
    let (client, _server) = stage.pair()?;
    let mut relay = stage.relay;
    relay.kill()?;
    expect_reset(&client, "the client")
}
