//! IPCPs that irmd starts.

use proto::v1::{self, FailureKind, IpcpState};
use rustix::process::Signal;

use super::stage::{Host, failure, kill, lives, until};

async fn operational(host: &Host) -> v1::IpcpInfo {
    until("the IPCP is in its layer", || async {
        host.ipcps().await.first().is_some_and(|i| i.state() == IpcpState::Operational)
    })
    .await;
    host.ipcps().await.remove(0)
}

#[tokio::test]
async fn a_killed_ipcp_is_started_again_with_its_names() {
    let host = Host::new();
    host.fake_ipcpd();
    let _irmd = host.start().await;
    assert_eq!(host.bootstrap("udp0").await.unwrap().address, "127.0.0.1:3359");
    let _lease = host.lease().await;
    host.serve("echo").await;
    let before = operational(&host).await;
    kill(before.pid, Signal::KILL);
    until("it is started again", || async { host.ipcps().await[0].restarts == 1 }).await;
    let after = operational(&host).await;
    assert_ne!(after.pid, before.pid);
    assert_eq!(after.last_end, "was killed by signal 9");
    until("the name is registered anew", || async { host.ipcps().await[0].counters.get("echo") == Some(&1) }).await;
}

#[tokio::test]
async fn one_that_cannot_start_says_how_it_ended() {
    let host = Host::new();
    host.fake_ipcpd();
    let _irmd = host.start().await;
    let failed = host.bootstrap("broken").await.unwrap_err();
    assert!(failed.message.contains("exited with status 3"), "{failed}");
    assert!(host.ipcps().await.is_empty());

    let host = Host::new();
    let _irmd = host.start().await;
    let failed = host.bootstrap("udp0").await.unwrap_err();
    assert!(failed.message.contains("could not be started"), "{failed}");
}

#[tokio::test]
async fn a_bootstrap_that_fails_passes_on_why_and_leaves_nothing() {
    let host = Host::new();
    host.fake_ipcpd();
    let _irmd = host.start().await;
    let udp = v1::UdpConfig { ip: "127.0.0.1".into(), port: 1, ..v1::UdpConfig::default() };
    let request = v1::IpcpBootstrapRequest {
        name: "udp0".into(),
        r#type: "udp".into(),
        layer: "net".into(),
        udp: Some(udp),
        no_restart: false,
    };
    let failed = failure(host.admin().ipcp_bootstrap(request).await).unwrap_err();
    assert_eq!(failed.kind(), FailureKind::AddressInUse);
    assert!(host.ipcps().await.is_empty());
    // The next try finds the place free.
    host.bootstrap("udp0").await.unwrap();
}

#[tokio::test]
async fn an_ipcp_outlives_a_killed_irmd_and_is_taken_back() {
    let host = Host::new();
    host.fake_ipcpd();
    let irmd = host.start().await;
    host.bootstrap("udp0").await.unwrap();
    let flow = host.alloc("far").await.unwrap();
    let before = operational(&host).await;
    irmd.die();
    assert!(lives(before.pid));
    let irmd = host.start().await;
    let after = operational(&host).await;
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
    assert_eq!(host.flows().await[0].flow_id, flow.flow_id);
    assert!(host.alloc("far").await.unwrap().flow_id > flow.flow_id, "ids do not repeat");
    // An orderly end stops it, though this irmd did not start it.
    assert!(irmd.stop().await.success());
    until("it ends", || async { !lives(before.pid) }).await;
}

#[tokio::test]
async fn a_destroyed_ipcp_ends() {
    let host = Host::new();
    host.fake_ipcpd();
    let irmd = host.start().await;
    host.bootstrap("udp0").await.unwrap();
    let pid = operational(&host).await.pid;
    host.admin().ipcp_destroy(v1::IpcpDestroyRequest { name: "udp0".into() }).await.unwrap();
    assert!(!lives(pid));
    assert!(host.ipcps().await.is_empty());
    assert!(irmd.stop().await.success());
    let _irmd = host.start().await;
    assert!(host.ipcps().await.is_empty(), "destroyed for good");
}
