//! A real irmd in a folder of its own, and what talks to it.
#![expect(clippy::disallowed_methods, reason = "a test waits for events with deadlines of its own")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use handoff::client::{Said, Sender};
use handoff::{Caller, Questions};
use proto::calls::{Calls, FlowAccepts, FlowAllocs, FlowReqArrs};
use proto::handoff::ToDaemon;
use proto::v1::irm_admin_client::IrmAdminClient;
use proto::v1::irm_client::IrmClient;
use proto::v1::irm_for_ipcp_client::IrmForIpcpClient;
use proto::v1::{self, Failure};
use proto::{PROTOCOL_VERSION, RunDir};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for anything.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// One host's folder, kept over restarts of its irmd.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) run_dir: RunDir,
}

/// A running irmd; killed with SIGKILL when dropped.
pub(crate) struct Daemon {
    child: Child,
}

/// A lease, and what is said on it.
pub(crate) struct Lease {
    sender: Sender,
    said: mpsc::Receiver<Said>,
}

/// Waits for something to become so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tick.tick().await;
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("irmd-test").tempdir().unwrap();
        let run_dir = RunDir::find(Some(&dir.path().join("run"))).unwrap();
        Self { dir, run_dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How irmd is called for this host; with `--config` if there is a config file.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irmd"));
        command.arg("--run-dir").arg(self.run_dir.path()).arg("--ipcpd-dir").arg(self.dir.path());
        command.env("XDG_CONFIG_HOME", self.dir.path()).env_remove("FLOWRING_RUN_DIR");
        let config = self.path("irmd.toml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        // Its log is shown where the tests are asked to: FLOWRING_LOG=debug cargo test -p irmd -- --nocapture
        command.env("FLOWRING_LOG", std::env::var("FLOWRING_LOG").unwrap_or_else(|_| "off".into()));
        command.stdin(Stdio::null());
        command
    }

    /// Starts irmd and waits until it serves.
    pub(crate) async fn start(&self) -> Daemon {
        let mut daemon = Daemon { child: self.command().spawn().unwrap() };
        until("irmd serves", || {
            assert!(daemon.child.try_wait().unwrap().is_none(), "irmd ended");
            async { tokio::net::UnixStream::connect(self.run_dir.irmd()).await.is_ok() }
        })
        .await;
        daemon
    }

    /// An executable `ipcpd-udp` for this host: the test's own binary, which serves as a fake.
    pub(crate) fn fake_ipcpd(&self) {
        let me = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nFAKE_NAME=\"$2\" FAKE_RUN=\"$4\" exec {} --exact fake::runs_as_an_ipcp --ignored --nocapture\n",
            me.display()
        );
        executable(&self.path("ipcpd-udp"), &script);
    }

    fn channel(&self) -> Channel {
        Endpoint::try_from(format!("unix://{}", self.run_dir.irmd().display())).unwrap().connect_lazy()
    }

    pub(crate) fn irm(&self) -> IrmClient<Channel> {
        IrmClient::new(self.channel())
    }

    pub(crate) fn admin(&self) -> IrmAdminClient<Channel> {
        IrmAdminClient::new(self.channel())
    }

    pub(crate) fn for_ipcp(&self) -> IrmForIpcpClient<Channel> {
        IrmForIpcpClient::new(self.channel())
    }

    /// A lease with irmd.
    pub(crate) async fn lease(&self) -> Lease {
        let (sender, receiver) = handoff::client::open(&self.run_dir.irmd_handoff()).await.unwrap();
        let (forward, said) = mpsc::channel(64);
        // Ends with the lease: dropping `said` is noticed at the next word, the runtime's end ends the rest.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = forward.closed() => return,
                    next = receiver.next() => match next {
                        Ok(next) => if forward.send(next).await.is_err() { return },
                        Err(_) => return,
                    },
                }
            }
        });
        Lease { sender, said }
    }

    pub(crate) async fn serve(&self, name: &str) {
        let request = v1::ServeRequest {
            version: PROTOCOL_VERSION,
            name: name.into(),
            create: true,
            register: true,
            layers: Vec::new(),
        };
        self.irm().serve(request).await.unwrap();
    }

    pub(crate) async fn accept(&self, name: &str) -> Result<v1::FlowHandle, Failure> {
        let request = v1::FlowAcceptRequest { name: name.into(), ask: false, timeout_ms: 10_000 };
        let mut irm = self.irm();
        ask::<FlowAccepts, _>(|questions| async move { irm.flow_accept(questions).await }, request).await
    }

    pub(crate) async fn alloc(&self, name: &str) -> Result<v1::FlowHandle, Failure> {
        let request = v1::FlowAllocRequest {
            version: PROTOCOL_VERSION,
            name: name.into(),
            timeout_ms: 10_000,
            ..v1::FlowAllocRequest::default()
        };
        self.ask_alloc(request).await
    }

    pub(crate) async fn ask_alloc(&self, request: v1::FlowAllocRequest) -> Result<v1::FlowHandle, Failure> {
        self.allocs().ask(request).await
    }

    /// A program's stream of allocations.
    pub(crate) fn allocs(&self) -> Allocs {
        Allocs { irm: self.irm(), caller: Caller::default() }
    }

    pub(crate) async fn flow_req_arr(&self, request: v1::FlowReqArrRequest) -> Result<v1::FlowReqArrReply, Failure> {
        let mut irm = self.for_ipcp();
        ask::<FlowReqArrs, _>(|questions| async move { irm.flow_req_arr(questions).await }, request).await
    }

    pub(crate) async fn flows(&self) -> Vec<v1::FlowInfo> {
        let mut stream = self.admin().flow_list(v1::FlowListRequest::default()).await.unwrap().into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.unwrap() {
            rows.push(row);
        }
        rows
    }

    pub(crate) async fn ipcps(&self) -> Vec<v1::IpcpInfo> {
        let mut stream = self.admin().ipcp_list(v1::Empty {}).await.unwrap().into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.unwrap() {
            rows.push(row);
        }
        rows
    }

    pub(crate) async fn names(&self) -> Vec<v1::NameInfo> {
        let mut stream = self.admin().name_list(v1::Empty {}).await.unwrap().into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.unwrap() {
            rows.push(row);
        }
        rows
    }

    pub(crate) async fn status(&self) -> v1::StatusReply {
        self.admin().status(v1::Empty {}).await.unwrap().into_inner()
    }

    pub(crate) async fn bootstrap(&self, ipcp: &str) -> Result<v1::IpcpBootstrapReply, Failure> {
        let udp = v1::UdpConfig { ip: "127.0.0.1".into(), ..v1::UdpConfig::default() };
        let request = v1::IpcpBootstrapRequest {
            name: ipcp.into(),
            r#type: "udp".into(),
            layer: "net".into(),
            udp: Some(udp),
            no_restart: false,
        };
        failure(self.admin().ipcp_bootstrap(request).await)
    }
}

