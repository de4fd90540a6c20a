//! irmd's socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::RunDir;
use proto::v1::irm_admin_client::IrmAdminClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::Fault;

/// An irmd that is there takes a caller at once.
const DIAL_WITHIN: Duration = Duration::from_secs(2);

/// A call that only looks or writes down.
pub(super) const QUICK: Duration = Duration::from_secs(5);

/// A call that waits for name servers.
pub(super) const DIRECTORY: Duration = Duration::from_secs(8);

/// A call that starts or ends a process and waits for it.
pub(super) const SLOW: Duration = Duration::from_secs(20);

/// irmd, and where it was found.
pub(super) struct Irmd {
    pub(super) client: IrmAdminClient<Channel>,
    path: PathBuf,
}

impl Irmd {
    /// Reaches irmd, or says at once why not.
    pub(super) async fn dial(run_dir: &RunDir) -> Result<Self, Fault> {
        let path = run_dir.irmd();
        probe(&path).await?;
        let unusable =
            || Fault::Unable(format!("the run directory {run_dir} is no UTF-8 text; give another --run-dir"));
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.to_str().ok_or_else(unusable)?))
            .map_err(|_| unusable())?
            .connect_timeout(DIAL_WITHIN);
        let channel = endpoint.connect().await.map_err(|error| unreachable(&path, &error.to_string()))?;
        let client = IrmAdminClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE);
        Ok(Self { client, path })
    }

    /// The same irmd, for a task of its own.
    pub(super) fn another(&self) -> Self {
        Self { client: self.client.clone(), path: self.path.clone() }
    }

    /// Waits for a call's answer; a silent irmd is a fault of its own.
    pub(super) async fn answer<T>(
        path: &Path,
        within: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(fault(path, status)),
            Err(_) => Err(silent(path)),
        }
    }

    /// Reads a listing to its end; each row has its own deadline.
    pub(super) async fn rows<T>(path: &Path, mut stream: Streaming<T>) -> Result<Vec<T>, Fault> {
        let mut rows = Vec::new();
        loop {
            match tokio::time::timeout(QUICK, stream.message()).await {
                Ok(Ok(Some(row))) => rows.push(row),
                Ok(Ok(None)) => return Ok(rows),
                Ok(Err(status)) => return Err(fault(path, status)),
                Err(_) => return Err(silent(path)),
            }
        }
    }

    /// The next of a stream that may take as long as it likes; `None` after the last.
    pub(super) async fn next<T>(path: &Path, stream: &mut Streaming<T>) -> Result<Option<T>, Fault> {
        stream.message().await.map_err(|status| fault(path, status))
    }

    /// The socket, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// gRPC's own error would not say whether the socket is missing, dead or forbidden.
async fn probe(path: &Path) -> Result<(), Fault> {
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

fn unreachable(path: &Path, why: &str) -> Fault {
    let dir = path.parent().unwrap_or(path);
    Fault::Unable(format!(
        "irmd is not reachable at {} ({why}); start it with `irmd --run-dir {}`, or name another --run-dir",
        path.display(),
        dir.display()
    ))
}

fn silent(path: &Path) -> Fault {
    Fault::Unable(format!(
        "irmd at {} does not answer; is it stopped? Look at it with `ps`, or restart it",
        path.display()
    ))
}

/// A status without our details and of code Unavailable: irmd went away in mid-call.
fn fault(path: &Path, status: Status) -> Fault {
    let gone =
        matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown) && status.details().is_empty();
    if gone { unreachable(path, "it went away during the call") } else { Fault::from(status) }
}
