//! Classic peers, scripted.

use std::net::SocketAddr;

use proto::handoff::ToDaemon;
use proto::v1::{self, EndReason};

use crate::plain;
use crate::program::carries;
use crate::stage::{Host, PORT, address, soon};

#[tokio::test]
async fn a_classic_caller_over_real_sockets() {
    for echo in ["on-accept", "on-arrival"] {
        let at = SocketAddr::new(address(), PORT);
        let mut server = Host::start(at, &["--echo", echo, "--sp-range", "47000-47999"]).await;
        server.register("echo-server").await;
        let caller = plain(&address().to_string(), 0);
        caller.send_to(b"echo-server", at).unwrap();
        let arrived = soon("the request", server.arrived.recv()).await.unwrap();
        assert_eq!((arrived.source_name.as_str(), arrived.classic), ("John Day", true));
        let mut buffer = [0; 256];
        let waiting = caller.try_clone().unwrap();
        let (n, sp, buffer) = tokio::task::spawn_blocking(move || {
            let (n, sp) = waiting.recv_from(&mut buffer).unwrap();
            (n, sp, buffer)
        })
        .await
        .unwrap();
        assert_eq!(&buffer[..n], b"echo-server");
        assert!(sp.ip() == at.ip() && (47_000..48_000).contains(&sp.port()), "{sp}");
        let program = server.program().await;
        let end = program.redeem(&arrived.token).await.unwrap();
        caller.connect(sp).unwrap();
        carries(&caller, &end.socket, b"ABCDEFGHIJKLMNOP");
        carries(&end.socket, &caller, b"ABCDEFGHIJKLMNOP");
        // Dealloc says nothing to a classic peer; its next send meets a closed port.
        program.release(end);
        soon("the end", server.ended.recv()).await.unwrap();
        caller.send(b"BCDEFGHIJKLMNOPQ").unwrap();
        let error = caller.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn a_classic_server_over_real_sockets() {
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    let server = plain(&address().to_string(), PORT);
    client.knows("echo-server", server.local_addr().unwrap()).await;
    let ip = server.local_addr().unwrap().ip().to_string();
    let scripted = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 256];
        let (n, cp) = server.recv_from(&mut buffer).unwrap();
        let name = buffer[..n].split(|byte| *byte == 0).next().unwrap().to_vec();
        let sp = plain(&ip, 0);
        sp.connect(cp).unwrap();
        // An SDU right behind the echo, while the client still connects.
        for payload in [&name[..], b"first"] {
            sp.send(payload).unwrap();
        }
        sp
    });
    let request = v1::AllocRequest { timeout_ms: 5000, ..client.request("echo-server") };
    let reply = client.ask(request).await.unwrap();
    assert!(reply.classic);
    let sp = scripted.await.unwrap();
    let program = client.program().await;
    let end = program.redeem(&reply.token).await.unwrap();
    let mut buffer = [0; 64];
    let n = end.socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"first");
    // The echo again, late: the program does not see it.
    sp.send(b"echo-server").unwrap();
    carries(&end.socket, &sp, b"ABCDEFGHIJKLMNOP");
    carries(&sp, &end.socket, b"ABCDEFGHIJKLMNOP");
    // Gone without a word: the program's kernel hears of it, and says so.
    drop(sp);
    end.socket.send(b"x").unwrap();
    assert_eq!(end.socket.recv(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    program.say(ToDaemon::Suspect(v1::Suspect { flow_id: end.flow }));
    assert_eq!(program.gone().await, (end.flow, EndReason::PeerUnknown));
}
