//! Flows handed over, taken back, ended: the usual life, and each trap by its name.

mod stage;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use handoff::client::{self, Counters, OpenError, Said};
use handoff::server::{Config, EndReason, Event, Failure, Owner, Server};
use proto::FlowId;
use proto::handoff::{ToDaemon, ToProgram};
use proto::v1::{Adopt, FailureKind, Heard, Hello, Suspect};
use rustix::net::{RecvFlags, SendFlags};
use stage::*;

fn kind(said: Said) -> FailureKind {
    match said {
        Said::Denied { failure, .. } => failure.kind(),
        other => panic!("granted: {other:?}"),
    }
}

fn socket(said: Said) -> (handoff::client::Slot, OwnedFd, Vec<u8>) {
    match said {
        Said::Granted { slot, socket: Some(socket), ticket, .. } => (slot, socket, ticket),
        other => panic!("no socket: {other:?}"),
    }
}

#[tokio::test]
async fn a_flow_is_taken_used_counted_and_released() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let far = stage.offer(9, token(1), my());
    let (slot, near, _) = socket(take(&lease, 1).await);
    assert!(matches!(stage.event().await, Event::Taken { flow: FlowId(9), process } if process == me()));

    rustix::net::send(&near, b"hi", SendFlags::empty()).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(rustix::net::recv(&far, &mut buffer, RecvFlags::empty()).unwrap().0, 2);

    slot.sent(1, 2);
    slot.received(3, 44);
    slot.send_failed();
    let want = Counters {
        sdus_sent: 1,
        bytes_sent: 2,
        sdus_received: 3,
        bytes_received: 44,
        send_errors: 1,
        ..Default::default()
    };
    assert_eq!(stage.server.counters(FlowId(9)), Some(want));
    assert_eq!(stage.server.holder(FlowId(9)), Some(me()));

    lease.0.say(&release(9), None).unwrap();
    assert!(matches!(stage.event().await, Event::Released { flow: FlowId(9), .. }));
    assert_eq!(stage.server.counters(FlowId(9)), Some(want), "readable until forgotten");
    stage.server.forget(FlowId(9));
    assert_eq!(stage.server.counters(FlowId(9)), None);
}

#[tokio::test]
async fn what_flows_carry_is_summed_and_stays_when_they_end() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let bytes = |bytes_sent| Counters { sdus_sent: 1, bytes_sent, ..Counters::default() };
    let mut slots = Vec::new();
    for n in [1, 2] {
        let _far = stage.offer(n.into(), token(n), my());
        let (slot, ..) = socket(take(&lease, n).await);
        assert!(matches!(stage.event().await, Event::Taken { .. }));
        slot.sent(1, 10 * u64::from(n));
        slots.push(slot);
    }
    assert_eq!(stage.server.carried(), Counters { sdus_sent: 2, ..bytes(30) });
    lease.0.say(&release(1), None).unwrap();
    assert!(matches!(stage.event().await, Event::Released { flow: FlowId(1), .. }));
    slots[0].sent(0, 5);
    stage.server.forget(FlowId(1));
    assert_eq!(stage.server.carried(), Counters { sdus_sent: 2, ..bytes(35) });

    // One that is brought back counts from what it brings.
    let (near, _far) = pair();
    let adopt = ToDaemon::Adopt(Adopt { ticket: vec![1; 30], counters: Some(bytes(1_000)) });
    lease.0.say(&adopt, Some(near.as_fd())).unwrap();
    let Event::Adopt { adoption, socket, .. } = stage.event().await else { panic!("no adoption") };
    stage.server.adopted(adoption, FlowId(4), Arc::new(socket), 100, vec![3; 30]);
    let Said::Granted { slot, .. } = within(lease.1.next()).await.unwrap() else { panic!("not granted") };
    assert_eq!(stage.server.carried(), Counters { sdus_sent: 2, ..bytes(35) });
    slot.sent(1, 7);

    // And the program's death loses nothing of it.
    slots[1].sent(1, 100);
    drop((lease, slots, slot));
    assert!(matches!(stage.event().await, Event::LeaseClosed { .. }));
    assert_eq!(stage.server.carried(), Counters { sdus_sent: 4, ..bytes(142) });
}

#[tokio::test]
async fn a_token_is_good_once() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    socket(take(&lease, 1).await);
    assert_eq!(kind(take(&lease, 1).await), FailureKind::NotPermitted);
    assert_eq!(kind(take(&lease, 2).await), FailureKind::NotPermitted, "never offered");
}

#[tokio::test]
async fn a_token_of_another_process_or_user_stays_valid_for_its_owner() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let strangers = [Owner { pid: my().pid + 1, ..my() }, Owner { uid: my().uid + 1, ..my() }];
    for (n, owner) in (1..).zip(strangers) {
        let _far = stage.offer(u64::from(n), token(n), owner);
        assert_eq!(kind(take(&lease, n).await), FailureKind::NotPermitted);
        assert_eq!(kind(take(&lease, n).await), FailureKind::NotPermitted, "and again");
    }
    let _far = stage.offer(9, token(9), my());
    socket(take(&lease, 9).await);
}

