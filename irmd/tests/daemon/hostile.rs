//! Programs that ask for more than they should: told so, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use proto::handoff::ToDaemon;
use proto::v1::{self, FailureKind};
use proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tokio::task::JoinSet;

use super::stage::{Host, Lease, until};

const MANY: usize = 1000;

fn request(name: &str) -> v1::FlowAllocRequest {
    v1::FlowAllocRequest {
        version: PROTOCOL_VERSION,
        name: name.into(),
        timeout_ms: 60_000,
        ..v1::FlowAllocRequest::default()
    }
}

/// Somebody else's flow can be had.
async fn others_are_served(host: &Host, lease: &mut Lease) {
    let (asked, accepted) = tokio::join!(host.alloc("echo"), host.accept("echo"));
    for handle in [asked.unwrap(), accepted.unwrap()] {
        let (socket, _) = lease.redeem(&handle).await;
        drop(socket);
    }
}

#[tokio::test]
async fn a_thousand_calls_half_of_them_cancelled_leave_nothing_waiting() {
    let host = Host::new();
    let _irmd = host.start().await;
    let mut lease = host.lease().await;
    host.serve("echo").await;
    host.serve("slow").await;
    let (allocs, mut calls) = (host.allocs(), JoinSet::new());
    let mut handles = Vec::new();
    for _ in 0..MANY {
        handles.push(calls.spawn(allocs.ask(request("slow"))));
    }
    until("all wait", || async { host.status().await.pending as usize == MANY }).await;
    others_are_served(&host, &mut lease).await;
    for call in handles.iter().step_by(2) {
        call.abort();
    }
    until("half wait", || async { host.status().await.pending as usize == MANY / 2 }).await;
    others_are_served(&host, &mut lease).await;
    // The rest goes with its connection.
    calls.shutdown().await;
    drop(allocs);
    until("none waits", || async { host.status().await.pending == 0 }).await;
    assert!(host.status().await.rss_bytes < 64 << 20);
}

#[tokio::test]
async fn huge_and_senseless_messages_are_refused_one_by_one() {
    let host = Host::new();
    let _irmd = host.start().await;
    let mut lease = host.lease().await;
    host.serve("echo").await;
    let before = host.status().await.rss_bytes;
    for size in [300, MAX_MESSAGE, 2 * MAX_MESSAGE, 16 << 20] {
        let name = "n".repeat(size);
        assert!(host.ask_alloc(request(&name)).await.is_err(), "a name of {size} bytes");
        let data = v1::FlowAllocRequest { data: vec![7; size], ..request("echo") };
        assert!(size == 300 || host.ask_alloc(data).await.is_err(), "{size} bytes of data");
    }
    // No HTTP at all, an announced frame of 16 MiB that never comes, and nothing.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let noise: [&[u8]; 3] = [&[0xff; 4096], &[&preface[..], b"\xff\xff\xff\0\0\0\0\0\x01"].concat(), b""];
    let mut held = Vec::new();
    for bytes in noise.iter().cycle().take(60) {
        let mut stream = UnixStream::connect(host.run_dir.irmd()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.read(&mut [0; 64]);
        held.push(stream);
    }
    others_are_served(&host, &mut lease).await;
    drop(held);
    let grown = host.status().await.rss_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "irmd grew by {grown} bytes");
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the case says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[tokio::test]
async fn sockets_beyond_a_users_share_are_closed_and_others_go_on() {
    raise_descriptor_limit();
    let host = Host::new();
    std::fs::write(host.path("irmd.toml"), "[options]\nunlimited-users = []\n").unwrap();
    let _irmd = host.start().await;
    let mut lease = host.lease().await;
    host.serve("echo").await;
    let mut held = Vec::new();
    let mut turned_away = 0;
    while turned_away < 20 {
        let Ok(mut stream) = UnixStream::connect(host.run_dir.irmd()) else { break };
        // One that is let in is greeted; one that is not reads its end.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap_or_default();
        match stream.read(&mut [0; 64]) {
            Ok(0) | Err(_) => turned_away += 1,
            Ok(_) => held.push(stream),
        }
        assert!(held.len() <= 1_024, "{} sockets of one user", held.len());
    }
    assert!(held.len() > 1_000);
    // Room again, and who was served all the time is.
    held.truncate(900);
    until("there is room", async || {
        tokio::time::timeout(
            std::time::Duration::from_secs(1),
            host.irm().unserve(v1::UnserveRequest { name: "no".into() }),
        )
        .await
        .is_ok_and(|answer| answer.is_err_and(|status| status.code() == tonic::Code::NotFound))
    })
    .await;
    others_are_served(&host, &mut lease).await;
}

#[tokio::test]
async fn a_user_at_its_limit_is_told_which_and_what_to_do() {
    let host = Host::new();
    let options = "[options]\nflows-per-user = 8\npending-per-user = 3\nunlimited-users = []\nleases-per-user = 3\n";
    std::fs::write(host.path("irmd.toml"), options).unwrap();
    let _irmd = host.start().await;
    let mut lease = host.lease().await;
    host.serve("echo").await;
    let exhausted = |failed: v1::Failure, key: &str| {
        assert_eq!(failed.kind(), FailureKind::Exhausted, "{failed}");
        assert!(failed.message.contains(key) && failed.message.contains("irmd.toml"), "{failed}");
    };
    // Both ends are this user's.
    let mut flows = Vec::new();
    for _ in 0..4 {
        let (asked, accepted) = tokio::join!(host.alloc("echo"), host.accept("echo"));
        for handle in [asked.unwrap(), accepted.unwrap()] {
            lease.redeem(&handle).await;
            flows.push(handle.flow_id);
        }
    }
    exhausted(host.alloc("echo").await.unwrap_err(), "flows-per-user");
    exhausted(host.accept("echo").await.unwrap_err(), "flows-per-user");
    for flow_id in flows {
        lease.say(ToDaemon::Release(v1::Release { flow_id }));
    }
    until("they are over", || async { host.status().await.flows == 0 }).await;
    others_are_served(&host, &mut lease).await;

    let (allocs, mut calls) = (host.allocs(), JoinSet::new());
    for _ in 0..3 {
        calls.spawn(allocs.ask(request("echo")));
    }
    until("three wait", || async { host.status().await.pending == 3 }).await;
    exhausted(host.ask_alloc(request("echo")).await.unwrap_err(), "pending-per-user");
    calls.shutdown().await;

    let _more = (host.lease().await, host.lease().await);
    match handoff::client::open(&host.run_dir.irmd_handoff()).await {
        Err(handoff::client::OpenError::Denied(failed)) => exhausted(failed, "leases-per-user"),
        other => panic!("{:?}", other.err()),
    }
    let counters = host.status().await.counters;
    for (what, times) in [("refused_flows_per_user", 2), ("refused_pending_per_user", 1), ("refused_leases", 1)] {
        assert_eq!(counters.get(what), Some(&times), "{counters:?}");
    }
}
