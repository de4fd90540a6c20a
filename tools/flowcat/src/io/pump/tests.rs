//! Pumps between pipes in memory.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::*;

/// A flow's writing half that remembers.
#[derive(Default)]
struct Sink {
    came: Vec<u8>,
    ended: Option<bool>,
    /// Takes so many bytes, then is stopped.
    room: Option<usize>,
}

impl Outlet for Sink {
    fn block(&self) -> usize {
        7
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        assert!(bytes.len() <= 7);
        if self.room.is_some_and(|room| self.came.len() + bytes.len() > room) {
            return Err("stopped".to_owned());
        }
        self.came.extend(bytes);
        Ok(())
    }

    fn end(&mut self, whole: bool) -> Result<(), String> {
        self.ended = Some(whole);
        Ok(())
    }
}

/// A flow's reading half that gives these bytes, then this end.
struct Source {
    gives: Vec<u8>,
    end: Result<usize, String>,
    stopped: bool,
}

impl Inlet for Source {
    async fn recv(&mut self, room: &mut [u8]) -> Result<usize, String> {
        if self.gives.is_empty() {
            return self.end.clone();
        }
        let len = self.gives.len().min(5);
        room[..len].copy_from_slice(&self.gives[..len]);
        self.gives.drain(..len);
        Ok(len)
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

/// A pipe that breaks after some bytes.
struct Breaks(&'static [u8], ErrorKind);

impl AsyncRead for Breaks {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let given = std::mem::take(&mut self.0);
        into.put_slice(given);
        Poll::Ready(if given.is_empty() { Err(self.1.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Breaks {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.1.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_is_read_is_sent_and_its_end_is_told() {
    let tally = Tally::default();
    let bytes: Vec<u8> = (0..100).collect();
    let mut sink = Sink::default();
    assert_eq!(outward(&bytes[..], &mut sink, ready(Ok(())), &tally).await, End::Clean);
    assert!(sink.came == bytes && sink.ended == Some(true));
    assert_eq!(tally.sent.load(Ordering::Relaxed), 100);
}

#[tokio::test]
async fn what_is_not_all_is_never_ended_as_if_it_were() {
    let tally = Tally::default();
    let mut sink = Sink::default();
    let failed = ready(Err("the command failed".to_owned()));
    assert_eq!(outward(&b"part"[..], &mut sink, failed, &tally).await, End::Local("the command failed".to_owned()));
    assert_eq!((&sink.came[..], sink.ended), (&b"part"[..], Some(false)));

    let mut sink = Sink::default();
    let end = outward(Breaks(b"part", ErrorKind::Other), &mut sink, ready(Ok(())), &tally).await;
    assert!(matches!(&end, End::Local(words) if words.starts_with("cannot read the input")), "{end:?}");
    assert_eq!((&sink.came[..], sink.ended), (&b"part"[..], Some(false)));

    let mut sink = Sink { room: Some(10), ..Sink::default() };
    assert_eq!(outward(&[0; 100][..], &mut sink, ready(Ok(())), &tally).await, End::Broken("stopped".to_owned()));
    assert_eq!(sink.ended, None);
}

#[tokio::test]
async fn what_comes_is_written_and_its_end_too() {
    let tally = Tally::default();
    let (output, mut reader) = tokio::io::duplex(1024);
    let mut output = Some(output);
    let mut source = Source { gives: (0..100).collect(), end: Ok(0), stopped: false };
    assert_eq!(inward(&mut source, &mut output, &tally).await, End::Clean);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, (0..100).collect::<Vec<u8>>());
    assert!(output.is_none(), "what ends only when it is dropped has ended");
    assert_eq!(tally.received.load(Ordering::Relaxed), 100);
}

#[tokio::test]
async fn a_broken_stream_leaves_the_pipe_open() {
    let tally = Tally::default();
    let (output, mut reader) = tokio::io::duplex(1024);
    let mut output = Some(output);
    let mut source = Source { gives: b"part".to_vec(), end: Err("reset".to_owned()), stopped: false };
    assert_eq!(inward(&mut source, &mut output, &tally).await, End::Broken("reset".to_owned()));
    reader.read_exact(&mut [0; 4]).await.unwrap();
    let mut byte = [0];
    let more = std::pin::pin!(reader.read(&mut byte));
    let polled = std::future::poll_fn({
        let mut more = more;
        move |context| Poll::Ready(more.as_mut().poll(context).is_ready())
    });
    assert!(!polled.await, "whoever reads the pipe sees no end");
}

#[tokio::test]
async fn a_reader_that_went_away_stops_the_peer() {
    let tally = Tally::default();
    for (kind, silent) in [(ErrorKind::BrokenPipe, true), (ErrorKind::StorageFull, false)] {
        let mut source = Source { gives: b"much".to_vec(), end: Ok(0), stopped: false };
        let end = inward(&mut source, &mut Some(Breaks(b"", kind)), &tally).await;
        assert!(source.stopped);
        match (silent, end) {
            (true, End::Unread) => {}
            (false, End::Local(words)) => assert!(words.starts_with("cannot write the output"), "{words}"),
            (_, other) => panic!("{kind}: {other:?}"),
        }
    }
}