#[tokio::test]
async fn an_early_redeem_waits_for_the_offer() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    stage.server.expect(token(1));
    stage.server.expect(token(2));
    lease.0.say(&redeem(1), None).unwrap();
    lease.0.say(&redeem(2), None).unwrap();
    // The lease is served in order: once this is denied, the redeems are parked.
    assert_eq!(kind(take(&lease, 3).await), FailureKind::NotPermitted);
    stage.server.withdraw(token(2), Failure::new(FailureKind::Refused, "full"));
    assert_eq!(kind(within(lease.1.next()).await.unwrap()), FailureKind::Refused);
    let _far = stage.offer(1, token(1), my());
    socket(within(lease.1.next()).await.unwrap());
}

#[tokio::test]
async fn a_token_never_redeemed_expires() {
    let mut stage = Stage::with(|c| c.take_within = Duration::from_millis(50));
    let lease = stage.program().await;
    let far = stage.offer(1, token(1), my());
    assert!(matches!(stage.event().await, Event::NotTaken { flow: FlowId(1) }));
    assert_eq!(kind(take(&lease, 1).await), FailureKind::NotPermitted);
    let mut buffer = [0; 8];
    assert_eq!(rustix::net::recv(&far, &mut buffer, RecvFlags::DONTWAIT).unwrap().0, 0, "the daemon's end is closed");
}

#[tokio::test]
async fn a_program_that_dies_ends_its_flows_and_no_other() {
    let mut stage = Stage::new();
    let first = stage.program().await;
    let second = stage.program().await;
    for n in 1..=2 {
        let _far = stage.offer(n.into(), token(n), my());
        socket(take(&first, n).await);
        assert!(matches!(stage.event().await, Event::Taken { .. }));
    }
    drop(first);
    match stage.event().await {
        Event::LeaseClosed { process, flows, figures, last_of_process: false } => {
            assert_eq!((process, flows, figures.len()), (me(), vec![FlowId(1), FlowId(2)], 2));
        }
        other => panic!("{other:?}"),
    }
    drop(second);
    assert!(matches!(stage.event().await, Event::LeaseClosed { flows, last_of_process: true, .. } if flows.is_empty()));
}

#[tokio::test]
async fn a_program_that_dies_while_it_is_handed_a_socket_never_took_it() {
    let mut stage = Stage::new();
    let socket = stage.raw_program();
    say_raw(&socket, &hello());
    assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
    stage.server.expect(token(1));
    say_raw(&socket, &redeem(1));
    drop(socket);
    assert!(matches!(stage.event().await, Event::LeaseClosed { .. }));
    let _far = stage.offer(1, token(1), my());
    // Nobody waits any more; another lease of the process may still take it.
    let lease = stage.program().await;
    socket_of_flow(&take(&lease, 1).await, 1);
}

fn socket_of_flow(said: &Said, want: u64) {
    assert!(matches!(said, Said::Granted { flow, socket: Some(_), .. } if *flow == FlowId(want)), "{said:?}");
}

#[tokio::test]
async fn gone_is_told_once_and_release_after_it_is_no_event() {
    let mut stage = Stage::with(|c| c.slots = 1);
    let lease = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    socket(take(&lease, 1).await);
    assert!(matches!(stage.event().await, Event::Taken { .. }));
    stage.server.gone(FlowId(1), EndReason::PeerDied);
    stage.server.gone(FlowId(1), EndReason::Admin);
    let said = within(lease.1.next()).await.unwrap();
    assert!(matches!(said, Said::Gone { flow: FlowId(1), reason: EndReason::PeerDied }), "{said:?}");

    // Its slot is not reused before the program has released it, even when the daemon has forgotten it.
    stage.server.forget(FlowId(1));
    let _far = stage.offer(2, token(2), my());
    assert_eq!(kind(take(&lease, 2).await), FailureKind::Exhausted);
    assert!(matches!(stage.event().await, Event::NotTaken { flow: FlowId(2) }));
    lease.0.say(&release(1), None).unwrap();
    let _far = stage.offer(3, token(3), my());
    let (slot, ..) = socket(take(&lease, 3).await);
    assert_eq!(slot.read(), Counters::default(), "zeroed");
    assert!(matches!(stage.event().await, Event::Taken { flow: FlowId(3), .. }));
}

#[tokio::test]
async fn a_flow_gone_before_it_is_taken_is_granted_then_gone() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    stage.server.gone(FlowId(1), EndReason::PeerDeallocated);
    socket(take(&lease, 1).await);
    assert!(matches!(within(lease.1.next()).await.unwrap(), Said::Gone { flow: FlowId(1), .. }));
}

