//! Flows within the host, and through a fake IPCP.
#![expect(clippy::disallowed_methods, reason = "a test measures how soon it is told")]

use std::os::fd::OwnedFd;
use std::time::Instant;

use handoff::client::{EndReason, Said};
use proto::FlowId;
use proto::handoff::ToDaemon;
use proto::v1::{self, FailureKind};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::fake::{self, Fake};
use super::stage::{Host, Lease, SOON, failure, until};

fn read(end: &OwnedFd) -> Vec<u8> {
    let mut buf = vec![0; 70_000];
    let (length, _) = recv(end, &mut buf, RecvFlags::DONTWAIT).unwrap();
    buf.truncate(length);
    buf
}

/// A local flow: the asking and the accepting end.
async fn local(host: &Host, asks: &mut Lease, accepts: &mut Lease) -> [(v1::FlowHandle, OwnedFd); 2] {
    let (a, b) = tokio::join!(host.alloc("echo"), host.accept("echo"));
    let (a, b) = (a.unwrap(), b.unwrap());
    let (at_a, _) = asks.redeem(&a).await;
    let (at_b, slot) = accepts.redeem(&b).await;
    slot.received(3, 300);
    [(a, at_a), (b, at_b)]
}

#[tokio::test]
async fn a_local_flow_carries_sdus_both_ways_and_is_listed_with_both_counters() {
    let host = Host::new();
    let _irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    host.serve("echo").await;
    let [(a, at_a), (_, at_b)] = local(&host, &mut asks, &mut accepts).await;
    let sdu = vec![5; 65_536];
    send(&at_a, &sdu, SendFlags::DONTWAIT).unwrap();
    assert_eq!(read(&at_b), sdu);
    send(&at_b, b"pong", SendFlags::DONTWAIT).unwrap();
    assert_eq!(read(&at_a), b"pong");

    let row = host.flows().await.remove(0);
    assert_eq!((row.flow_id, row.layer.as_str(), row.state()), (a.flow_id, "local", v1::FlowState::Allocated));
    assert_eq!((row.process.unwrap().pid, row.peer_process.unwrap().pid), (std::process::id(), std::process::id()));
    assert_eq!((row.counters.unwrap().sdus_received, row.peer_counters.unwrap().sdus_received), (0, 3));
    let status = host.status().await;
    assert_eq!((status.flows, status.pending, status.names, status.processes), (1, 0, 1, 1));
    assert!(status.rss_bytes > 0 && status.rss_bytes < 64 << 20, "{} bytes resident", status.rss_bytes);
}

#[tokio::test]
async fn a_release_lets_the_other_end_read_what_is_queued_and_then_says_why_it_is_over() {
    let host = Host::new();
    let _irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    host.serve("echo").await;
    let [(a, at_a), (b, at_b)] = local(&host, &mut asks, &mut accepts).await;
    send(&at_a, b"last words", SendFlags::DONTWAIT).unwrap();
    send(&at_b, b"never read", SendFlags::DONTWAIT).unwrap();
    drop(at_a);
    asks.say(ToDaemon::Release(v1::Release { flow_id: a.flow_id }));
    match accepts.next().await {
        Said::Gone { flow, reason } => assert_eq!((flow.0, reason), (b.flow_id, EndReason::PeerDeallocated)),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&at_b), b"last words");
    assert_eq!(read(&at_b), b"");
    until("the row goes", || async { host.flows().await.is_empty() }).await;
}

#[tokio::test]
async fn the_end_of_a_lease_ends_its_flows_and_the_last_one_its_names() {
    let host = Host::new();
    let _irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    host.serve("echo").await;
    let [(a, at_a), (_, at_b)] = local(&host, &mut asks, &mut accepts).await;
    drop((accepts, at_b));
    let begun = Instant::now();
    match asks.next().await {
        Said::Gone { flow, reason } => assert_eq!((flow, reason), (FlowId(a.flow_id), EndReason::PeerDied)),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed().as_secs() < 1, "told after {:?}", begun.elapsed());
    assert_eq!(read(&at_a), b"");
    assert_eq!(host.names().await.len(), 1);
    drop(asks);
    until("the name goes", || async { host.names().await.is_empty() }).await;
}

