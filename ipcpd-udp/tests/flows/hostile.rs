//! Programs that misuse what they hold, and a flood on the listen port.

use std::net::SocketAddr;

use proto::shim::{Extension, Request};
use proto::v1::{self, EndReason, FailureKind};
use proto::{BootId, HostId, Name, Qos, WireId};
use rustix::net::{connect, connect_unspec};

use crate::plain;
use crate::program::{carries, flow};
use crate::stage::{PORT, Policy, address, pair, raise_descriptor_limit, soon};

#[tokio::test]
async fn a_program_that_retargets_its_socket_hurts_itself_only() {
    let (mut client, mut server) = pair().await;
    let ((_good, ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    let ((bad, stray), (peer, left)) = flow(&mut client, &mut server).await;
    let third = plain(&address().to_string(), 0);
    // Elsewhere, then nowhere, then at the shim's own port, as anybody may who has a socket.
    connect(&stray.socket, &third.local_addr().unwrap()).unwrap();
    stray.socket.send(b"astray").unwrap();
    let mut buffer = [0; 64];
    let (length, from) = third.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"astray"[..], stray.socket.local_addr().unwrap()));
    connect_unspec(&stray.socket).unwrap();
    third.send_to(b"anybody may now", from).unwrap();
    assert_eq!(stray.socket.recv(&mut buffer).unwrap(), 15);
    for to in [client.listen, server.listen, left.socket.local_addr().unwrap()] {
        stray.socket.send_to(b"echo", to).unwrap();
        stray.socket.send_to(&[0; 1200], to).unwrap();
    }
    connect(&stray.socket, &theirs.socket.local_addr().unwrap()).unwrap();
    stray.socket.send(b"not for you").unwrap();
    // Nobody else's flow has it, new flows are made, and the stray one is ended as any other.
    carries(&ours.socket, &theirs.socket, b"ping");
    carries(&theirs.socket, &ours.socket, b"pong");
    server.irmd.set(Policy::Refuse("no"));
    assert_eq!(client.alloc("echo").await.unwrap_err().kind(), FailureKind::Refused);
    let id = stray.flow;
    peer.release(left);
    assert_eq!(bad.gone().await, (id, EndReason::PeerDeallocated));
    client.until("the other flow is left", |flows| flows.iter().filter(|flow| flow.accepting).count() == 0).await;
    client.until("one flow", |flows| flows.len() == 1 && flows[0].flow_id == ours.flow).await;
    carries(&ours.socket, &theirs.socket, b"still there");
}

fn request(client: u64) -> Vec<u8> {
    let extension = Extension {
        host: HostId(5),
        boot: BootId(6),
        client: WireId(client),
        source: "flood".into(),
        qos: Qos::raw(),
        deadline_ms: 60_000,
        listen_port: PORT,
        data: vec![],
        direct: false,
        cookie: vec![],
    };
    Request::Extended(Name::new("echo").unwrap(), extension).encode()
}

#[tokio::test]
async fn a_flooded_server_asks_for_cookies_and_serves_those_who_bring_them() {
    raise_descriptor_limit();
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    server.irmd.set(Policy::Park);
    let flooder = plain(&address().to_string(), 0);
    for n in 1..=2000 {
        flooder.send_to(&request(n), server.listen).unwrap();
        if n % 50 == 0 {
            // Its queue is not what is tried here.
            tokio::task::yield_now().await;
        }
    }
    server.until("the flood is met", |flows| flows.len() > 200).await;
    assert!(server.counter("cookies_wanted").await > 0);
    assert!(server.flows().await.len() <= 260, "{} flows of a flood", server.flows().await.len());
    carries(&ours.socket, &theirs.socket, b"an open flow");
    while server.arrived.try_recv().is_ok() {}
    let call = client.request("echo");
    let alloc = client.ask(call);
    let accept = async {
        // The flood's have no cookie: only one is proven.
        let arrived = soon("a proven request", async {
            loop {
                let arrived = server.arrived.recv().await.unwrap();
                if arrived.proven {
                    return arrived;
                }
            }
        })
        .await;
        assert_eq!(arrived.source_name, "me");
    };
    let (_, ()) = tokio::join!(alloc, accept);
    // Its request again brings it again.
    assert!(server.counter("cookies_valid").await > 0);
    let from: SocketAddr = flooder.local_addr().unwrap();
    assert!(server.flows().await.iter().filter(|flow| flow.peer_address == from.to_string()).count() <= 260);
}

#[tokio::test]
async fn a_name_that_starts_programs_takes_proven_callers_only() {
    let (mut client, mut server) = pair().await;
    let starts = v1::RegisterRequest { name: "echo".into(), starts: true, ..Default::default() };
    server.ipcp.register(starts).await.unwrap();
    client.alloc("echo").await.unwrap();
    assert!(soon("the request", server.arrived.recv()).await.unwrap().proven);
    assert_eq!((server.counter("cookies_wanted").await, server.counter("cookies_valid").await), (1, 1));
    server.register("echo").await;
    client.alloc("echo").await.unwrap();
    assert!(!soon("the request", server.arrived.recv()).await.unwrap().proven);
}