/// Asks for flows over one stream.
pub(crate) struct Allocs {
    irm: IrmClient<Channel>,
    caller: Caller<FlowAllocs>,
}

impl Allocs {
    pub(crate) fn ask(
        &self,
        request: v1::FlowAllocRequest,
    ) -> impl Future<Output = Result<v1::FlowHandle, Failure>> + Send + use<> {
        let (mut irm, caller) = (self.irm.clone(), self.caller.clone());
        async move {
            let call = caller.call(|questions| async move { irm.flow_alloc(questions).await }, request);
            call.await.map_err(|status| Failure::from_status(&status))
        }
    }
}

/// One call over a stream of its own.
async fn ask<C: Calls, F>(open: impl FnOnce(Questions<C>) -> F, request: C::Request) -> Result<C::Reply, Failure>
where
    F: Future<Output = Result<tonic::Response<tonic::Streaming<C::Answer>>, Status>>,
{
    Caller::<C>::default().call(open, request).await.map_err(|status| Failure::from_status(&status))
}

/// The answer, or the typed failure.
pub(crate) fn failure<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, Failure> {
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::from_status(&status))
}

pub(crate) fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Lease {
    pub(crate) async fn next(&mut self) -> Said {
        tokio::time::timeout(SOON, self.said.recv()).await.expect("said in time").expect("the lease stands")
    }

    /// The socket for a token, and the slot to count in.
    pub(crate) async fn redeem(&mut self, handle: &v1::FlowHandle) -> (OwnedFd, handoff::client::Slot) {
        self.say(ToDaemon::Redeem(v1::Redeem { token: handle.token.clone() }));
        match self.next().await {
            Said::Granted { socket: Some(socket), slot, .. } => (socket, slot),
            other => panic!("not granted: {other:?}"),
        }
    }

    /// The socket for a token, and the ticket for the next irmd.
    pub(crate) async fn redeem_ticket(&mut self, handle: &v1::FlowHandle) -> (OwnedFd, Vec<u8>) {
        self.say(ToDaemon::Redeem(v1::Redeem { token: handle.token.clone() }));
        match self.next().await {
            Said::Granted { socket: Some(socket), ticket, .. } => (socket, ticket),
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Hands a socket back with a ticket; the flow's id and counters, or the failure.
    pub(crate) async fn hand_back(&mut self, ticket: &[u8], socket: &OwnedFd) -> Result<(u64, v1::Counters), Failure> {
        let counters = v1::Counters { sdus_sent: 7, bytes_sent: 700, ..v1::Counters::default() };
        let adopt = v1::Adopt { ticket: ticket.to_vec(), counters: Some(counters) };
        self.sender.say(&ToDaemon::Adopt(adopt), Some(socket.as_fd())).unwrap();
        match self.next().await {
            Said::Granted { flow, slot, .. } => Ok((flow.0, slot.read())),
            Said::Denied { failure, .. } => Err(failure),
            other => panic!("neither taken back nor refused: {other:?}"),
        }
    }

    pub(crate) fn say(&self, what: ToDaemon) {
        self.sender.say(&what, None).unwrap();
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// SIGKILL.
    pub(crate) fn die(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// SIGTERM; its status.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut status = None;
        until("irmd ends", || {
            status = self.child.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).unwrap();
}

/// Whether a process lives.
pub(crate) fn lives(pid: u32) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty())
}