#[tokio::test]
async fn an_administrator_ends_a_local_flow() {
    let host = Host::new();
    let _irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    host.serve("echo").await;
    let [(a, at_a), (b, _at_b)] = local(&host, &mut asks, &mut accepts).await;
    host.admin().flow_dealloc(v1::FlowDeallocRequest { flow_id: b.flow_id }).await.unwrap();
    for (lease, id) in [(&mut asks, a.flow_id), (&mut accepts, b.flow_id)] {
        match lease.next().await {
            Said::Gone { flow, reason } => assert_eq!((flow.0, reason), (id, EndReason::Admin)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&at_a), b"");
    let shown = host.admin().flow_show(v1::FlowShowRequest { flow_id: a.flow_id }).await.unwrap().into_inner();
    assert_eq!((shown.state(), shown.ended()), (v1::FlowState::Ended, EndReason::Admin));
    let shown = host.admin().flow_show(v1::FlowShowRequest { flow_id: 4711 }).await;
    assert_eq!(failure(shown).unwrap_err().kind(), FailureKind::NotFound);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_waiting() {
    let host = Host::new();
    let _irmd = host.start().await;
    let _lease = host.lease().await;
    host.serve("echo").await;
    {
        let call = host.alloc("echo");
        tokio::pin!(call);
        until("the flow waits", async || {
            tokio::select! {
                biased;
                answer = &mut call => panic!("{answer:?}"),
                status = host.status() => status.pending == 1,
            }
        })
        .await;
    }
    until("nothing waits", || async { host.status().await.pending == 0 }).await;
    {
        let call = host.accept("echo");
        tokio::pin!(call);
        until("the accept waits", async || {
            tokio::select! {
                biased;
                answer = &mut call => panic!("{answer:?}"),
                names = host.names() => names[0].accepting == 1,
            }
        })
        .await;
    }
    until("no accept waits", || async { host.names().await[0].accepting == 0 }).await;
}

/// The test's own process as an IPCP that was started by hand.
async fn by_hand(host: &Host, fake: &Fake) -> tonic::Streaming<v1::AttachReply> {
    fake::serve(fake, &host.run_dir, "udp0");
    let request = fake::attach_request(&host.run_dir, "udp0", "net");
    let mut stream = host.for_ipcp().attach(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().version, 1);
    stream
}

#[tokio::test]
async fn flows_go_through_an_ipcp_and_come_through_it() {
    let host = Host::new();
    let _irmd = host.start().await;
    let fake = Fake::default();
    let attached = by_hand(&host, &fake).await;
    let out = host.alloc("far").await.unwrap();
    assert_eq!((out.layer.as_str(), out.peer_address.as_str()), ("net", "127.0.0.2:40000"));
    assert_eq!(out.handoff, host.run_dir.ipcp_handoff("udp0").display().to_string());
    let unknown = host.alloc("unknown").await.unwrap_err();
    assert_eq!(unknown.kind(), FailureKind::UnknownName);

    let _lease = host.lease().await;
    host.serve("echo").await;
    assert_eq!(fake.state.lock().unwrap().names.get("echo"), Some(&1));
    let request = v1::FlowReqArrRequest {
        ipcp: "udp0".into(),
        name: "echo".into(),
        token: vec![9; 16],
        handoff: "there".into(),
        deadline_ms: 5_000,
        layer: "net".into(),
        ..v1::FlowReqArrRequest::default()
    };
    let (arrived, accepted) = tokio::join!(host.flow_req_arr(request), host.accept("echo"));
    let (arrived, accepted) = (arrived.unwrap(), accepted.unwrap());
    assert_eq!((arrived.flow_id, accepted.token), (accepted.flow_id, vec![9; 16]));
    assert_eq!(arrived.process.unwrap().pid, std::process::id());

    // The IPCP goes: told at once to whoever is waiting for it.
    let waiting = host.alloc("silent");
    let leave = async {
        until("it is asked", || async { host.status().await.pending == 1 }).await;
        drop(attached);
        Instant::now()
    };
    let (failed, left) = tokio::join!(waiting, leave);
    assert_eq!(failed.unwrap_err().kind(), FailureKind::IpcpDown);
    assert!(left.elapsed().as_secs() < 1);
    assert_eq!(host.ipcps().await[0].state(), v1::IpcpState::Down);
}

#[tokio::test]
async fn a_stuck_ipcp_does_not_hold_up_listings() {
    let host = Host::new();
    let _irmd = host.start().await;
    let fake = Fake::default();
    let _attached = by_hand(&host, &fake).await;
    host.alloc("far").await.unwrap();
    let row = host.flows().await.remove(0);
    assert_eq!((row.ipcp.as_str(), row.local_address.as_str()), ("udp0", "127.0.0.1:50000"));
    fake.state.lock().unwrap().stuck = true;
    let begun = Instant::now();
    let row = host.flows().await.remove(0);
    assert_eq!((row.name.as_str(), row.peer_address.as_str()), ("far", "127.0.0.2:40000"));
    assert!(begun.elapsed() < SOON / 3, "a listing took {:?}", begun.elapsed());
}
