//! libflow against an irmd: allocation, acceptance, every error, and irmd's end and return.
#![expect(clippy::disallowed_methods, reason = "tests measure how long a call took")]

mod fake;

use std::time::{Duration, Instant};

use fake::{FakeIrmd, PEER_DIED, within};
use libflow::{AcceptError, AllocError, EndReason, FlowError, ListenError, Stack, blocking};
use rustix::net::{RecvFlags, SendFlags};

fn stage() -> (tempfile::TempDir, FakeIrmd, Stack) {
    let dir = tempfile::tempdir().unwrap();
    let irmd = FakeIrmd::start(dir.path());
    let stack = Stack::find(Some(dir.path())).unwrap();
    (dir, irmd, stack)
}

#[tokio::test]
async fn a_flow_is_allocated_used_and_deallocated() {
    let (_dir, irmd, stack) = stage();
    let flow = within(stack.alloc("echo").source("me").data(b"x").timeout(Duration::from_secs(3)).into_future());
    let flow = flow.await.unwrap();
    let mut buffer = [0; 100];
    within(flow.send(b"hello")).await.unwrap();
    assert_eq!(within(flow.recv(&mut buffer)).await.unwrap(), 5);
    assert_eq!((flow.peer().name.as_str(), flow.peer().layer.as_str()), ("echo", "local"));
    assert_eq!((flow.data(), flow.sdu_limit()), (&b"hello"[..], 1000));
    irmd.log(|log| {
        let request = &log.allocs[0];
        assert_eq!((request.source_name.as_str(), &request.data[..], request.timeout_ms), ("me", &b"x"[..], 3000));
    });
    let id = flow.id();
    assert_eq!(irmd.handoff.counters(id).unwrap().bytes_sent, 5, "the daemon reads what the flow counts");
    within(flow.dealloc()).await;
    irmd.until(|log| log.released == [id]).await;
}

#[tokio::test]
async fn a_token_redeemed_before_the_offer_waits_for_it() {
    let (_dir, _irmd, stack) = stage();
    within(stack.alloc("late").into_future()).await.unwrap();
}

#[test]
fn blocking_programs_need_no_runtime() {
    let (_dir, irmd, stack) = stage();
    let stack = blocking::Stack::from(stack);
    let flow = stack.alloc("echo").wait().unwrap();
    flow.send(b"hello").unwrap();
    let mut buffer = [0; 100];
    assert_eq!(flow.recv_within(&mut buffer, fake::DEADLINE).unwrap(), 5);
    flow.send_batch(b"aabbc", 2).unwrap();
    let mut batch = libflow::Batch::new();
    let mut got = 0;
    while got < 3 {
        got += flow.recv_batch_within(&mut batch, fake::DEADLINE).unwrap();
    }
    flow.dealloc();
    drop(stack);
    // A program that ends now has said all it had to say: the lease's end is no death with a flow open.
    let wait = Instant::now();
    while irmd.log(|log| log.released.is_empty() || log.leases > 0) {
        assert!(wait.elapsed() < fake::DEADLINE);
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn each_failure_is_an_error_of_its_own() {
    let (_dir, _irmd, stack) = stage();
    let failed = async |name: &str| within(stack.alloc(name).into_future()).await.unwrap_err();
    assert!(matches!(failed("unknown").await, AllocError::UnknownName { message } if message == "no flow to unknown"));
    assert!(matches!(failed("unasked").await, AllocError::DirectoryFailed { .. }));
    assert!(matches!(failed("refusing").await, AllocError::Refused { reason, .. } if reason == "full"));
    assert!(matches!(failed("unattended").await, AllocError::NobodyAccepts { .. }));
    assert!(matches!(failed("silent").await, AllocError::TimedOut { asked: 4, .. }));
    let AllocError::HandoverUnreachable(unreachable) = failed("elsewhere").await else { panic!("reached") };
    assert!(unreachable.to_string().contains("nobody.flow"), "{unreachable}");
    assert!(matches!(failed("two words").await, AllocError::Invalid { .. }));
    let error = within(stack.alloc("echo").layer("nowhere").into_future()).await.unwrap_err();
    assert!(matches!(error, AllocError::NoSuchLayer { .. }));
    let error = within(stack.alloc("echo").data(vec![0; libflow::MAX_DATA + 1]).into_future()).await.unwrap_err();
    assert!(matches!(error, AllocError::Invalid { .. }), "{error}");
    let error = within(stack.listen("taken").into_future()).await.unwrap_err();
    assert!(matches!(error, ListenError::NotPermitted { .. }), "{error}");
}

#[tokio::test]
async fn an_unreachable_irmd_is_told_at_once_with_its_path_and_how_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::find(Some(dir.path())).unwrap();
    let start = Instant::now();
    let error = within(stack.alloc("echo").into_future()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AllocError::IrmdUnreachable(_)), "{text}");
    let path = dir.path().join("irmd.sock");
    assert!(text.contains(path.to_str().unwrap()) && text.contains("irmd --run-dir"), "{text}");
    assert!(matches!(within(stack.listen("x").into_future()).await, Err(ListenError::IrmdUnreachable(_))));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // The same stack works once irmd is there.
    let _irmd = FakeIrmd::start(dir.path());
    within(stack.alloc("echo").into_future()).await.unwrap();
}

