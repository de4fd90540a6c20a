//! Programs that break the protocol harm nobody but themselves.

mod stage;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use handoff::client::Said;
use handoff::server::Event;
use proto::FlowId;
use proto::handoff::{MAX_PACKET, ToDaemon, ToProgram};
use proto::v1::{Adopt, Counters, FailureKind};
use rustix::fs::SealFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use stage::*;

/// Sends with any number of descriptors beside.
fn send_with(socket: &OwnedFd, bytes: &[u8], beside: &[BorrowedFd<'_>]) -> Result<usize, rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(beside)));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

#[tokio::test]
async fn a_malformed_packet_closes_its_lease_and_no_other() {
    let mut stage = Stage::new();
    let good = stage.program().await;
    let too_long = vec![3; MAX_PACKET + 1];
    let adopt_without_socket = ToDaemon::Adopt(Adopt::default()).encode();
    let short_token = [2, 0x0a, 1, 9];
    let packets: [&[u8]; 6] =
        [b"\x07nonsense", b"\x02\xff\xff", &too_long, &adopt_without_socket, &short_token, &hello().encode()];
    for packet in packets {
        let socket = Arc::new(stage.raw_program());
        say_raw(&socket, &hello());
        assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
        assert!(matches!(hear_raw(&socket).await, Some(ToProgram::Welcome(_))));
        rustix::net::send(&*socket, packet, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(hear_raw(&socket).await, None, "{packet:?}");
        assert!(matches!(stage.event().await, Event::LeaseClosed { last_of_process: false, .. }));
    }
    let _far = stage.offer(1, token(1), my());
    assert!(matches!(take(&good, 1).await, Said::Granted { .. }));
}

#[tokio::test]
async fn nothing_before_hello_is_heard() {
    let stage = Stage::new();
    let _far = stage.offer(1, token(1), my());
    let socket = Arc::new(stage.raw_program());
    say_raw(&socket, &redeem(1));
    assert_eq!(hear_raw(&socket).await, None);
    assert_eq!(stage.server.holder(FlowId(1)), None);
}

/// facts: an empty datagram on SEQPACKET reads as end of file.
#[tokio::test]
async fn an_empty_packet_reads_as_the_end_of_the_lease() {
    let mut stage = Stage::new();
    let socket = Arc::new(stage.raw_program());
    say_raw(&socket, &hello());
    assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
    rustix::net::send(&*socket, &[], SendFlags::NOSIGNAL).unwrap();
    assert!(matches!(stage.event().await, Event::LeaseClosed { last_of_process: true, .. }));
}

/// facts: descriptors that do not fit are told only by MSG_CTRUNC.
#[tokio::test]
async fn msg_ctrunc_closes_the_lease_and_leaks_no_descriptor() {
    let mut stage = Stage::new();
    let (sent, far) = pair();
    for (descriptors, fits) in [(1, true), (2, true), (50, false), (253, false)] {
        let socket = Arc::new(stage.raw_program());
        say_raw(&socket, &hello());
        assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
        assert!(matches!(hear_raw(&socket).await, Some(ToProgram::Welcome(_))));
        send_with(&socket, &redeem(1).encode(), &vec![sent.as_fd(); descriptors]).unwrap();
        // Two fit the space for one, which is padded; what nobody asked for is closed.
        if fits {
            assert!(matches!(hear_raw(&socket).await, Some(ToProgram::Denied(_))));
        } else {
            assert_eq!(hear_raw(&socket).await, None);
        }
        drop(socket);
        assert!(matches!(stage.event().await, Event::LeaseClosed { .. }));
    }
    drop(sent);
    // The far end reads its end of file once every copy is closed.
    let mut buffer = [0; 1];
    within(async {
        while rustix::net::recv(&far, &mut buffer, RecvFlags::DONTWAIT) != Ok((0, 0)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A shrunk memory would kill the daemon with SIGBUS at its next look.
#[tokio::test]
async fn sealed_statistics_memory_cannot_be_shrunk() {
    let (_map, memfd) = handoff::client::SlotMap::make(16).unwrap();
    assert_eq!(rustix::fs::ftruncate(&memfd, 0), Err(rustix::io::Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&memfd, 1 << 20), Err(rustix::io::Errno::PERM));
    let more = rustix::fs::fcntl_add_seals(&memfd, SealFlags::WRITE);
    assert_eq!(more, Err(rustix::io::Errno::PERM), "a write seal would stop the daemon's zeroing");
    let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, 1024).unwrap();
    assert!(handoff::client::SlotMap::map(&unsealed, 16).is_err(), "a program trusts sealed memory only");
    assert!(handoff::client::SlotMap::map(&memfd, 17).is_err(), "and none smaller than said");
}

/// What the daemon has for a program that never reads stays bounded, and others are served meanwhile.
#[tokio::test]
async fn statistics_of_a_hostile_program_are_numbers_and_its_own() {
    let mut stage = Stage::new();
    let (bad, good) = (stage.program().await, stage.program().await);
    let _far = [stage.offer(1, token(1), my()), stage.offer(2, token(2), my())];
    let Said::Granted { slot, .. } = take(&bad, 1).await else { panic!("granted") };
    let Said::Granted { slot: other, .. } = take(&good, 2).await else { panic!("granted") };
    other.sent(1, 100);
    let most = Counters {
        sdus_sent: u64::MAX,
        bytes_sent: u64::MAX,
        sdus_received: u64::MAX,
        bytes_received: u64::MAX,
        send_errors: u64::MAX,
        receive_errors: u64::MAX,
    };
    slot.write(most);
    assert_eq!(stage.server.counters(FlowId(1)), Some(most));
    // Beyond the greatest they begin again.
    slot.sent(1, 1);
    assert_eq!(stage.server.counters(FlowId(1)).map(|counters| counters.sdus_sent), Some(0));
    let untouched = Counters { sdus_sent: 1, bytes_sent: 100, ..Counters::default() };
    assert_eq!(stage.server.counters(FlowId(2)), Some(untouched));
}

#[tokio::test]
async fn a_program_that_never_reads_is_not_listened_to_and_stalls_nobody() {
    let mut stage = Stage::new();
    let silent = stage.raw_program();
    say_raw(&silent, &hello());
    assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
    let packet = redeem(9).encode();
    let mut said = 0;
    // Each redeem is answered with a denial that nobody reads, until the daemon reads no more either.
    while let Ok(sent) = within(async {
        for _ in 0..1000 {
            match rustix::net::send(&silent, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        Err(())
    })
    .await
    {
        let () = sent;
        said += 1;
        assert!(said < 20_000, "the daemon reads on and on");
    }
    let good = stage.program().await;
    let _far = stage.offer(1, token(1), my());
    assert!(matches!(take(&good, 1).await, Said::Granted { .. }));
    drop(silent);
    loop {
        if let Event::LeaseClosed { .. } = stage.event().await {
            break;
        }
    }
}

#[tokio::test]
async fn a_user_has_as_many_leases_as_it_may_and_silent_ones_count() {
    let mut stage = Stage::with(|config| {
        config.max_leases_per_user = 2;
        config.unlimited_users = Vec::new();
    });
    let _good = stage.program().await;
    let silent = stage.raw_program();
    let denied = within(async {
        loop {
            // Until the silent one was seen, this one is let in.
            match handoff::client::open(&stage.path).await {
                Err(handoff::client::OpenError::Denied(failure)) => return failure,
                Ok(lease) => drop(lease),
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    assert_eq!(denied.kind(), FailureKind::Exhausted);
    assert!(denied.message.contains("leases-per-user"), "{denied}");
    drop(silent);
    within(async { while handoff::client::open(&stage.path).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_program_that_dies_with_its_socket_on_the_way_leaves_nothing() {
    let mut stage = Stage::new();
    let good = stage.program().await;
    for flow in 1..=20 {
        let socket = stage.raw_program();
        say_raw(&socket, &hello());
        assert!(matches!(stage.event().await, Event::LeaseOpened(_)));
        let far = stage.offer(flow, token(u8::try_from(flow).unwrap()), my());
        say_raw(&socket, &redeem(u8::try_from(flow).unwrap()));
        drop(socket);
        // Sent or not, the daemon hears that nobody has it, once.
        let (mut taken, mut over) = (false, false);
        while !over {
            match stage.event().await {
                Event::Taken { flow: told, .. } => taken = told == FlowId(flow),
                Event::NotTaken { flow: told } => assert!(!taken && told == FlowId(flow)),
                Event::LeaseClosed { flows, .. } => {
                    assert_eq!(flows, if taken { vec![FlowId(flow)] } else { Vec::new() });
                    over = true;
                }
                other => panic!("{other:?}"),
            }
        }
        if !taken {
            stage.server.withdraw(token(u8::try_from(flow).unwrap()), handoff::server::Failure::default());
        }
        assert_eq!(stage.server.holder(FlowId(flow)), None);
        let mut buffer = [0; 1];
        within(async {
            while rustix::net::recv(&far, &mut buffer, RecvFlags::DONTWAIT) != Ok((0, 0)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let _far = stage.offer(100, token(100), my());
    assert!(matches!(take(&good, 100).await, Said::Granted { .. }));
}

/// facts: unread descriptors count against an unprivileged sender's RLIMIT_NOFILE.
#[test]
fn etoomanyrefs_is_a_clear_refusal_and_the_flow_is_not_taken() {
    let thread = std::thread::Builder::new().spawn(|| {
        if !become_unprivileged() {
            eprintln!("SKIPPED: etoomanyrefs: this thread cannot give its privileges up");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::new();
            let socket = Arc::new(stage.raw_program());
            say_raw(&socket, &hello());
            let Event::LeaseOpened(process) = stage.event().await else { panic!("no lease") };
            let owner = handoff::server::Owner { uid: process.uid, pid: process.pid };
            assert!(matches!(hear_here(&socket).await, ToProgram::Welcome(_)));
            let held = fill_with_descriptors();
            let _far = stage.offer(1, token(1), owner);
            say_raw(&socket, &redeem(1));
            let ToProgram::Denied(denied) = hear_here(&socket).await else { panic!("granted") };
            assert_eq!(denied.failure.unwrap().kind(), FailureKind::Exhausted);
            assert!(matches!(stage.event().await, Event::NotTaken { flow: FlowId(1) }));
            drop(held);
            let _far = stage.offer(2, token(2), owner);
            say_raw(&socket, &redeem(2));
            assert!(matches!(hear_here(&socket).await, ToProgram::Grant(_)));
        });
    });
    thread.unwrap().join().unwrap();
}

/// Privileges are a thread's own as far as the kernel is concerned: only libc makes them the process'.
fn become_unprivileged() -> bool {
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let nobody = (rustix::process::Gid::from_raw(65534), rustix::process::Uid::from_raw(65534));
    set_thread_res_gid(nobody.0, nobody.0, nobody.0).is_ok() && set_thread_res_uid(nobody.1, nobody.1, nobody.1).is_ok()
}

/// Descriptors in flight up to this user's limit; dropping the sockets ends their flight.
fn fill_with_descriptors() -> Vec<(OwnedFd, OwnedFd)> {
    let mut held = vec![pair()];
    loop {
        let (near, _) = &held[held.len() - 1];
        let beside = [near.as_fd(); 253];
        match send_with(near, b"x", &beside) {
            Ok(_) => {}
            Err(rustix::io::Errno::TOOMANYREFS) => return held,
            Err(rustix::io::Errno::AGAIN) => held.push(pair()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// `hear_raw` without another thread, which would have its privileges still.
async fn hear_here(socket: &OwnedFd) -> ToProgram {
    let mut buffer = [0; MAX_PACKET];
    within(async {
        loop {
            match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((n, _)) => return ToProgram::decode(&buffer[..n]).expect("a packet"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}
