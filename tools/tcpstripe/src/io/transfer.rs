//! `tcpstripe send`: a file, whole or not at all. What is there of it from before is not sent again.

use std::io;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::local::Local;
use super::proxy::{self, Proxying};
use super::registry::Registry;
use super::tie::Outcome;
use super::{FAILED, Failure, USAGE, print, stack};
use crate::cli::SendArgs;
use crate::machine::State;
use crate::said::end::{HostPort, Via};
use crate::said::file::{self, Offer};
use crate::said::rule::{Proxy, Rule};

/// Bytes moved at once.
pub(super) const BLOCK: usize = 256 << 10;
/// Bytes of an answer's words.
pub(super) const WORDS: u64 = 400;

/// Sends a file and waits until it is stored.
pub(super) async fn send(run_dir: Option<&Path>, args: SendArgs) -> Result<(), Failure> {
    let failed = |why: String| Failure(FAILED, why);
    let listen = HostPort { host: "127.0.0.1".to_owned(), port: 0 };
    let rule = Proxy { listen, to: args.to, tracks: args.tracks, how: args.how.how() };
    Rule::Proxy(rule.clone()).check().map_err(|why| Failure(USAGE, why))?;
    let (input, name, len) = open(&args.file).await.map_err(failed)?;
    let stack = if rule.to.iter().all(Via::is_tcp) { None } else { Some(stack(run_dir)?) };
    let proxying = Proxying { rule, name: "send".into(), stack, registry: Registry::new(1) };
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    // Held: a group whose commands have ended would still run, but nobody would tell it to stop.
    let (_commands, receiver) = mpsc::channel(1);
    let tie = proxy::tie(&proxying, &name, Local::pair(theirs), receiver).await.map_err(failed)?;
    let offer = Offer { name: name.clone(), len, anew: args.anew };
    let (outcome, said) = tokio::join!(async { tie.run().await.close().await }, speak(ours, input, &offer));
    match said {
        Ok(hash) => {
            print::line(&format!("{name}: {len} bytes, SHA-256 {hash}"));
            Ok(())
        }
        Err(why) => Err(failed(format!("{name} was not sent: {}", reason(&outcome).unwrap_or(why)))),
    }
}

/// What the group knows of its end, if it did not end in order.
fn reason(outcome: &Outcome) -> Option<String> {
    match outcome.state {
        State::Done | State::Open => None,
        State::PeerAborted(abort) => Some(abort.words().to_owned()),
        State::Aborted(abort) => Some(outcome.why.clone().unwrap_or_else(|| abort.words().to_owned())),
    }
}

async fn open(path: &Path) -> Result<(File, String, u64), String> {
    let words = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let input = File::open(path).await.map_err(words)?;
    let meta = input.metadata().await.map_err(words)?;
    if !meta.is_file() {
        return Err(format!("{} is no file; pack a folder with tar first", path.display()));
    }
    let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = name.ok_or_else(|| format!("{} has no name that is text", path.display()))?;
    Ok((input, name, meta.len()))
}

fn broke(error: io::Error) -> String {
    format!("the way to the receiver broke: {error}")
}

/// The sender's part of the conversation; the hash of the file.
async fn speak(stream: UnixStream, input: File, offer: &Offer) -> Result<String, String> {
    let (mut from, mut to) = stream.into_split();
    to.write_all(&offer.encode().map_err(|error| error.to_string())?).await.map_err(broke)?;
    match from.read_u8().await {
        Ok(file::SEND) => {}
        Ok(_) => return Err(refusal(from).await),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(gone()),
        Err(error) => return Err(broke(error)),
    }
    let there = from.read_u64().await.map_err(broke)?;
    if there > offer.len {
        return Err("the receiver has more of it than there is".to_owned());
    }
    let mut answer = std::pin::pin!(from.read_u8());
    // Who does not want the file any more says so before it has come.
    let hash = tokio::select! {
        hash = pour(&mut to, input, offer.len, there) => Some(hash?),
        answered = &mut answer => {
            match answered {
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(gone()),
                Err(error) => return Err(broke(error)),
            }
        }
    };
    match hash {
        Some(hash) => match answer.await {
            Ok(file::STORED) => Ok(hash),
            Ok(_) => Err(refusal(from).await),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(gone()),
            Err(error) => Err(broke(error)),
        },
        None => Err(refusal(from).await),
    }
}

fn gone() -> String {
    "the receiver went away without an answer".to_owned()
}

/// Why the receiver does not store it.
async fn refusal(from: OwnedReadHalf) -> String {
    let mut words = Vec::new();
    // What came of it is better than nothing.
    let _ = from.take(WORDS).read_to_end(&mut words).await;
    format!("the receiver says: {}", String::from_utf8_lossy(&words))
}

/// Writes what the receiver lacks, and the hashes; that of all is what comes of it.
async fn pour(to: &mut OwnedWriteHalf, mut input: File, len: u64, there: u64) -> Result<String, String> {
    let bar = bar(len);
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < len {
        // The first part is read for its hash only.
        let known = at < there;
        let left = if known { there - at } else { len - at };
        let most = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = input.read(&mut block[..most]).await.map_err(|error| format!("cannot read it: {error}"))?;
        if read == 0 {
            return Err("it became shorter while it was read".to_owned());
        }
        hash.update(&block[..read]);
        at += read as u64;
        bar.set_position(at);
        if !known {
            to.write_all(&block[..read]).await.map_err(broke)?;
        } else if at == there {
            to.write_all(&hash.clone().finalize()).await.map_err(broke)?;
            // What needed no sending says nothing of the rate.
            bar.reset_eta();
        }
    }
    let hash = hash.finalize();
    to.write_all(&hash).await.map_err(broke)?;
    to.shutdown().await.map_err(broke)?;
    bar.finish_and_clear();
    Ok(hex(&hash))
}

/// Redrawn on a terminal; elsewhere it is not seen.
fn bar(len: u64) -> ProgressBar {
    let template = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    // The template is a constant: it has no fault to report.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}

pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
