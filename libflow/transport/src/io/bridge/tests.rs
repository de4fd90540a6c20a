//! A program that blocks, in a thread, on one side; the stream's other end on the other.
#![expect(clippy::disallowed_methods, reason = "a thread plays the program that blocks")]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::*;
use crate::error::Over;
use crate::local::{Flow, RecvHalf, SendHalf};

struct Stage {
    program: Option<UnixStream>,
    bridge: Bridge,
    send: SendHalf,
    recv: RecvHalf,
    flow: Flow,
    _other: Flow,
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("within a minute")
}

async fn stage() -> Stage {
    let (a, b) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (flow, other) = (Flow::new(Arc::new(a), 65_536).unwrap(), Flow::new(Arc::new(b), 65_536).unwrap());
    let (send, recv) = flow.open_stream().await.unwrap();
    let (fd, bridge) = into_fd(send, recv).unwrap();
    let (send, recv) = soon(other.accept_stream()).await.unwrap();
    Stage { program: Some(fd.into()), bridge, send, recv, flow, _other: other }
}

impl Stage {
    /// The program, in a thread of its own.
    fn program<T: Send + 'static>(&mut self, act: impl FnOnce(UnixStream) -> T + Send + 'static) -> JoinHandle<T> {
        let program = self.program.take().unwrap();
        spawn(move || act(program))
    }

    async fn read_all(&mut self) -> (Vec<u8>, Option<StreamError>) {
        let mut bytes = Vec::new();
        let end = soon(self.recv.read_to_end(&mut bytes)).await;
        (bytes, end.err().map(of))
    }
}

async fn joined<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    soon(tokio::task::spawn_blocking(|| thread.join().unwrap())).await.unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn bytes_of_all_sizes_pass_both_ways_and_each_way_ends_for_itself() {
    for len in [0, 1, 2, 3, BLOCK - 1, BLOCK, BLOCK + 1, 3_000_000] {
        let mut stage = stage().await;
        let program = stage.program(move |mut fd| {
            fd.write_all(&pattern(len)).unwrap();
            fd.shutdown(Shutdown::Write).unwrap();
            let mut bytes = Vec::new();
            fd.read_to_end(&mut bytes).map(|_| bytes)
        });
        let (bytes, end) = stage.read_all().await;
        assert!(bytes == pattern(len) && end.is_none(), "{} of {len} bytes, {end:?}", bytes.len());
        stage.send.write_all(&bytes).await.unwrap();
        stage.send.finish().unwrap();
        let back = joined(program).await.unwrap();
        assert!(back == pattern(len), "{} of {len} bytes came back", back.len());
        assert_eq!(soon(stage.bridge.ended()).await, Ends { received: Some(Ok(())), sent: Some(Ok(())) });
    }
}

#[tokio::test]
async fn a_byte_is_passed_on_at_once_though_it_is_left_behind() {
    let mut stage = stage().await;
    let program = stage.program(|mut fd| {
        let mut byte = [0];
        for i in 0..1000_u32 {
            fd.write_all(&[i as u8]).unwrap();
            fd.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], i as u8);
        }
    });
    let mut byte = [0];
    for _ in 0..1000 {
        soon(stage.recv.read_exact(&mut byte)).await.unwrap();
        stage.send.write_all(&byte).await.unwrap();
    }
    joined(program).await;
    assert_eq!(stage.read_all().await, (vec![], None));
}

#[tokio::test]
async fn a_reset_reads_as_an_error_whatever_the_program_did_before() {
    for story in ["wrote nothing", "wrote", "finished"] {
        let mut stage = stage().await;
        let program = stage.program(move |mut fd| {
            match story {
                "wrote" => fd.write_all(b"question").unwrap(),
                "finished" => {
                    fd.write_all(b"question").unwrap();
                    fd.shutdown(Shutdown::Write).unwrap();
                }
                _ => {}
            }
            let mut bytes = Vec::new();
            let end = fd.read_to_end(&mut bytes);
            (bytes, end.map_err(|error| error.kind()))
        });
        match story {
            "wrote" => drop(soon(stage.recv.read_exact(&mut [0; 8])).await.unwrap()),
            "finished" => assert_eq!(stage.read_all().await, (b"question".to_vec(), None)),
            _ => {}
        }
        stage.send.write_all(b"half").await.unwrap();
        stage.send.reset(Reason(9));
        let (bytes, end) = joined(program).await;
        assert_eq!((&bytes[..], end), (&b"half"[..], Err(ErrorKind::ConnectionReset)), "{story}");
        assert_eq!(stage.bridge.why().received, Some(Err(StreamError::Reset(Reason(9)))));
        let sent = soon(stage.bridge.ended()).await.sent.unwrap();
        let expected = if story == "finished" { Ok(()) } else { Err(StreamError::Reset(Reason(0))) };
        assert_eq!(sent, expected, "{story}");
        assert_eq!(stage.read_all().await.1, expected.err(), "{story}");
    }
}

