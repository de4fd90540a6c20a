//! Much, over a link that loses and reorders.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::pattern;
use flowring_tests::harness::Case;
use sha2::{Digest as _, Sha256};

use super::stage::{BOTH, Stage};
use super::whole::BAD;

pub(super) fn cases() -> Vec<Case> {
    cases![much_is_whole_over_a_bad_link]
}

/// Of each kind of tracks: a GiB.
const BYTES: u64 = 1 << 30;
const BLOCK: usize = 1 << 20;

fn much_is_whole_over_a_bad_link() -> Result<()> {
    for over in BOTH {
        let stage = Stage::up(over, 8)?;
        stage.net.b.link().set(BAD)?;
        let (client, server) = stage.pair()?;
        let writing = std::thread::Builder::new().name("write".into()).spawn(move || pour(client, BYTES))?;
        let (came, heard) = drain(server).with_context(|| format!("over {over:?}"))?;
        let said = writing.join().expect("no panic")?;
        ensure!(came == BYTES && heard == said, "over {over:?}: {came} bytes of {BYTES}, or others");
    }
    Ok(())
}

/// So many bytes, no block of which is like another, and the end; their SHA-256.
fn pour(mut to: TcpStream, bytes: u64) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut block = pattern(BLOCK);
    let mut left = bytes;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_be_bytes());
        let len = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        hash.update(&block[..len]);
        to.write_all(&block[..len])?;
        left -= len as u64;
    }
    to.shutdown(Shutdown::Write)?;
    Ok(hash.finalize().into())
}

/// What comes, to its end; the SHA-256 of it.
fn drain(mut from: TcpStream) -> Result<(u64, [u8; 32])> {
    let (mut hash, mut block, mut bytes) = (Sha256::new(), vec![0; BLOCK], 0);
    loop {
        match from.read(&mut block).with_context(|| format!("after {bytes} bytes"))? {
            0 => return Ok((bytes, hash.finalize().into())),
            len => {
                hash.update(&block[..len]);
                bytes += len as u64;
            }
        }
    }
}
