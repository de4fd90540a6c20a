//! The control socket, both ends: a line of JSON each way, and the end. `status`, `reload` and `stop` ask, what runs answers.
#![expect(clippy::disallowed_methods, reason = "io/: each who asks is served by a task of a JoinSet")]

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::folder::{Folder, Taken};

/// Who asks at a time; more wait.
const OPEN: usize = 16;
/// How long asking, and taking the answer, may take each.
const PATIENCE: Duration = Duration::from_secs(5);
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest line that asks, bytes.
const LONGEST_ASK: u64 = 4096;

/// What is asked of one of the programs.
pub trait Question: Serialize + DeserializeOwned + Send + 'static {
    /// How the program is.
    type Status: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Who asks for the end waits until it has come.
    fn is_stop(&self) -> bool;
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<S> {
    /// How it is.
    Status(Box<S>),
    /// It was done; what it came to.
    Done(String),
    /// It was not; why, and what to do.
    Failed(String),
}

/// What was asked, and where the answer goes.
#[derive(Debug)]
pub struct Asked<Q: Question> {
    /// What.
    pub ask: Q,
    /// Where.
    pub answer: oneshot::Sender<Answer<Q::Status>>,
}

/// Opens the socket.
pub fn listen(taken: &Taken) -> anyhow::Result<UnixListener> {
    let path = taken.folder().socket();
    UnixListener::bind(&path)
        .with_context(|| format!("{} cannot be listened at; choose another --run-dir", path.display()))
}

/// Serves it for ever: what is asked goes into `asks`. Who asked for the end keeps its socket until that comes.
pub async fn serve<Q: Question>(listener: UnixListener, asks: mpsc::Sender<Asked<Q>>) {
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

/// Only the program's own user, and root.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer<Q: Question>(stream: UnixStream, asks: mpsc::Sender<Asked<Q>>) {
    // Who goes away, is too slow or says nonsense gets no answer.
    let _ = converse(stream, asks).await;
}

async fn converse<Q: Question>(mut stream: UnixStream, asks: mpsc::Sender<Asked<Q>>) -> io::Result<()> {
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read).take(LONGEST_ASK);
    tokio::time::timeout(PATIENCE, read.read_until(b'\n', &mut line)).await??;
    let ask: Q = match serde_json::from_slice(&line) {
        Ok(ask) => ask,
        Err(error) => {
            let failed: Answer<Q::Status> =
                Answer::Failed(format!("what runs does not understand what it was asked ({error})"));
            return say(&mut write, &failed).await;
        }
    };
    let stays = ask.is_stop();
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

async fn say(to: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, to.write_all(&line)).await?
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// None runs there.
    NotRunning,
    /// One does, and this happened.
    Failed(String),
}

/// Asks what runs in a folder; after a question for the end waits until it is gone.
pub fn ask<Q: Question>(folder: &Folder, ask: &Q) -> Result<Answer<Q::Status>, Unanswered> {
    let path = folder.socket();
    let program = folder.program();
    let failed =
        |error: io::Error| Unanswered::Failed(format!("{program} on {} does not answer: {error}", path.display()));
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
        Err(_) | Ok(0) if ask.is_stop() => return Ok(Answer::Done("it is gone".to_owned())),
        read => read.map_err(failed)?,
    };
    if answer.is_empty() {
        return Err(Unanswered::Failed(format!("{program} on {} ended without an answer", path.display())));
    }
    let answer = serde_json::from_str(&answer)
        .map_err(|error| Unanswered::Failed(format!("the {program} that runs is of another version ({error})")))?;
    if ask.is_stop() && matches!(answer, Answer::Done(_)) {
        // Its end closes the socket; an error is an end, too.
        let _ = reader.read_line(&mut String::new());
    }
    Ok(answer)
}
