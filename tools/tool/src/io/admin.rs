//! irmd's socket, for whoever asks it as an administrator does.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::v1::irm_admin_client::IrmAdminClient;
use proto::{RunDir, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

/// An irmd that is there takes a caller at once.
const DIAL_WITHIN: Duration = Duration::from_secs(2);

/// irmd, and where it was found. A clone is the same irmd, for a task of its own.
#[derive(Clone)]
pub struct Admin {
    /// Its calls.
    pub client: IrmAdminClient<Channel>,
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// irmd is not there or does not answer; a sentence for the user.
    Unreachable(String),
    /// irmd says no.
    Said(Status),
}

impl Trouble {
    /// One sentence for the user.
    pub fn words(self) -> String {
        match self {
            Self::Unreachable(words) => words,
            Self::Said(status) => v1::Failure::from_status(&status).message,
        }
    }
}

impl Admin {
    /// Reaches irmd, or says at once why not.
    ///
    /// # Errors
    /// One sentence: where it was looked for, why it is not reached, how to start it.
    pub async fn dial(run_dir: &RunDir) -> Result<Self, String> {
        let path = run_dir.irmd();
        probe(&path).await?;
        let unusable = || format!("the run directory {run_dir} is no UTF-8 text; give another --run-dir");
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.to_str().ok_or_else(unusable)?))
            .map_err(|_| unusable())?
            .connect_timeout(DIAL_WITHIN);
        let channel = endpoint.connect().await.map_err(|error| unreachable(&path, &error.to_string()))?;
        let client = IrmAdminClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE);
        Ok(Self { client, path })
    }

    /// The socket, for messages.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// Waits for the answer of a call to the irmd at `path`.
///
/// # Errors
/// [`Trouble`]; one that is silent for `within` is unreachable.
pub async fn answer<T>(
    path: &Path,
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Trouble> {
    let answered = waited(path, within, call).await?;
    Ok(answered.into_inner())
}

/// The next of a stream from the irmd at `path`; `None` after the last.
///
/// # Errors
/// As [`answer`].
pub async fn next<T>(path: &Path, within: Duration, stream: &mut Streaming<T>) -> Result<Option<T>, Trouble> {
    waited(path, within, stream.message()).await
}

async fn waited<T>(path: &Path, within: Duration, what: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
    match tokio::time::timeout(within, what).await {
        Ok(Ok(value)) => Ok(value),
        // irmd went away in mid-call: a status of such a code and without our details.
        Ok(Err(status)) if is_gone(&status) => {
            Err(Trouble::Unreachable(unreachable(path, "it went away during the call")))
        }
        Ok(Err(status)) => Err(Trouble::Said(status)),
        Err(_) => Err(Trouble::Unreachable(silent(path))),
    }
}

fn is_gone(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown) && status.details().is_empty()
}

/// gRPC's own error would not say whether the socket is missing, dead or forbidden.
async fn probe(path: &Path) -> Result<(), String> {
    match tokio::time::timeout(DIAL_WITHIN, tokio::net::UnixStream::connect(path)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreachable(path, reason(&error))),
        Err(_) => Err(silent(path)),
    }
}

fn reason(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "no such socket",
        ErrorKind::ConnectionRefused => "nobody listens there",
        ErrorKind::PermissionDenied => "not permitted",
        ErrorKind::WouldBlock => "it takes no more callers",
        _ => "the socket cannot be used",
    }
}

fn unreachable(path: &Path, why: &str) -> String {
    let dir = path.parent().unwrap_or(path);
    format!(
        "irmd is not reachable at {} ({why}); start it with `irmd --run-dir {}`, or name another --run-dir",
        path.display(),
        dir.display()
    )
}

fn silent(path: &Path) -> String {
    format!("irmd at {} does not answer; is it stopped? Look at it with `ps`, or restart it", path.display())
}
