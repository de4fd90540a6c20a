//! `irm` against an irmd that answers what the test wants: refusals, listings longer than a message, an end in mid-call.

use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Output};

use proto::v1::irm_admin_server::{IrmAdmin, IrmAdminServer};
use proto::v1::{self, Empty};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, iter};
use tonic::{Request, Response, Status};

type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Flows that the listing shows: more than one gRPC message could carry.
const FLOWS: u64 = 30_000;

struct Scripted;

/// Calls that every test leaves alone, or that answer nothing.
macro_rules! calls {
    ($($name:ident: $request:ident -> $reply:ident = $answer:expr;)*) => {
        #[tonic::async_trait]
        impl IrmAdmin for Scripted {
            type IpcpListStream = Rows<v1::IpcpInfo>;
            type NameListStream = Rows<v1::NameInfo>;
            type FlowListStream = Rows<v1::FlowInfo>;
            type IdentityListStream = Rows<v1::TrustInfo>;
            type FlowEventsStream = Rows<v1::FlowEvent>;
            type FlowCountsStream = Rows<v1::FlowCountsReply>;

            async fn identity_list(&self, _: Request<Empty>) -> Result<Response<Self::IdentityListStream>, Status> {
                let row = v1::TrustInfo { name: "echo\u{1b}".into(), identity: "SHA256:x".into(), ..Default::default() };
                Ok(Response::new(Box::pin(iter([Ok(row)]))))
            }

            async fn ipcp_list(&self, _: Request<Empty>) -> Result<Response<Self::IpcpListStream>, Status> {
                Ok(Response::new(Box::pin(iter([]))))
            }

            async fn flow_events(
                &self,
                _: Request<v1::FlowEventsRequest>,
            ) -> Result<Response<Self::FlowEventsStream>, Status> {
                Ok(Response::new(Box::pin(iter([]))))
            }

            async fn flow_counts(&self, _: Request<Empty>) -> Result<Response<Self::FlowCountsStream>, Status> {
                Ok(Response::new(Box::pin(iter([]))))
            }

            async fn name_list(&self, _: Request<Empty>) -> Result<Response<Self::NameListStream>, Status> {
                Ok(Response::new(Box::pin(iter([Err(Status::unavailable("transport error"))]))))
            }

            async fn flow_list(&self, _: Request<v1::FlowListRequest>) -> Result<Response<Self::FlowListStream>, Status> {
                let row = |id| Ok(v1::FlowInfo { flow_id: id, name: "echo".repeat(50), ..v1::FlowInfo::default() });
                Ok(Response::new(Box::pin(iter((1..=FLOWS).map(row)))))
            }

            $(
                async fn $name(&self, _: Request<v1::$request>) -> Result<Response<v1::$reply>, Status> { $answer }
            )*
        }
    };
}

fn done() -> Result<Response<Empty>, Status> {
    Ok(Response::new(Empty {}))
}

fn refused() -> Result<Response<Empty>, Status> {
    let message = "the name echo\u{1b}[2J is taken; destroy it first";
    Err(v1::Failure::new(v1::FailureKind::AlreadyExists, message).into())
}

calls! {
    status: Empty -> StatusReply = Err(Status::internal(""));
    ipcp_create: IpcpCreateRequest -> Empty = done();
    ipcp_bootstrap: IpcpBootstrapRequest -> IpcpBootstrapReply =
        Ok(Response::new(v1::IpcpBootstrapReply { address: "10.0.0.1:3359".into() }));
    ipcp_destroy: IpcpDestroyRequest -> Empty = done();
    host_add: HostAddRequest -> Empty = done();
    host_remove: HostRemoveRequest -> Empty = done();
    name_create: NameCreateRequest -> Empty = refused();
    name_rules: NameRulesRequest -> Empty = done();
    rule_list: Empty -> RuleListReply = Ok(Response::new(v1::RuleListReply::default()));
    name_may: NameMayRequest -> NameMayReply = Ok(Response::new(v1::NameMayReply::default()));
    name_destroy: NameDestroyRequest -> Empty = done();
    name_register: NameRegisterRequest -> Empty = done();
    name_unregister: NameUnregisterRequest -> Empty = done();
    name_resolve: NameResolveRequest -> NameResolveReply = Ok(Response::new(v1::NameResolveReply::default()));
    bind_program: BindProgramRequest -> Empty = done();
    bind_process: BindProcessRequest -> Empty = done();
    unbind_program: UnbindProgramRequest -> Empty = done();
    unbind_process: UnbindProcessRequest -> Empty = done();
    flow_show: FlowShowRequest -> FlowInfo = Ok(Response::new(v1::FlowInfo { flow_id: 7, ..v1::FlowInfo::default() }));
    flow_dealloc: FlowDeallocRequest -> Empty = done();
    identity_show: Empty -> IdentityShowReply = Ok(Response::new(v1::IdentityShowReply {
        fingerprint: "SHA256:x".into(),
        chain: vec![vec![1, 2, 3]],
        request: "a request\n".into(),
        key_file: "/host-key.pem".into(),
        ..Default::default()
    }));
    identity_install: IdentityInstallRequest -> Empty = done();
    identity_trust: IdentityTrustRequest -> Empty = done();
    identity_forget: IdentityForgetRequest -> IdentityForgetReply =
        Ok(Response::new(v1::IdentityForgetReply { forgotten: 1 }));
    identity_allow: IdentityAllowRequest -> Empty = done();
    log: LogRequest -> LogReply = Ok(Response::new(v1::LogReply {
        states: vec![v1::LogState { daemon: "udp0\u{1b}".into(), filter: "debug".into(), ..Default::default() }],
    }));
    shutdown: ShutdownRequest -> ShutdownReply = Ok(Response::new(v1::ShutdownReply { flows: 3 }));
    config_export: Empty -> ConfigExportReply =
        Ok(Response::new(v1::ConfigExportReply { toml: "[[ipcp]]\n".into() }));
}

