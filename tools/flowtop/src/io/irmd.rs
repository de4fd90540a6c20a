//! irmd's socket, and the calls that flowtop makes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::v1::irm_admin_client::IrmAdminClient;
use proto::{FlowId, RunDir, v1};
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use tool::{Admin, Trouble};

use super::place;
use crate::machine::flow::{Counts, Detail, Facts};
use crate::machine::told::{self, Host, Told};

/// Every call only looks, or ends a flow.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// irmd answers pages of counts; more than this is no page count of any irmd.
const MAX_COUNTS: usize = 4_000_000;

/// irmd, dialled.
#[derive(Clone)]
pub(super) struct Irmd {
    client: IrmAdminClient<Channel>,
    path: PathBuf,
}

impl Irmd {
    /// Reaches irmd, or says at once why not.
    pub(super) async fn dial(run_dir: &RunDir) -> Result<Self, String> {
        let admin = Admin::dial(run_dir).await?;
        Ok(Self { path: admin.path(), client: admin.client })
    }

    /// What all flows have carried, and about irmd.
    pub(super) async fn counts(&mut self) -> Result<(Host, Vec<Counts>), String> {
        let path = self.path.clone();
        let status = answer(&path, self.client.status(v1::Empty {})).await?;
        let mut pages = answer(&path, self.client.flow_counts(v1::Empty {})).await?;
        let mut counts = Vec::new();
        while let Some(page) = next(&path, &mut pages).await? {
            told::add_page(&page, &mut counts);
            if counts.len() > MAX_COUNTS {
                return Err(format!("irmd at {} lists flows without end; is it an irmd?", path.display()));
            }
        }
        Ok((Host::new(&place::host(), status), counts))
    }

    /// irmd's process.
    pub(super) async fn pid(&mut self) -> Result<u32, String> {
        Ok(answer(&self.path.clone(), self.client.status(v1::Empty {})).await?.pid)
    }

    /// All that is known of all flows.
    pub(super) async fn list(&mut self) -> Result<Vec<Facts>, String> {
        let path = self.path.clone();
        let mut rows = answer(&path, self.client.flow_list(v1::FlowListRequest { ended: false })).await?;
        let mut list = Vec::new();
        while let Some(row) = next(&path, &mut rows).await? {
            list.push(told::facts(Instant::now(), row));
        }
        Ok(list)
    }

    /// All that is known of some flows; those that are gone are left out.
    pub(super) async fn show(&mut self, ids: Vec<FlowId>) -> Result<Vec<Facts>, String> {
        let mut rows = Vec::new();
        for id in ids {
            if let Some(info) = self.one(id).await? {
                rows.push(told::facts(Instant::now(), info));
            }
        }
        Ok(rows)
    }

    /// One flow with its history.
    pub(super) async fn detail(&mut self, id: FlowId) -> Result<Option<Detail>, String> {
        Ok(self.one(id).await?.map(|info| told::detail(Instant::now(), info)))
    }

    async fn one(&mut self, id: FlowId) -> Result<Option<v1::FlowInfo>, String> {
        let call = self.client.flow_show(v1::FlowShowRequest { flow_id: id.0 });
        match tool::answer(&self.path, ANSWER_WITHIN, call).await {
            Ok(info) => Ok(Some(info)),
            // It says no to this flow: there is none, or it is nobody's business.
            Err(Trouble::Said(_)) => Ok(None),
            Err(Trouble::Unreachable(words)) => Err(words),
        }
    }

    /// Ends a flow; the inner error is irmd's refusal.
    pub(super) async fn end(&mut self, id: FlowId) -> Result<Result<(), String>, String> {
        let call = self.client.flow_dealloc(v1::FlowDeallocRequest { flow_id: id.0 });
        match tool::answer(&self.path, ANSWER_WITHIN, call).await {
            Ok(_) => Ok(Ok(())),
            Err(Trouble::Unreachable(words)) => Err(words),
            Err(said) => Ok(Err(said.words())),
        }
    }

    /// Refusals that irmd remembers, and with `follow` those to come.
    pub(super) async fn refusals(&mut self, follow: bool) -> Result<Refusals, String> {
        let kinds = [v1::EventKind::Refused, v1::EventKind::Missed].map(Into::into).to_vec();
        let request = v1::FlowEventsRequest { follow, kinds, ..Default::default() };
        let path = self.path.clone();
        Ok(Refusals { events: answer(&path, self.client.flow_events(request)).await? })
    }
}

/// Refusals as irmd tells them.
pub(super) struct Refusals {
    events: Streaming<v1::FlowEvent>,
}

impl Refusals {
    /// The next; None at the end, whatever ended it.
    pub(super) async fn next(&mut self) -> Option<Told> {
        while let Ok(Some(event)) = self.events.message().await {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let told = told::event(u64::try_from(now).unwrap_or(u64::MAX), event);
            if told.is_some() {
                return told;
            }
        }
        None
    }
}

async fn answer<T>(path: &Path, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, String> {
    tool::answer(path, ANSWER_WITHIN, call).await.map_err(|trouble| words(path, trouble))
}

async fn next<T>(path: &Path, stream: &mut Streaming<T>) -> Result<Option<T>, String> {
    tool::next(path, ANSWER_WITHIN, stream).await.map_err(|trouble| words(path, trouble))
}

fn words(path: &Path, trouble: Trouble) -> String {
    match trouble {
        Trouble::Said(status) if status.code() == Code::Unimplemented => {
            format!("irmd at {} is of a version without flow counts; update it", path.display())
        }
        trouble => trouble.words(),
    }
}
