//! Names that begin alike, followed.

use proto::PROTOCOL_VERSION;
use proto::v1::{self, FailureKind};
use tonic::Streaming;

use super::fake::{self, Fake};
use super::stage::{Host, SOON, failure, until};

fn wanted(prefix: &str, layer: &str) -> v1::NamesRequest {
    v1::NamesRequest { version: PROTOCOL_VERSION, prefix: prefix.into(), layer: layer.into() }
}

async fn follow(host: &Host, layer: &str) -> Streaming<v1::NamesReply> {
    host.irm().names(wanted("chat.", layer)).await.unwrap().into_inner()
}

/// The next list, each with who has it.
async fn next(names: &mut Streaming<v1::NamesReply>) -> Vec<String> {
    let reply = tokio::time::timeout(SOON, names.message()).await.expect("a list in time").unwrap().expect("a list");
    let row = |known: v1::KnownName| format!("{} {}", known.name, if known.here { "here" } else { &known.layer });
    reply.names.into_iter().map(row).collect()
}

#[tokio::test]
async fn names_are_told_again_each_time_they_change() {
    let host = Host::new();
    let irmd = host.start().await;
    let lease = host.lease().await;
    for name in ["chat", "chat.a", "chatter", "other.chat.b"] {
        host.serve(name).await;
    }
    let mut names = follow(&host, "").await;
    assert_eq!(next(&mut names).await, ["chat.a here"]);
    host.serve("chat.b").await;
    assert_eq!(next(&mut names).await, ["chat.a here", "chat.b here"]);
    host.irm().unserve(v1::UnserveRequest { name: "chat.a".into() }).await.unwrap();
    assert_eq!(next(&mut names).await, ["chat.b here"]);
    // Whoever served it is gone.
    drop(lease);
    assert_eq!(next(&mut names).await, [""; 0]);
    // irmd's end ends the list.
    irmd.die();
    let ended = tokio::time::timeout(SOON, names.message()).await.expect("an end in time");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

/// Of a program that is yet to be started nobody serves the name.
#[tokio::test]
async fn who_is_to_be_started_is_idle() {
    let host = Host::new();
    let _irmd = host.start().await;
    let _lease = host.lease().await;
    let create = v1::NameCreateRequest { name: "chat.a".into(), ..Default::default() };
    host.admin().name_create(create).await.unwrap();
    let program = v1::BoundProgram { path: "/bin/false".into(), auto_start: true, ..Default::default() };
    let bind = v1::BindProgramRequest { name: "chat.a".into(), program: Some(program) };
    host.admin().bind_program(bind).await.unwrap();
    let idle = async || {
        let mut names = host.irm().names(wanted("chat.", "")).await.unwrap().into_inner();
        let reply =
            tokio::time::timeout(SOON, names.message()).await.expect("a list in time").unwrap().expect("a list");
        reply.names.into_iter().map(|known| (known.name, known.here, known.idle)).collect::<Vec<_>>()
    };
    assert_eq!(idle().await, [("chat.a".to_owned(), true, true)]);
    host.serve("chat.a").await;
    assert_eq!(idle().await, [("chat.a".to_owned(), true, false)]);
}

#[tokio::test]
async fn layers_tell_theirs_and_take_them_along() {
    let host = Host::new();
    let _irmd = host.start().await;
    let _lease = host.lease().await;
    host.serve("chat.a").await;
    let mut names = follow(&host, "").await;
    assert_eq!(next(&mut names).await, ["chat.a here"]);
    let fake = Fake::default();
    fake.state.lock().unwrap().known = vec!["chat.a", "chat.z"];
    fake::serve(&fake, &host.run_dir, "udp0");
    let request = fake::attach_request(&host.run_dir, "udp0", "net");
    let attached = host.for_ipcp().attach(request).await.unwrap();
    assert_eq!(next(&mut names).await, ["chat.a here", "chat.a net", "chat.z net"]);
    let mut of_net = follow(&host, "net").await;
    assert_eq!(next(&mut of_net).await, ["chat.a here", "chat.a net", "chat.z net"]);
    drop(attached);
    assert_eq!(next(&mut names).await, ["chat.a here"]);
    // A layer that does not exist, a prefix that is none, another version.
    let other = v1::NamesRequest { version: PROTOCOL_VERSION + 1, ..wanted("chat.", "") };
    let nonsense = [
        (wanted("chat.", "moon"), FailureKind::NoSuchLayer),
        (wanted("", ""), FailureKind::Invalid),
        (other, FailureKind::Invalid),
    ];
    for (request, kind) in nonsense {
        let failed = failure(host.irm().names(request).await).map(drop).unwrap_err();
        assert_eq!(failed.kind(), kind, "{failed}");
    }
}

#[tokio::test]
async fn a_user_follows_so_many_names_and_no_more() {
    let host = Host::new();
    let _irmd = host.start().await;
    let mut streams = Vec::new();
    let refused = loop {
        match failure(host.irm().names(wanted("chat.", "")).await) {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
        assert!(streams.len() <= 64, "no end of it");
    };
    assert_eq!((streams.len(), refused.kind()), (64, FailureKind::Exhausted));
    assert!(refused.message.contains("follow names already, as many as may"), "{refused}");
    // One that goes leaves its place.
    streams.pop();
    until("a place is free", async || host.irm().names(wanted("chat.", "")).await.is_ok()).await;
}
