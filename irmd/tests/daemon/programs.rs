//! Programs started on demand.

use proto::RunDir;
use proto::v1::{self, FailureKind};

use super::stage::{Host, until};

async fn bind(host: &Host, path: &str, args: &[&str]) {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let program = v1::BoundProgram { path: path.into(), args, auto_start: true, ..Default::default() };
    host.admin().bind_program(v1::BindProgramRequest { name: "echo".into(), program: Some(program) }).await.unwrap();
}

/// Not a test: a program that serves one flow, then ends.
#[tokio::test]
#[ignore = "run by irmd in other tests"]
async fn serves_one_flow() {
    let Some(run) = std::env::var_os("FLOWRING_RUN_DIR") else { return };
    let host = Host { dir: tempfile::tempdir().unwrap(), run_dir: RunDir::find(Some(run.as_ref())).unwrap() };
    let mut lease = host.lease().await;
    host.serve("echo").await;
    let flow = host.accept("echo").await.unwrap();
    lease.redeem(&flow).await;
    lease.next().await;
}

#[tokio::test]
async fn a_program_is_started_for_a_flow_and_again_for_the_next() {
    let host = Host::new();
    let _irmd = host.start().await;
    let mut lease = host.lease().await;
    let me = std::env::current_exe().unwrap();
    let args = ["--exact", "programs::serves_one_flow", "--ignored", "--nocapture"];
    bind(&host, &me.display().to_string(), &args).await;
    let mut pids = Vec::new();
    for _ in 0..2 {
        let flow = host.alloc("echo").await.unwrap();
        let (socket, _) = lease.redeem(&flow).await;
        let row = host.flows().await.remove(0);
        pids.push(row.peer_process.unwrap().pid);
        drop(socket);
        lease.say(proto::handoff::ToDaemon::Release(v1::Release { flow_id: flow.flow_id }));
        until("the program ends", || async { host.names().await[0].processes.is_empty() }).await;
    }
    assert!(pids[0] != pids[1] && pids[0] != std::process::id());
    assert_eq!(host.names().await.len(), 1, "a bound name stays");
}

#[tokio::test]
async fn a_program_that_exits_too_early_is_told_with_its_status() {
    let host = Host::new();
    let _irmd = host.start().await;
    bind(&host, "/bin/false", &[]).await;
    let failed = host.alloc("echo").await.unwrap_err();
    assert_eq!(failed.kind(), FailureKind::NobodyAccepts);
    assert!(failed.message.contains("/bin/false exited with status 1 before it accepted"), "{failed}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_told() {
    let host = Host::new();
    let _irmd = host.start().await;
    bind(&host, "/nowhere/server", &[]).await;
    let failed = host.alloc("echo").await.unwrap_err();
    assert!(failed.message.contains("/nowhere/server could not be started"), "{failed}");
}
