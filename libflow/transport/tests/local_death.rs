//! The other program is another process, and dies.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::local::{Flow, RecvHalf};
use transport::{MessageError, Over, StreamError};

const LIMIT: usize = 65_536;

/// Runs `story` of [`the_other_program`] in a process of its own, at the other end of the flow.
fn other_program(story: &str) -> (Flow, Child) {
    let (here, there): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_program", "--ignored", "--nocapture"])
        .env("STORY", story)
        .stdin(Stdio::from(there))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (Flow::new(Arc::new(here), LIMIT).unwrap(), child)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("within a minute")
}

async fn read_all(half: &mut RecvHalf) -> (Vec<u8>, Result<(), StreamError>) {
    let mut bytes = Vec::new();
    let end = soon(half.read_to_end(&mut bytes)).await;
    (bytes, end.map(|_| ()).map_err(|error| *error.into_inner().unwrap().downcast::<StreamError>().unwrap()))
}

#[tokio::test]
#[ignore = "run by the other tests, as the other program"]
async fn the_other_program() {
    let socket = rustix::io::dup(std::io::stdin()).unwrap();
    let flow = Flow::new(Arc::new(socket), LIMIT).unwrap();
    let story = std::env::var("STORY").unwrap();
    let (mut whole, _r) = flow.open_stream().await.unwrap();
    whole.write_all(b"whole").await.unwrap();
    whole.finish().unwrap();
    let (mut part, _r) = flow.open_stream().await.unwrap();
    part.write_all(b"part").await.unwrap();
    flow.send_message(Bytes::from_static(b"last")).await.unwrap();
    match story.as_str() {
        "killed" => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        // Nothing is dropped.
        "exits" => std::process::exit(0),
        "closes" => {
            part.finish().unwrap();
            flow.close().await;
        }
        other => panic!("no story {other}"),
    }
}

#[tokio::test]
async fn what_a_dead_program_had_finished_is_whole_and_the_rest_is_an_error() {
    for story in ["killed", "exits"] {
        let (flow, mut child) = other_program(story);
        let (mut send, mut whole) = soon(flow.accept_stream()).await.unwrap();
        assert_eq!(read_all(&mut whole).await, (b"whole".to_vec(), Ok(())), "{story}");
        let (_s, mut part) = soon(flow.accept_stream()).await.unwrap();
        assert_eq!(
            read_all(&mut part).await,
            (b"part".to_vec(), Err(StreamError::Over(Over::SocketClosed))),
            "{story}"
        );
        assert_eq!(soon(flow.recv_message()).await.unwrap(), "last");
        assert_eq!(soon(flow.recv_message()).await, Err(MessageError::Over(Over::SocketClosed)));
        assert_eq!(soon(flow.closed()).await, Over::SocketClosed);
        assert_eq!(send.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_program_that_closes_leaves_whole_streams() {
    let (flow, mut child) = other_program("closes");
    assert!(child.wait().unwrap().success());
    for expected in ["whole", "part"] {
        let (_send, mut recv) = soon(flow.accept_stream()).await.unwrap();
        assert_eq!(read_all(&mut recv).await, (expected.as_bytes().to_vec(), Ok(())));
    }
    assert_eq!(soon(flow.closed()).await, Over::PeerClosed);
}
