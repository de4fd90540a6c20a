//! `tcpstripe recv`: files, whole under their names; a part of one under a hidden name, from which the next transfer of it
//! goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::registry::Registry;
use super::relay::{Relaying, Target};
use super::transfer::{BLOCK, WORDS, hex};
use super::{FAILED, Failure, USAGE, print, serve};
use crate::cli::RecvArgs;
use crate::said::end::HostPort;
use crate::said::file::{self, Offer};
use crate::said::rule::{Relay, Rule};

/// Bytes of SHA-256.
const HASH: usize = 32;
/// How often a part is tried that another transfer still has.
const BUSY: Duration = Duration::from_millis(200);

/// Receives files until it is told to stop, or one.
pub(super) async fn recv(run_dir: Option<&Path>, args: RecvArgs) -> Result<(), Failure> {
    let to = HostPort { host: "127.0.0.1".to_owned(), port: 1 };
    let rule = Relay { accept: args.accept, to, how: args.how.how() };
    Rule::Relay(rule.clone()).check().map_err(|why| Failure(USAGE, why))?;
    if !args.folder.is_dir() {
        return Err(Failure(USAGE, format!("{} is no folder", args.folder.display())));
    }
    let (told, mut results) = mpsc::channel(16);
    // A transfer whose sender vanished without a word holds its part for so long.
    let patience = rule.how.patience + Duration::from_secs(5);
    let inbox = Arc::new(Inbox { folder: args.folder, told, patience });
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
    patience: Duration,
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
        let offer = hear(stream).await?;
        let name = &offer.name;
        let target = self.folder.join(name);
        if target.symlink_metadata().is_ok() {
            return Err(format!("{name} is there already; move it away"));
        }
        let path = self.folder.join(part_name(name));
        let mut part = self.part(&path).await.map_err(|why| format!("{name} is not stored: {why}"))?;
        let stored = match receive(stream, &mut part, &path, &offer).await {
            Ok(hash) => place(&path, &target).map(|()| hash).map_err(|error| format!("cannot name it {name}: {error}")),
            Err(why) => Err(why),
        };
        if stored.is_err() && part.metadata().await.is_ok_and(|meta| meta.len() == 0) {
            // Nothing of it is worth keeping; not being able to remove it is the smaller news.
            let _ = std::fs::remove_file(&path);
        }
        stored
            .map(|hash| format!("{}: {} bytes, SHA-256 {hash}", target.display(), offer.len))
            .map_err(|why| format!("{name} is not stored: {why}"))
    }

    /// What is there of a file, for this transfer only.
    async fn part(&self, path: &Path) -> Result<File, String> {
        let words = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            let part = open_part(path).map_err(words)?;
            match part.try_lock() {
                // Renamed or removed by who had it: then the next one is another file.
                Ok(()) if is_at(&part, path) => return Ok(File::from_std(part)),
                Ok(()) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(words(error)),
                Err(std::fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(BUSY).await;
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err("another transfer of it goes on; wait for its end".to_owned());
                }
            }
        }
    }
}

fn cut(error: io::Error) -> String {
    format!("what came was cut short: {error}")
}

async fn hear(stream: &mut UnixStream) -> Result<Offer, String> {
    let mut fixed = [0; file::FIXED];
    stream.read_exact(&mut fixed).await.map_err(cut)?;
    let mut rest = vec![0; file::name_len(fixed).map_err(|error| error.to_string())? + file::REST];
    stream.read_exact(&mut rest).await.map_err(cut)?;
    Offer::decode(&rest).map_err(|error| error.to_string())
}

/// Where a part of a file is kept: hidden, and no name is too long for it.
fn part_name(name: &str) -> String {
    let hash = hex(&Sha256::digest(name.as_bytes())[..12]);
    format!(".tcpstripe-{hash}.part")
}

fn open_part(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Whoever may write into the folder might have put a link there.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("something that is no file is there")),
    }
}

/// Whether that file has that name still.
fn is_at(part: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |one: std::fs::Metadata, other: std::fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    part.metadata().is_ok_and(|one| path.symlink_metadata().is_ok_and(|other| same(one, other)))
}

/// Asks for what is missing of a file and writes it behind what is there; the hash of all.
async fn receive(stream: &mut UnixStream, part: &mut File, path: &Path, offer: &Offer) -> Result<String, String> {
    let full = |error: io::Error| format!("cannot write it: {error}");
    let mut there = part.metadata().await.map_err(full)?.len();
    if offer.anew || there > offer.len {
        // Longer than the whole: of another file.
        if !offer.anew {
            return Err(another(there, path));
        }
        part.set_len(0).await.map_err(full)?;
        there = 0;
    }
    let answer = [&[file::SEND][..], &there.to_be_bytes()].concat();
    stream.write_all(&answer).await.map_err(cut)?;
    let mut hash = Sha256::new();
    if there > 0 {
        copy(&mut *part, None, &mut hash, there).await.map_err(|why| format!("cannot read the part of it: {why}"))?;
        let mut told = [0; HASH];
        stream.read_exact(&mut told).await.map_err(cut)?;
        if hash.clone().finalize()[..] != told {
            return Err(another(there, path));
        }
    }
    part.seek(io::SeekFrom::Start(there)).await.map_err(full)?;
    let came = copy(stream, Some(part), &mut hash, offer.len - there).await;
    // Also of what was cut short: the next transfer goes on behind it.
    part.flush().await.map_err(full)?;
    came?;
    let mut told = [0; HASH];
    stream.read_exact(&mut told).await.map_err(cut)?;
    let hash = hash.finalize();
    if hash[..] != told {
        // Nothing can go on from here.
        part.set_len(0).await.map_err(full)?;
        return Err(format!("its SHA-256 is {}, the sender's was {}", hex(&hash), hex(&told)));
    }
    // Stored is what survives a power cut.
    part.sync_all().await.map_err(full)?;
    Ok(hex(&hash))
}

fn another(there: u64, path: &Path) -> String {
    format!(
        "{there} bytes are here of a file of this name that was another one, or has changed since; send with --anew to \
         forget them, or remove {}",
        path.display()
    )
}

/// Hashes so many bytes, and writes them if there is somewhere to.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    mut to: Option<&mut File>,
    hash: &mut Sha256,
    len: u64,
) -> Result<(), String> {
    let mut block = vec![0; BLOCK];
    let mut left = len;
    while left > 0 {
        let most = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut block[..most]).await.map_err(cut)? {
            0 => return Err(format!("what came was cut short: {left} of {len} bytes are missing")),
            read => {
                hash.update(&block[..read]);
                if let Some(to) = &mut to {
                    to.write_all(&block[..read]).await.map_err(|error| format!("cannot write it: {error}"))?;
                }
                left -= read as u64;
            }
        }
    }
    Ok(())
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
