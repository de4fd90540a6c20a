//! irmd at its socket, and what it tells.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::RunDir;
use proto::v1;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;

use super::super::irmd::Irmd as Caller;
use super::host::stopped;
use crate::machine::doctor::facts::{Irmd, Known, Stranger, Zone};
use crate::machine::text::printable;

/// An irmd that lives answers sooner.
pub(super) const ANSWERS: Duration = Duration::from_millis(700);

/// Name servers may take longer; one that takes longer than this is of no use to an allocation.
pub(super) const RESOLVES: Duration = Duration::from_millis(1_500);

/// Sockets of IPCPs that are looked at.
const SOCKETS: usize = 64;

/// irmd waits for the words of its IPCPs for 2 s: one that hangs must not make irmd look dead.
const LISTS: Duration = Duration::from_millis(2_200);

/// irmd, a way to ask it more, and what it tells beside its status.
pub(super) async fn irmd(run_dir: &RunDir) -> (Irmd, Option<Caller>, Told) {
    let path = run_dir.irmd();
    let stream = match timeout(ANSWERS, UnixStream::connect(&path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return (absent(&path, &error), None, Told::nothing()),
        Err(_) => return (silent(0), None, Told::nothing()),
    };
    let (uid, pid) = stream.peer_cred().map_or((0, 0), |cred| (cred.uid(), cred.pid().unwrap_or(0).cast_unsigned()));
    drop(stream);
    match timeout(ANSWERS, Caller::dial(run_dir)).await {
        Ok(Ok(caller)) => {
            let (irmd, told) = converse(&caller, uid, pid).await;
            (irmd, Some(caller), told)
        }
        Ok(Err(_)) => (Irmd::Strange("it takes no calls".to_owned()), None, Told::nothing()),
        Err(_) => (silent(pid), None, Told::nothing()),
    }
}

fn silent(pid: u32) -> Irmd {
    Irmd::Silent { pid, stopped: stopped(pid), ms: millis(ANSWERS) }
}

/// One question that irmd answers by itself tells whether it lives; the others wait for its IPCPs.
#[expect(clippy::disallowed_methods, reason = "measures the answer")]
async fn converse(caller: &Caller, uid: u32, pid: u32) -> (Irmd, Told) {
    let began = Instant::now();
    let [mut one, mut two, mut three, mut four] = [(); 4].map(|()| caller.client.clone());
    let lives = async {
        let identity = timeout(ANSWERS, one.identity_show(v1::Empty {})).await;
        (identity, millis(began.elapsed()))
    };
    let rest = async {
        tokio::join!(
            timeout(LISTS, two.status(v1::Empty {})),
            rows(three.name_list(v1::Empty {})),
            rows(four.flow_list(v1::FlowListRequest { ended: false })),
        )
    };
    tokio::pin!(rest);
    let ((identity, ms), early) = tokio::join!(lives, timeout(ANSWERS, &mut rest));
    let identity = match identity {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(said(&status)),
        Err(_) => return (silent(pid), Told::nothing()),
    };
    let (status, names, flows) = match early {
        Ok(rest) => rest,
        Err(_) => rest.await,
    };
    let told = Told { names, flows, identity };
    match status {
        Ok(Ok(status)) => (Irmd::Up { status: Box::new(status.into_inner()), uid, ms }, told),
        Ok(Err(status)) => (Irmd::Strange(strange(&status)), told),
        Err(_) => (silent(pid), told),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn absent(path: &Path, error: &std::io::Error) -> Irmd {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Irmd::Missing,
        ErrorKind::ConnectionRefused => match fs::symlink_metadata(path) {
            Ok(about) if !about.file_type().is_socket() => Irmd::Strange("it is no socket".to_owned()),
            _ => Irmd::Dead,
        },
        ErrorKind::PermissionDenied => Irmd::Forbidden,
        ErrorKind::WouldBlock => Irmd::Silent { pid: 0, stopped: false, ms: 0 },
        _ => Irmd::Strange(error.to_string()),
    }
}

fn strange(status: &tonic::Status) -> String {
    match status.code() {
        Code::Unimplemented => "it does not know the calls of an irmd".to_owned(),
        _ => printable(&v1::Failure::from_status(status).message),
    }
}

fn said(status: &tonic::Status) -> String {
    format!("irmd says: {}", printable(&v1::Failure::from_status(status).message))
}

/// A listing's rows within its time.
async fn rows<T>(
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>>,
) -> Known<Vec<T>> {
    let all = async {
        let mut stream = call.await.map_err(|status| said(&status))?.into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.map_err(|status| said(&status))? {
            rows.push(row);
        }
        Ok(rows)
    };
    timeout(LISTS, all).await.unwrap_or_else(|_| Err("irmd did not list all in time".to_owned()))
}

/// What irmd tells beside its status.
pub(super) struct Told {
    pub(super) names: Known<Vec<v1::NameInfo>>,
    pub(super) flows: Known<Vec<v1::FlowInfo>>,
    pub(super) identity: Known<v1::IdentityShowReply>,
}

impl Told {
    /// Of an irmd that does not answer.
    pub(super) fn nothing() -> Self {
        let why = "irmd does not answer".to_owned();
        Self { names: Err(why.clone()), flows: Err(why.clone()), identity: Err(why) }
    }
}

/// What all sources say of a name; `Ok(None)`: not in time.
pub(super) async fn resolve(caller: &Caller, name: String, layer: String) -> Known<Option<v1::NameResolveReply>> {
    let mut client = caller.client.clone();
    match timeout(RESOLVES, client.name_resolve(v1::NameResolveRequest { name, layer })).await {
        Ok(Ok(reply)) => Ok(Some(reply.into_inner())),
        Ok(Err(status)) => Err(said(&status)),
        Err(_) => Ok(None),
    }
}

/// Whether the name servers of a layer answer, by a name that nobody has: nobody may have kept an answer.
pub(super) async fn zone(caller: &Caller, info: &v1::IpcpInfo, unknown: String) -> Zone {
    let zone = info.config.as_ref().map(|udp| udp.dns_zone.clone()).unwrap_or_default();
    let said = resolve(caller, unknown, info.layer.clone()).await;
    Zone { ipcp: info.name.clone(), layer: info.layer.clone(), zone, said, ms: millis(RESOLVES) }
}

/// Sockets of IPCPs in the run directory that irmd does not speak of.
pub(super) async fn strangers(run_dir: &RunDir, known: &[v1::IpcpInfo]) -> Vec<Stranger> {
    let names = fs::read_dir(run_dir.path()).into_iter().flatten().flatten().filter_map(|entry| {
        let file = entry.file_name().into_string().ok()?;
        Some(file.strip_prefix("ipcp-")?.strip_suffix(".sock")?.to_owned())
    });
    let mut strangers = Vec::new();
    for name in names.filter(|name| !known.iter().any(|info| info.name == *name)).take(SOCKETS) {
        let path = run_dir.ipcp(&name);
        let stream = UnixStream::connect(&path).await;
        let pid = stream.as_ref().ok().and_then(|stream| stream.peer_cred().ok()?.pid()).unwrap_or(0).cast_unsigned();
        let gone = stream.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        strangers.push(Stranger { name, socket: path.display().to_string(), alive: !gone, pid });
    }
    strangers
}