#[tokio::test]
async fn the_end_of_the_flow_reads_as_an_error() {
    let mut stage = stage().await;
    let program = stage.program(|mut fd| fd.read(&mut [0; 8]).map_err(|error| error.kind()));
    stage.send.write_all(b"x").await.unwrap();
    let first = joined(program).await;
    assert_eq!(first, Ok(1));
    let mut stage = self::stage().await;
    let program = stage.program(|mut fd| fd.read(&mut [0; 8]).map_err(|error| error.kind()));
    stage.flow.abort();
    assert_eq!(joined(program).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(soon(stage.bridge.ended()).await.received, Some(Err(StreamError::Over(Over::Closed))));
}

#[tokio::test]
async fn a_stopped_stream_breaks_the_program_s_pipe() {
    let mut stage = stage().await;
    stage.recv.stop(Reason(3));
    let program = stage.program(|mut fd| {
        let error = loop {
            if let Err(error) = fd.write(b"into nothing") {
                break error.kind();
            }
        };
        // What it reads goes on.
        let mut bytes = Vec::new();
        fd.read_to_end(&mut bytes).unwrap();
        (error, bytes)
    });
    stage.send.write_all(b"still here").await.unwrap();
    stage.send.finish().unwrap();
    assert_eq!(joined(program).await, (ErrorKind::BrokenPipe, b"still here".to_vec()));
    let ends = soon(stage.bridge.ended()).await;
    assert_eq!(ends.sent, Some(Err(StreamError::Stopped(Reason(3)))));
}

#[tokio::test]
async fn a_closed_descriptor_finishes_and_stops() {
    let mut stage = stage().await;
    let program = stage.program(|mut fd| fd.write_all(&pattern(100_000)).unwrap());
    let (bytes, end) = stage.read_all().await;
    assert!(bytes == pattern(100_000) && end.is_none());
    joined(program).await;
    assert_eq!(soon(stage.send.stopped()).await, Ok(Some(Reason(0))));
    let ends = soon(stage.bridge.ended()).await;
    assert_eq!(ends, Ends { received: Some(Err(StreamError::Stopped(Reason(0)))), sent: Some(Ok(())) });
}

#[tokio::test]
async fn a_reset_of_the_program_s_own_reaches_the_peer() {
    let mut stage = stage().await;
    let bridge = stage.bridge.clone();
    let (said, heard) = std::sync::mpsc::channel();
    let program = stage.program(move |mut fd| {
        fd.write_all(b"half").unwrap();
        heard.recv().unwrap();
        bridge.reset(Reason(4));
        fd.read(&mut [0; 8]).map_err(|error| error.kind())
    });
    soon(stage.recv.read_exact(&mut [0; 4])).await.unwrap();
    said.send(()).unwrap();
    assert_eq!(stage.read_all().await, (vec![], Some(StreamError::Reset(Reason(4)))));
    assert_eq!(soon(stage.send.stopped()).await, Ok(Some(Reason(4))));
    assert_eq!(joined(program).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_program_that_does_not_read_holds_its_peer_up() {
    let mut stage = stage().await;
    let block = vec![1; 16 * 1024];
    let mut taken = 0;
    // Until nothing moves for as long as it takes a thousand turns.
    let mut idle = 0;
    while idle < 1000 {
        let write = std::pin::pin!(stage.send.write(&block));
        let polled = std::future::poll_fn({
            let mut write = write;
            move |context| std::task::Poll::Ready(write.as_mut().poll(context))
        });
        match polled.await {
            std::task::Poll::Ready(written) => {
                taken += written.unwrap();
                idle = 0;
            }
            std::task::Poll::Pending => {
                idle += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(taken < 4 << 20, "{taken} bytes");
    let program = stage.program(|mut fd| {
        let mut bytes = Vec::new();
        fd.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    stage.send.finish().unwrap();
    assert_eq!(joined(program).await, taken);
}
