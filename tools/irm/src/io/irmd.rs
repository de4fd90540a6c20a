//! irmd's socket, with the deadlines of irm's commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::RunDir;
use proto::v1::irm_admin_client::IrmAdminClient;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use tool::{Admin, Trouble};

use super::Fault;

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
        let admin = Admin::dial(run_dir).await.map_err(Fault::Unable)?;
        Ok(Self { path: admin.path(), client: admin.client })
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
        Ok(tool::answer(path, within, call).await?)
    }

    /// Reads a listing to its end; each row has its own deadline, and is made into what is shown while the next is
    /// under way.
    pub(super) async fn rows<T, R: From<T>>(path: &Path, mut stream: Streaming<T>) -> Result<Vec<R>, Fault> {
        let mut rows = Vec::new();
        while let Some(row) = tool::next(path, QUICK, &mut stream).await? {
            rows.push(R::from(row));
        }
        Ok(rows)
    }

    /// The next of a stream that may take as long as it likes; `None` after the last.
    pub(super) async fn next<T>(path: &Path, stream: &mut Streaming<T>) -> Result<Option<T>, Fault> {
        Ok(tool::next(path, Duration::MAX, stream).await?)
    }

    /// The socket, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unreachable(words) => Self::Unable(words),
            Trouble::Said(status) => Self::from(status),
        }
    }
}
