//! The control socket, both ends: `portfwd status`, `reload` and `stop` ask, the forwarder answers.
#![expect(clippy::disallowed_methods, reason = "io/: each who asks is served by a task of a JoinSet")]

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::place::{Folder, Taken};
use crate::said::control::{Answer, Ask, LONGEST_ASK};

/// Who asks at a time; more wait.
const OPEN: usize = 16;
/// How long asking, and taking the answer, may take each.
const PATIENCE: Duration = Duration::from_secs(5);
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What was asked, and where the answer goes.
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Opens the socket.
pub(super) fn listen(taken: &Taken) -> anyhow::Result<UnixListener> {
    let path = taken.folder().socket();
    UnixListener::bind(&path)
        .with_context(|| format!("{} cannot be listened at; choose another --run-dir", path.display()))
}

/// Serves it for ever: what is asked goes into `asks`. Who asked for the end keeps its socket until that comes.
pub(super) async fn serve(listener: UnixListener, asks: mpsc::Sender<Asked>) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = serving.join_next() => {}
            accepted = listener.accept(), if serving.len() < OPEN => match accepted {
                Ok((stream, _)) if is_ours(&stream) => {
                    serving.spawn(answer(stream, asks.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("the control socket takes nobody for {ACCEPT_PAUSE:?}: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Only the forwarder's own user, and root.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer(stream: UnixStream, asks: mpsc::Sender<Asked>) {
    // Who goes away, is too slow or says nonsense gets no answer.
    let _ = converse(stream, asks).await;
}

async fn converse(mut stream: UnixStream, asks: mpsc::Sender<Asked>) -> io::Result<()> {
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read).take(LONGEST_ASK);
    tokio::time::timeout(PATIENCE, read.read_until(b'\n', &mut line)).await??;
    let ask: Ask = match serde_json::from_slice(&line) {
        Ok(ask) => ask,
        Err(error) => {
            let failed = Answer::Failed(format!("this portfwd does not understand what it was asked ({error})"));
            return say(&mut write, &failed).await;
        }
    };
    let stays = matches!(ask, Ask::Stop { .. });
    let (answer, told) = oneshot::channel();
    if asks.send(Asked { ask, answer }).await.is_err() {
        return Ok(());
    }
    if let Ok(answer) = told.await {
        say(&mut write, &answer).await?;
    }
    if stays {
        // Until the asker has had enough, or this process is gone.
        read.set_limit(1);
        let _ = read.read_u8().await;
    }
    Ok(())
}

async fn say(to: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, to.write_all(&line)).await?
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No forwarder runs there.
    NotRunning,
    /// One does, and this happened.
    Failed(String),
}

/// Asks the forwarder of a folder; after [`Ask::Stop`] waits until it is gone.
pub(super) fn ask(folder: &Folder, ask: &Ask) -> Result<Answer, Unanswered> {
    let path = folder.socket();
    let failed =
        |error: io::Error| Unanswered::Failed(format!("portfwd on {} does not answer: {error}", path.display()));
    let mut stream = match BlockingStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Err(Unanswered::NotRunning);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut line = serde_json::to_vec(ask).map_err(|error| Unanswered::Failed(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    match reader.read_line(&mut answer) {
        // One that had nothing to wait for is gone already.
        Err(_) | Ok(0) if matches!(ask, Ask::Stop { .. }) => return Ok(Answer::Done("it is gone".to_owned())),
        read => read.map_err(failed)?,
    };
    if answer.is_empty() {
        return Err(Unanswered::Failed(format!("portfwd on {} ended without an answer", path.display())));
    }
    let answer = serde_json::from_str(&answer)
        .map_err(|error| Unanswered::Failed(format!("the portfwd that runs is of another version ({error})")))?;
    if matches!((ask, &answer), (Ask::Stop { .. }, Answer::Done(_))) {
        // Its end closes the socket; an error is an end, too.
        let _ = reader.read_line(&mut String::new());
    }
    Ok(answer)
}
