//! `tcpstripe send` and `tcpstripe recv`: files, whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::local::Local;
use super::proxy::{self, Proxying};
use super::registry::Registry;
use super::relay::{Relaying, Target};
use super::tie::Outcome;
use super::{FAILED, Failure, USAGE, print, serve, stack};
use crate::cli::{RecvArgs, SendArgs};
use crate::machine::State;
use crate::said::end::{HostPort, Via};
use crate::said::file;
use crate::said::rule::{Proxy, Relay, Rule};

/// Bytes moved at once.
const BLOCK: usize = 256 << 10;
/// Words of an answer.
const WORDS: u64 = 400;
/// Bytes of SHA-256.
const HASH: usize = 32;

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
    let (outcome, said) = tokio::join!(async { tie.run().await.close().await }, speak(ours, input, &name, len));
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

/// The sender's part of the conversation; the hash of what it sent.
async fn speak(stream: UnixStream, input: File, name: &str, len: u64) -> Result<String, String> {
    let broke = |error: io::Error| format!("the way to the receiver broke: {error}");
    let (from, mut to) = stream.into_split();
    let mut answer = Vec::new();
    let mut from = from.take(WORDS);
    let mut answering = std::pin::pin!(from.read_to_end(&mut answer));
    // Who does not want the file says so before it has come.
    let hash = tokio::select! {
        hash = pour(&mut to, input, name, len) => Some(hash?),
        answered = &mut answering => {
            answered.map_err(broke)?;
            None
        }
    };
    if hash.is_some() {
        answering.await.map_err(broke)?;
    }
    match (answer.split_first(), hash) {
        (Some((&file::STORED, _)), Some(hash)) => Ok(hash),
        (Some((_, words)), _) => Err(format!("the receiver says: {}", String::from_utf8_lossy(words))),
        (None, _) => Err("the receiver went away without an answer".to_owned()),
    }
}