#[tokio::test]
async fn an_irmd_that_hangs_is_told_after_the_callers_time() {
    let (_dir, _irmd, stack) = stage();
    let error = within(stack.alloc("hanging").timeout(Duration::from_millis(10)).into_future()).await.unwrap_err();
    assert!(matches!(error, AllocError::IrmdUnreachable(_)), "{error}");
}

#[tokio::test]
async fn flows_are_accepted_looked_at_and_refused() {
    let (_dir, irmd, stack) = stage();
    let listener = within(stack.listen("svc").layers(["net"]).into_future()).await.unwrap();
    assert_eq!((listener.name(), listener.layers()), ("svc", &["net".to_owned()][..]));

    let (flow, far) = within(async { tokio::join!(listener.accept(), irmd.arrive("svc")) }).await;
    let flow = flow.unwrap();
    rustix::net::send(&far, b"ping", SendFlags::empty()).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(within(flow.recv(&mut buffer)).await.unwrap(), 4);

    let (incoming, far) = within(async { tokio::join!(listener.incoming(), irmd.arrive("svc")) }).await;
    let incoming = incoming.unwrap();
    assert_eq!((incoming.name(), incoming.source(), incoming.data()), ("svc", "me", &b"hello"[..]));
    let flow = within(incoming.accept_with(b"welcome")).await.unwrap();
    within(flow.send(b"pong")).await.unwrap();
    assert_eq!(rustix::net::recv(&far, &mut buffer, RecvFlags::empty()).unwrap().0, 4);

    let (incoming, _far) = within(async { tokio::join!(listener.incoming(), irmd.arrive("svc")) }).await;
    within(incoming.unwrap().refuse("not today")).await.unwrap();
    let (incoming, _far) = within(async { tokio::join!(listener.incoming(), irmd.arrive("svc")) }).await;
    drop(incoming.unwrap());
    irmd.until(|log| log.answers.len() == 3).await;
    irmd.log(|log| {
        let said: Vec<_> = log.answers.iter().map(|a| (a.accept, a.reason.as_str(), &a.data[..])).collect();
        let want = [(true, "", &b"welcome"[..]), (false, "not today", b""), (false, "the program did not answer", b"")];
        assert_eq!(said, want);
    });

    let error = within(listener.accept_within(Duration::from_millis(5))).await.unwrap_err();
    assert!(matches!(error, AcceptError::TimedOut(_)), "{error}");
    drop(listener);
    irmd.until(|log| log.unserved == ["svc"]).await;
}

#[tokio::test]
async fn a_name_with_two_listeners_is_served_until_the_last_goes() {
    let (_dir, irmd, stack) = stage();
    let first = within(stack.listen("svc").into_future()).await.unwrap();
    let second = within(stack.listen("svc").into_future()).await.unwrap();
    drop(first);
    within(stack.listen("other").into_future()).await.unwrap();
    irmd.until(|log| log.unserved == ["other"]).await;
    drop(second);
    irmd.until(|log| log.unserved == ["other", "svc"]).await;
}

#[tokio::test]
async fn a_dropped_wait_frees_its_flow() {
    let (_dir, irmd, stack) = stage();
    let listener = within(stack.listen("svc").into_future()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), listener.accept()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(20), stack.alloc("hanging").into_future()).await.is_err());
    let (flow, _far) = within(async { tokio::join!(listener.accept(), irmd.arrive("svc")) }).await;
    flow.unwrap();
    assert!(irmd.log(|log| log.not_taken.is_empty()));
}

