//! irmd's own life: one per folder, what lasts, who may what.

use std::os::unix::process::CommandExt;
use std::process::Command;

use proto::v1::{self, FailureKind};
use proto::{PROTOCOL_VERSION, RunDir};

use super::stage::{Host, failure};

#[tokio::test]
async fn a_second_irmd_on_the_same_folder_says_so_and_exits() {
    let host = Host::new();
    let first = host.start().await;
    let second = host.command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let want = format!("irmd already runs on {} (pid {})", host.run_dir, first.pid());
    assert!(said.contains(&want), "{said}");
    assert_eq!(host.status().await.pid, first.pid());
}

#[tokio::test]
async fn a_stale_socket_is_taken_over() {
    let host = Host::new();
    host.start().await.die();
    assert!(host.run_dir.irmd().exists() && host.run_dir.irmd_handoff().exists());
    let _irmd = host.start().await;
    host.lease().await;
    host.status().await;
}

#[tokio::test]
async fn an_orderly_end_removes_the_sockets_and_tells_who_waits() {
    let host = Host::new();
    let irmd = host.start().await;
    let _lease = host.lease().await;
    host.serve("echo").await;
    let waits = host.accept("echo");
    let stop = async {
        super::stage::until("the accept waits", || async { host.names().await[0].accepting == 1 }).await;
        irmd.stop().await
    };
    let (waited, status) = tokio::join!(waits, stop);
    assert!(waited.is_err() && status.success());
    assert!(!host.run_dir.irmd().exists() && !host.run_dir.irmd_handoff().exists());
}

#[tokio::test]
async fn what_tools_made_outlives_a_killed_irmd() {
    let host = Host::new();
    std::fs::write(host.path("irmd.toml"), "[[name]]\nname = \"declared\"\nlayers = [\"*\"]\n").unwrap();
    let irmd = host.start().await;
    let mut admin = host.admin();
    admin.name_create(v1::NameCreateRequest { name: "made".into(), policy: 2, ..Default::default() }).await.unwrap();
    let program = v1::BoundProgram { path: "/bin/true".into(), args: vec!["-x y".into()], ..Default::default() };
    admin.bind_program(v1::BindProgramRequest { name: "bound".into(), program: Some(program) }).await.unwrap();
    let before = (host.names().await, admin.config_export(v1::Empty {}).await.unwrap().into_inner().toml);
    assert_eq!(before.0.len(), 3);
    irmd.die();
    let _irmd = host.start().await;
    let after = (host.names().await, host.admin().config_export(v1::Empty {}).await.unwrap().into_inner().toml);
    assert_eq!(after, before);

    // The export is a configuration file: another host made of it is the same.
    let other = Host::new();
    std::fs::write(other.path("irmd.toml"), &before.1).unwrap();
    let _other = other.start().await;
    assert_eq!(other.names().await, before.0);
}

#[tokio::test]
async fn a_mistake_in_the_file_is_shown_with_its_place() {
    let host = Host::new();
    std::fs::write(host.path("irmd.toml"), "[[name]]\nname = \"echo\"\nlayer = \"net\"\n").unwrap();
    let said = host.command().output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("irmd.toml") && said.contains("line 3, column 1") && said.contains("layer"), "{said}");
}

#[tokio::test]
async fn another_version_is_refused_with_both_named() {
    let host = Host::new();
    let _irmd = host.start().await;
    let request = v1::FlowAllocRequest { version: PROTOCOL_VERSION + 1, name: "a".into(), ..Default::default() };
    let failed = host.ask_alloc(request).await.unwrap_err();
    assert!(failed.message.contains("version 2 and this irmd version 1"), "{failed}");
}

/// Not a test: what another user gets to hear.
#[tokio::test]
#[ignore = "run as another user by the next test"]
async fn asks_as_another_user() {
    let Some(run) = std::env::var_os("FLOWRING_RUN_DIR") else { return };
    let host = Host { dir: tempfile::tempdir().unwrap(), run_dir: RunDir::find(Some(run.as_ref())).unwrap() };
    let failed = failure(host.admin().config_export(v1::Empty {}).await).unwrap_err();
    assert_eq!(failed.kind(), FailureKind::NotPermitted);
    assert!(failed.message.contains("only root, its own user 0 may"), "{failed}");
    let failed = failure(
        host.for_ipcp()
            .flows_ended(v1::FlowsEndedRequest { flows: vec![v1::FlowEndedRequest::default()], adopted: vec![] })
            .await,
    )
    .unwrap_err();
    assert_eq!(failed.kind(), FailureKind::NotPermitted);
    // Flows are for everybody.
    let _lease = host.lease().await;
    host.serve("theirs").await;
    assert_eq!(host.alloc("nowhere").await.unwrap_err().kind(), FailureKind::UnknownName);
    println!("heard");
}

#[tokio::test]
async fn other_users_use_flows_and_administrate_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let host = Host::new();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(host.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _irmd = host.start().await;
    // A copy, because the folder of the build may be closed to others.
    let me = host.path("me");
    std::fs::copy(std::env::current_exe().unwrap(), &me).unwrap();
    let mut command = Command::new(me);
    command.args(["--exact", "life::asks_as_another_user", "--ignored", "--nocapture"]);
    command.env("FLOWRING_RUN_DIR", host.run_dir.path()).uid(65_534).gid(65_534).current_dir("/");
    let mut child = tokio::process::Command::from(command);
    let said = child.output().await.unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.contains("heard"), "{text}");
}
