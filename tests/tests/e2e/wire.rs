//! What of message and stream flows can be seen on the wire.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::{carry, flow, listen, pattern};
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running, Signal};
use libflow::Cube;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![programs ["dumpcap"]: a_raw_flow_shows_all_and_a_stream_flow_nothing];
    cases.extend(cases![programs ["dumpcap", "tshark"]: the_handshake_offers_the_post_quantum_group_first]);
    cases
}

/// A capture of all UDP that passes a host.
pub(crate) struct Capture {
    dumpcap: Running,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Capture {
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("all.pcap");
        let words = ["-i", "eth0", "-f", "udp", "-B", "16", "-P", "-w", path(&file)?];
        let dumpcap = host.start("dumpcap", &words)?;
        dumpcap.expect_log(SOON, "File: ")?;
        Ok(Self { dumpcap, file, folder })
    }

    /// The capture once it has what is waited for: dumpcap writes a moment later.
    pub(crate) fn stop(mut self, whole: impl Fn(&[u8]) -> bool) -> Result<(Vec<u8>, PathBuf, tempfile::TempDir)> {
        lab::wait_until(SOON, "the capture is whole", || std::fs::read(&self.file).is_ok_and(|bytes| whole(&bytes)))?;
        self.dumpcap.signal(Signal::INT)?;
        self.dumpcap.wait(SOON)?;
        Ok((std::fs::read(&self.file)?, self.file, self.folder))
    }
}

fn path(file: &Path) -> Result<&str> {
    file.to_str().context("a path of text")
}

/// How many of the text's pieces stand in the capture.
fn seen(capture: &[u8], text: &[u8]) -> usize {
    let pieces: std::collections::HashSet<&[u8]> = text.chunks_exact(16).collect();
    let mut found = std::collections::HashSet::new();
    for window in capture.windows(16) {
        if let Some(piece) = pieces.get(window) {
            found.insert(*piece);
        }
    }
    found.len()
}

fn a_raw_flow_shows_all_and_a_stream_flow_nothing() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let secret = pattern(1 << 20);
    let capture = Capture::start(&net.b)?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Raw)?;
    let mut buffer = [0; 2048];
    for sdu in secret.chunks(1024) {
        asked.send(sdu)?;
        accepted.recv_within(&mut buffer, SOON)?;
    }
    // So the capture is one, and the search finds.
    capture.stop(|bytes| bytes.len() > 1 << 20 && seen(bytes, &secret) == (1 << 20) / 16)?;
    for cube in [Cube::Stream, Cube::Message] {
        let capture = Capture::start(&net.b)?;
        let (asked, accepted) = flow(&net.a, &listener, cube)?;
        if cube == Cube::Stream {
            carry(&asked, &accepted, &secret)?;
        } else {
            for message in secret.chunks(1024) {
                asked.send(message)?;
                accepted.recv_within(&mut buffer, SOON)?;
            }
        }
        let (bytes, ..) = capture.stop(|bytes| bytes.len() > 1 << 20)?;
        let seen = seen(&bytes, &secret);
        ensure!(seen == 0, "{seen} pieces of the plaintext are to be seen on a {cube:?} flow");
    }
    Ok(())
}

fn the_handshake_offers_the_post_quantum_group_first() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let capture = Capture::start(&net.b)?;
    let (asked, _accepted) = flow(&net.a, &listener, Cube::Stream)?;
    let peer = asked.peer();
    let (_, port) = peer.address.rsplit_once(':').context("the peer's port")?;
    // A request, its answers and a handshake with two chains of certificates.
    let (_, file, _folder) = capture.stop(|bytes| bytes.len() > 8_000)?;
    let decode = format!("udp.port=={port},quic");
    let field = |filter: &str, field: &str| -> Result<String> {
        let words = ["-r", path(&file)?, "-d", &decode, "-Y", filter, "-T", "fields", "-e", field];
        let output = net.b.run("tshark", &words)?;
        ensure!(output.code() == 0, "tshark: {}", output.err);
        Ok(output.out.trim().to_owned())
    };
    let offered = field("tls.handshake.type == 1", "tls.handshake.extensions_supported_group")?;
    // X25519MLKEM768, RFC 9794 and draft-ietf-tls-ecdhe-mlkem: 0x11ec.
    ensure!(offered.to_lowercase().starts_with("0x11ec"), "offered: {offered}");
    let chosen = field("tls.handshake.type == 2", "tls.handshake.extensions_key_share_group")?;
    ensure!(["0x11ec", "4588"].contains(&chosen.to_lowercase().as_str()), "chosen: {chosen}");
    let alpn = field("tls.handshake.type == 1", "tls.handshake.extensions_alpn_str")?;
    ensure!(alpn.starts_with("flowring/1 ") && alpn.len() == 11 + 64, "ALPN: {alpn}");
    Ok(())
}