/// Runs `irm` with each command line against the scripted irmd.
fn against(lines: &[&str]) -> Vec<Output> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(dir.path().join("irmd.sock")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(IrmAdminServer::new(Scripted))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async { drop(stopped.await) });
        let clients = async {
            let mut outputs = Vec::new();
            for line in lines {
                let (args, dir) = (line.to_string(), dir.path().to_path_buf());
                outputs.push(tokio::task::spawn_blocking(move || irm(&dir, &args)).await.unwrap());
            }
            drop(stop);
            outputs
        };
        let (served, outputs) = tokio::join!(server, clients);
        served.unwrap();
        outputs
    })
}

fn irm(run_dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_irm")).args(line.split(' ')).arg("--run-dir").arg(run_dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn changes_are_silent_when_all_went_well() {
    let lines = [
        "ipcp create --type udp --name udp0",
        "ipcp destroy --name udp0",
        "ipcp host add --name udp0 echo=10.0.0.2",
        "ipcp host remove --name udp0 echo",
        "name destroy echo",
        "name register echo --layer net",
        "name unregister echo --layer net",
        "bind process 1 --name echo",
        "unbind process 1 --name echo",
        "unbind program sh --name echo",
        "flow dealloc 7",
        "identity install --self-signed",
        "identity trust echo SHA256:x",
        "identity trust echo --ca ca.pem",
        "identity forget echo",
        "identity allow echo any",
        "identity disallow echo",
    ];
    for (line, output) in lines.iter().zip(against(&lines)) {
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn answers_are_printed() {
    let lines = [
        "ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1",
        "config export",
        "ipcp list",
        "ipcp list --json",
        "identity show",
        "identity show --cert",
        "identity show --request",
        "identity list",
    ];
    let want = [
        "udp0 is a member of net at 10.0.0.1:3359\n",
        "[[ipcp]]\n",
        "NAME  TYPE  LAYER  STATE  ADDRESS  PID  FLOWS  RESTARTS  DROPPED  MEMORY\n",
        "[]\n",
        "fingerprint  SHA256:x\nkey          /host-key.pem\ncertificate  signed by the host itself\n",
        "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
        "a request\n",
        "NAME        IDENTITY  SOURCE  USER  AGE\necho\\u{1b}  SHA256:x          all     -\n",
    ];
    for ((line, output), want) in lines.iter().zip(against(&lines)).zip(want) {
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), want), "{line}");
    }
}

#[test]
fn a_refusal_is_irmds_sentence_and_exit_code_1() {
    let outputs = against(&["name create echo", "status"]);
    assert!(outputs.iter().all(|output| output.status.code() == Some(1)));
    // What a peer put into it cannot clear the screen.
    assert_eq!(text(&outputs[0].stderr), "irm: the name echo\\u{1b}[2J is taken; destroy it first\n");
    assert!(text(&outputs[1].stderr).contains("INTERNAL"), "{}", text(&outputs[1].stderr));
}

#[test]
fn a_certificate_that_cannot_be_read_is_named_before_irmd_is_asked() {
    let outputs = against(&["identity install /nowhere/host.pem", "identity install /dev/null"]);
    for (output, why) in outputs.iter().zip(["cannot read /nowhere/host.pem: No such file", "/dev/null: it is empty"]) {
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn a_listing_may_be_longer_than_a_message() {
    let outputs = against(&["flow list --json", "flow list"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&outputs[0].stdout).unwrap();
    assert_eq!(rows.len() as u64, FLOWS);
    assert_eq!(rows.last().unwrap()["id"], FLOWS);
    assert_eq!(text(&outputs[1].stdout).lines().count() as u64, FLOWS + 1);
}

#[test]
fn an_irmd_that_ends_in_mid_call_is_unreachable() {
    let output = against(&["name list"]).remove(0);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("went away during the call"), "{}", text(&output.stderr));
}

#[test]
fn an_unknown_ipcp_has_no_hosts_to_list() {
    let output = against(&["ipcp host list --name udp9"]).remove(0);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no IPCP udp9"), "{}", text(&output.stderr));
}