/// Writes the file and what is around it; its hash.
async fn pour(to: &mut OwnedWriteHalf, mut input: File, name: &str, len: u64) -> Result<String, String> {
    let broke = |error: io::Error| format!("the way to the receiver broke: {error}");
    to.write_all(&file::head(name, len).map_err(|error| error.to_string())?).await.map_err(broke)?;
    let bar = bar(len);
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut left = len;
    while left > 0 {
        let most = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = input.read(&mut block[..most]).await.map_err(|error| format!("cannot read it: {error}"))?;
        if read == 0 {
            return Err("it became shorter while it was read".to_owned());
        }
        hash.update(&block[..read]);
        to.write_all(&block[..read]).await.map_err(broke)?;
        left -= read as u64;
        bar.inc(read as u64);
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

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Receives files until it is told to stop, or one.
pub(super) async fn recv(run_dir: Option<&Path>, args: RecvArgs) -> Result<(), Failure> {
    let to = HostPort { host: "127.0.0.1".to_owned(), port: 1 };
    let rule = Relay { accept: args.accept, to, how: args.how.how() };
    Rule::Relay(rule.clone()).check().map_err(|why| Failure(USAGE, why))?;
    if !args.folder.is_dir() {
        return Err(Failure(USAGE, format!("{} is no folder", args.folder.display())));
    }
    let (told, mut results) = mpsc::channel(16);
    let inbox = Arc::new(Inbox { folder: args.folder, told, parts: AtomicU64::new(0) });
    let registry = Registry::new(rule.how.max_clients);
    let relaying = Relaying::new(rule, "recv".into(), registry.clone(), Target::Inbox(inbox));
    let mut tasks = tokio::task::JoinSet::new();
    serve::start_relay(&mut tasks, run_dir, relaying).await?;
    let mut stopped = serve::stop_signals()?;
    loop {
        let done: Done = tokio::select! {
            () = stopped.asked() => return Ok(()),
            Some(done) = results.recv() => done,
        };
        let failed = match done {
            Ok(words) => !print::line(&words),
            Err(words) => {
                print::log(&words);
                true
            }
        };
        if args.once {
            // The sender is still to hear of it.
            serve::drain(&[registry]).await;
            return if failed { Err(Failure(FAILED, String::new())) } else { Ok(()) };
        }
    }
}

/// One line of what was stored, or why not.
type Done = Result<String, String>;

/// A folder into which files go.
pub(super) struct Inbox {
    folder: PathBuf,
    told: mpsc::Sender<Done>,
    parts: AtomicU64,
}

impl Inbox {
    /// The receiver's part of the conversation, at the other end of what is returned.
    pub(super) fn begin(self: &Arc<Self>, from: String) -> io::Result<UnixStream> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let inbox = self.clone();
        tokio::spawn(async move {
            let done = inbox.store(&mut ours).await;
            let answer = match &done {
                Ok(_) => vec![file::STORED],
                Err(words) => [&[file::NOT_STORED], proto::clip(words, WORDS as usize - 1).as_bytes()].concat(),
            };
            // The sender may be gone.
            let _ = ours.write_all(&answer).await;
            let _ = ours.shutdown().await;
            // Closing now would cut the answer off: the sender goes away when it has read it.
            if done.is_err() {
                let _ = tokio::io::copy(&mut ours, &mut tokio::io::sink()).await;
            }
            let told = match done {
                Ok(words) => Ok(format!("{words} from {from}")),
                Err(words) => Err(format!("{from}: {words}")),
            };
            // Nobody wants to know when the program ends.
            let _ = inbox.told.send(told).await;
        });
        Ok(theirs)
    }

    async fn store(&self, stream: &mut UnixStream) -> Result<String, String> {
        let cut = |error: io::Error| format!("what came was cut short: {error}");
        let mut fixed = [0; file::FIXED];
        stream.read_exact(&mut fixed).await.map_err(cut)?;
        let mut rest = vec![0; file::name_len(fixed).map_err(|error| error.to_string())? + 8];
        stream.read_exact(&mut rest).await.map_err(cut)?;
        let (name, len) = file::name_and_len(&rest).map_err(|error| error.to_string())?;
        let target = self.folder.join(&name);
        if target.symlink_metadata().is_ok() {
            return Err(format!("{name} is there already; move it away"));
        }
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = self.folder.join(format!(".tcpstripe-{}-{number}.part", std::process::id()));
        let stored = write_part(stream, &part, len).await;
        let stored = match stored {
            Ok(hash) => place(&part, &target).map(|()| hash).map_err(|error| format!("cannot name it {name}: {error}")),
            Err(why) => Err(why),
        };
        if stored.is_err() {
            // What is incomplete stays nowhere; not being able to remove it is the smaller news.
            let _ = std::fs::remove_file(&part);
        }
        stored
            .map(|hash| format!("{}: {len} bytes, SHA-256 {hash}", target.display()))
            .map_err(|why| format!("{name} is not stored: {why}"))
    }
}

/// Writes `len` bytes and checks the hash behind them.
async fn write_part(from: &mut (impl AsyncRead + Unpin), part: &Path, len: u64) -> Result<String, String> {
    let cut = |error: io::Error| format!("what came was cut short: {error}");
    let full = |error: io::Error| format!("cannot write it: {error}");
    let mut out = tokio::fs::OpenOptions::new().write(true).create_new(true).open(part).await.map_err(full)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut left = len;
    while left > 0 {
        let most = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut block[..most]).await.map_err(cut)? {
            0 => return Err(format!("what came was cut short: {left} of {len} bytes are missing")),
            read => {
                hash.update(&block[..read]);
                out.write_all(&block[..read]).await.map_err(full)?;
                left -= read as u64;
            }
        }
    }
    let mut told = [0; HASH];
    from.read_exact(&mut told).await.map_err(cut)?;
    let hash = hash.finalize();
    if hash[..] != told {
        return Err(format!("its SHA-256 is {}, the sender's was {}", hex(&hash), hex(&told)));
    }
    // Stored is what survives a power cut.
    out.sync_all().await.map_err(full)?;
    Ok(hex(&hash))
}

/// Gives a whole file its name, unless something has it.
fn place(part: &Path, target: &Path) -> io::Result<()> {
    match std::fs::hard_link(part, target) {
        Ok(()) => std::fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // File systems without hard links.
        Err(_) => std::fs::rename(part, target),
    }
}