#[tokio::test]
async fn a_restarted_daemon_takes_a_flow_back() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let (near, _far) = pair();
    let counters = Counters { sdus_sent: 5, bytes_sent: 99, ..Default::default() };
    for ticket in [vec![1; 30], vec![2; 30]] {
        let adopt = ToDaemon::Adopt(Adopt { ticket, counters: Some(counters) });
        lease.0.say(&adopt, Some(near.as_fd())).unwrap();
    }
    for _ in 0..2 {
        let Event::Adopt { adoption, process, ticket, socket, counters: claimed } = stage.event().await else {
            panic!("no adoption");
        };
        assert_eq!((process, claimed), (me(), counters));
        match ticket[0] {
            1 => stage.server.adopted(adoption, FlowId(4), Arc::new(socket), 100, vec![3; 30]),
            _ => stage.server.denied(adoption, Failure::new(FailureKind::NotPermitted, "forged")),
        }
    }
    match within(lease.1.next()).await.unwrap() {
        Said::Granted {
            asked,
            flow,
            slot,
            sdu_limit,
            ticket,
            unwanted: None,
            binding: None,
            fixed: false,
            movable: false,
            socket: None,
        } => {
            assert_eq!((asked, flow, sdu_limit, ticket), (vec![1; 30], FlowId(4), 100, vec![3; 30]));
            assert_eq!(slot.read(), counters, "carried over");
        }
        other => panic!("{other:?}"),
    }
    match within(lease.1.next()).await.unwrap() {
        Said::Denied { asked, failure } => {
            assert_eq!((asked, failure.kind()), (vec![2; 30], FailureKind::NotPermitted))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.server.counters(FlowId(4)), Some(counters));
}

#[tokio::test]
async fn a_suspicion_is_told_for_flows_the_program_holds_only() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    socket(take(&lease, 1).await);
    assert!(matches!(stage.event().await, Event::Taken { .. }));
    for flow_id in [2, 1] {
        lease.0.say(&ToDaemon::Suspect(Suspect { flow_id }), None).unwrap();
    }
    assert!(matches!(stage.event().await, Event::Suspect { flow: FlowId(1) }));
}

/// A flow that moves: what comes to its socket for the daemon, from a program that holds it; and where it goes.
#[tokio::test]
async fn a_flow_that_moves_is_spoken_of_both_ways() {
    let mut stage = Stage::new();
    let lease = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    socket(take(&lease, 1).await);
    assert!(matches!(stage.event().await, Event::Taken { .. }));
    let datagram = vec![0; proto::rendezvous::DATAGRAM];
    for (flow_id, from) in [(2, "10.0.0.1:7"), (1, "[fd00::1]:65535")] {
        let heard = Heard { flow_id, from: from.to_owned(), datagram: datagram.clone() };
        lease.0.say(&ToDaemon::Heard(heard), None).unwrap();
    }
    match stage.event().await {
        Event::Heard { flow: FlowId(1), from, datagram: heard } => {
            assert_eq!((from, heard), ("[fd00::1]:65535".parse().unwrap(), datagram));
        }
        other => panic!("{other:?}"),
    }
    let peer = "[2001:db8::1]:1".parse().unwrap();
    // Nobody holds the one; the other's program hears of it.
    stage.server.moved(FlowId(2), peer, vec![9; 40]);
    stage.server.moved(FlowId(1), peer, vec![8; handoff::server::MAX_TICKET]);
    match within(lease.1.next()).await.unwrap() {
        Said::Moved { flow: FlowId(1), peer: there, ticket } => {
            assert_eq!((there, ticket), (peer, vec![8; handoff::server::MAX_TICKET]));
        }
        other => panic!("{other:?}"),
    }
    // From nowhere: no program of ours says so.
    let heard = Heard { flow_id: 1, from: "nowhere".to_owned(), datagram: Vec::new() };
    lease.0.say(&ToDaemon::Heard(heard), None).unwrap();
    assert!(matches!(stage.event().await, Event::LeaseClosed { .. }));
}

#[tokio::test]
async fn another_version_is_refused_with_both_versions() {
    let stage = Stage::new();
    let socket = Arc::new(stage.raw_program());
    say_raw(&socket, &ToDaemon::Hello(Hello { version: 7 }));
    let Some(ToProgram::Denied(denied)) = hear_raw(&socket).await else { panic!("not denied") };
    let text = denied.failure.unwrap().message;
    assert!(text.contains("version 7") && text.contains("version 1"), "{text}");
    assert_eq!(hear_raw(&socket).await, None, "and closed");
}

#[tokio::test]
async fn a_second_server_is_refused_a_stale_socket_is_taken_over() {
    let stage = Stage::new();
    let again = Server::start(Config::new(&stage.path));
    assert_eq!(again.err().map(|e| e.kind()), Some(std::io::ErrorKind::AddrInUse));
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale.flow");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let (_server, _events) = Server::start(Config::new(&stale)).unwrap();
    within(client::open(&stale)).await.expect("a lease");
}

#[tokio::test]
async fn one_lease_too_many_is_told_why() {
    let mut stage = Stage::with(|c| c.max_leases = 1);
    let _first = stage.program().await;
    match within(client::open(&stage.path)).await {
        Err(OpenError::Denied(failure)) => assert_eq!(failure.kind(), FailureKind::Exhausted),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn the_socket_file_goes_with_the_server() {
    let Stage { server, events, path, dir } = Stage::new();
    assert!(path.exists());
    drop((server, events));
    within(async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(dir);
}
