//! Local flows that outlive irmd: with real sockets, and by those who would like to have others'.

use std::os::fd::OwnedFd;

use handoff::client::Said;
use proto::v1::{EndReason, FailureKind};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::stage::{Host, Lease};

/// A local flow: its id, and both ends with their tickets.
async fn flow(host: &Host, asks: &mut Lease, accepts: &mut Lease) -> (u64, [(OwnedFd, Vec<u8>); 2]) {
    host.serve("echo").await;
    let (a, b) = tokio::join!(host.alloc("echo"), host.accept("echo"));
    let (a, b) = (a.unwrap(), b.unwrap());
    let ends = [asks.redeem_ticket(&a).await, accepts.redeem_ticket(&b).await];
    (a.flow_id, ends)
}

#[tokio::test]
async fn both_ends_come_back_with_their_counts_and_are_ended_as_before() {
    let host = Host::new();
    let irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    let (id, [(at_a, of_a), (at_b, of_b)]) = flow(&host, &mut asks, &mut accepts).await;
    let before = host.flows().await.remove(0);
    irmd.die();
    let _irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    assert_eq!(accepts.hand_back(&of_b, &at_b).await.unwrap().1.sdus_sent, 7);
    let row = host.flows().await.remove(0);
    assert_eq!((row.flow_id, row.process, row.peer_counters.unwrap().bytes_sent), (id, None, 700));
    assert_eq!(asks.hand_back(&of_a, &at_a).await.unwrap().0, id);
    let row = host.flows().await.remove(0);
    assert_eq!((row.process, row.peer_process), (before.process, before.peer_process));
    assert!(row.age_ms >= before.age_ms);
    // One program ends: the other hears why.
    drop(asks);
    assert!(matches!(accepts.next().await, Said::Gone { reason: EndReason::PeerDied, .. }));
    assert!(host.flows().await.is_empty());
}

#[tokio::test]
async fn a_ticket_is_good_for_its_socket_only_and_once() {
    let host = Host::new();
    let irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    let (id, [(at_a, of_a), (at_b, of_b)]) = flow(&host, &mut asks, &mut accepts).await;
    irmd.die();
    let _irmd = host.start().await;
    let (mut thief, mut owner) = (host.lease().await, host.lease().await);
    let flags = SocketFlags::CLOEXEC;
    let (stranger, _other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let mut forged = of_a.clone();
    forged[8] ^= 1;
    for (ticket, socket) in [(&forged, &at_a), (&of_a, &at_b), (&of_a, &stranger), (&of_a, &null), (&vec![], &at_a)] {
        let refused = thief.hand_back(ticket, socket).await.unwrap_err();
        assert_eq!(refused.kind(), FailureKind::NotPermitted, "{refused}");
    }
    assert!(host.flows().await.is_empty());
    owner.hand_back(&of_a, &at_a).await.unwrap();
    let refused = thief.hand_back(&of_a, &at_a).await.unwrap_err();
    assert_eq!(refused.kind(), FailureKind::AlreadyExists, "{refused}");
    // It harmed nobody.
    owner.hand_back(&of_b, &at_b).await.unwrap();
    send(&at_a, b"still there", SendFlags::DONTWAIT).unwrap();
    assert_eq!(host.flows().await[0].flow_id, id);
    assert_eq!(host.status().await.counters["refused_tickets"], 6);
    // Nor does irmd's key lie open.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(host.run_dir.path().join("state/irmd.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_end_whose_other_closed_while_no_irmd_ran_is_told_so() {
    let host = Host::new();
    let irmd = host.start().await;
    let (mut asks, mut accepts) = (host.lease().await, host.lease().await);
    let (id, [(at_a, of_a), (at_b, _)]) = flow(&host, &mut asks, &mut accepts).await;
    irmd.die();
    drop(at_b);
    let _irmd = host.start().await;
    let mut asks = host.lease().await;
    assert_eq!(asks.hand_back(&of_a, &at_a).await.unwrap().0, id);
    assert!(matches!(asks.next().await, Said::Gone { reason: EndReason::PeerUnknown, .. }));
    assert!(host.flows().await.is_empty());
}