/// A server must not take one lost flow for the loss of its right to serve.
#[tokio::test]
async fn a_flow_that_ends_before_its_socket_is_taken_is_one_flow_gone() {
    let (_dir, irmd, stack) = stage();
    let listener = within(stack.listen("svc").into_future()).await.unwrap();
    let (flow, ()) = within(async { tokio::join!(listener.accept(), irmd.arrive_and_end("svc")) }).await;
    let error = flow.unwrap_err();
    assert!(matches!(error, AcceptError::Gone { .. }), "{error:?}");
    let (flow, _far) = within(async { tokio::join!(listener.accept(), irmd.arrive("svc")) }).await;
    flow.unwrap();
}

#[tokio::test]
async fn gone_ends_a_flow_with_its_reason() {
    let (_dir, irmd, stack) = stage();
    let flow = within(stack.alloc("echo").into_future()).await.unwrap();
    let id = flow.id();
    let mut buffer = [0; 10];
    let (received, ()) =
        within(async { tokio::join!(flow.recv(&mut buffer), async { irmd.handoff.gone(id, PEER_DIED) }) }).await;
    assert!(matches!(received, Err(FlowError::Gone(EndReason::PeerDied))), "{received:?}");
    assert!(matches!(flow.send(b"x").await, Err(FlowError::Gone(EndReason::PeerDied))));
}

#[tokio::test]
async fn after_irmds_restart_flows_and_names_are_back() {
    let (dir, irmd, stack) = stage();
    let listener = within(stack.listen("svc").into_future()).await.unwrap();
    let flow = within(stack.alloc("echo").into_future()).await.unwrap();
    let mut buffer = [0; 100];
    let accept = async { listener.accept().await };
    let restart = async {
        irmd.until(|log| log.served == ["svc"]).await;
        drop(irmd);
        // No daemon is in the data path.
        flow.send(b"still here").await.unwrap();
        assert_eq!(flow.recv(&mut buffer).await.unwrap(), 10);
        let irmd = FakeIrmd::start(dir.path());
        irmd.until(|log| log.served.iter().any(|name| name == "svc") && !log.adopted.is_empty()).await;
        let far = irmd.arrive("svc").await;
        (irmd, far)
    };
    let (accepted, (irmd, _far)) = within(async { tokio::join!(accept, restart) }).await;
    accepted.unwrap();
    let (ticket, counters) = irmd.log(|log| log.adopted[0].clone());
    assert_eq!(ticket, format!("ticket of {}", flow.id()).into_bytes());
    assert_eq!((counters.sdus_sent, counters.bytes_received), (1, 10));
    // Counts go on in the new daemon's memory.
    within(async {
        while irmd.handoff.counters(flow.id()).is_none() {
            tokio::task::yield_now().await;
        }
        flow.send(b"x").await.unwrap();
        while flow.stats().sdus_sent != 2 || irmd.handoff.counters(flow.id()).unwrap().sdus_sent != 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    irmd.handoff.gone(flow.id(), PEER_DIED);
    within(async { while !matches!(flow.recv(&mut buffer).await, Err(FlowError::Gone(EndReason::PeerDied))) {} }).await;
    within(stack.alloc("echo").into_future()).await.unwrap();
}

#[tokio::test]
async fn irmds_end_is_told_at_once_to_a_call_under_way() {
    let (_dir, irmd, stack) = stage();
    within(stack.alloc("echo").into_future()).await.unwrap();
    let alloc = stack.alloc("hanging").into_future();
    let stop = async {
        irmd.until(|log| log.allocs.len() == 2).await;
        drop(irmd);
        Instant::now()
    };
    let (result, stopped) = within(async { tokio::join!(alloc, stop) }).await;
    assert!(matches!(result, Err(AllocError::IrmdUnreachable(_))), "{result:?}");
    assert!(stopped.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_thread_ends_with_its_last_user() {
    let (_dir, irmd, stack) = stage();
    let flow = stack.alloc("echo").wait().unwrap();
    drop(stack);
    assert_eq!(irmd.log(|log| log.leases), 1, "a flow keeps the lease");
    drop(flow);
    let wait = Instant::now();
    while irmd.log(|log| log.leases > 0) {
        assert!(wait.elapsed() < fake::DEADLINE);
        std::thread::yield_now();
    }
    assert_eq!(irmd.log(|log| log.released.len()), 1);
}
