//! A peer that speaks by hand, and badly.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::error::{Over, Reason};
use crate::machine::local::{Frame, MAX_CONTROL, StreamId};

const FIRST: StreamId = StreamId { ours: true, number: 0 };

/// Sends a packet with descriptors beside it.
fn say(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).is_ok()
}

fn frame(frame: Frame) -> Vec<u8> {
    let mut bytes = [0; MAX_CONTROL];
    let len = frame.encode(&mut bytes);
    bytes[..len].to_vec()
}

fn unix_pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

fn socket(family: AddressFamily, kind: SocketType) -> OwnedFd {
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

async fn ends_with_protocol(flow: &Flow, what: &str) -> String {
    match soon(flow.closed()).await {
        Over::Protocol(words) => words,
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn nonsense_ends_the_flow_with_a_word_about_it() {
    let (_near, far) = unix_pair();
    let open = frame(Frame::Open(FIRST));
    let fin = frame(Frame::Fin(FIRST));
    let theirs = StreamId { ours: false, number: 0 };
    let second = StreamId { ours: true, number: 1 };
    let with = [far.as_fd()];
    type Said<'a> = (&'a [u8], &'a [BorrowedFd<'a>]);
    let less = Frame::Room { messages: 7, streams: 1024 };
    let cases: &[(&str, &[Said<'_>])] = &[
        ("an empty frame", &[(b"", &[])]),
        ("a frame of unknown kind 200", &[(b"\xc8abc", &[])]),
        ("a frame of kind 1 with the wrong length", &[(b"\x01", &[])]),
        ("a frame longer than the flow carries", &[(&[1; LIMIT + 1], &[])]),
        ("a stream without a descriptor", &[(&open, &[])]),
        ("a stream with a descriptor that is no stream's", &[(&open, &[far.as_fd(), far.as_fd()])]),
        ("a stream with a descriptor that is no stream's", &[(&open, &[far.as_fd(); 8])]),
        ("a descriptor where none belongs", &[(b"\x01message", &with)]),
        ("a descriptor where none belongs", &[(&fin, &with)]),
        ("a word about a stream that was never opened", &[(&fin, &[])]),
        ("a word about a stream that was never opened", &[(&frame(Frame::Stop(theirs, Reason(1))), &[])]),
        ("a word about a stream that was never opened", &[(&frame(Frame::Refused(theirs)), &[])]),
        ("the refusal of a stream that it opened", &[(&open, &with), (&frame(Frame::Refused(FIRST)), &[])]),
        ("a stream out of turn", &[(&frame(Frame::Open(second)), &with)]),
        ("a stream out of turn", &[(&open, &with), (&open, &with)]),
        ("a stream out of turn", &[(&frame(Frame::Open(theirs)), &with)]),
        ("two last words about one stream", &[(&open, &with), (&fin, &[]), (&fin, &[])]),
        ("less room than before", &[(&frame(less), &[])]),
    ];
    for (words, said) in cases {
        let (one, two) = sockets();
        let flow = Flow::new(one, LIMIT).unwrap();
        for (bytes, descriptors) in *said {
            assert!(say(&two, bytes, descriptors), "{words}");
        }
        assert_eq!(ends_with_protocol(&flow, words).await, *words);
        // The other end is told by the kernel.
        assert!(!say(&two, b"\x01more", &[]), "{words}");
    }
}

#[tokio::test]
async fn descriptors_of_another_kind_are_refused() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let listening = socket(AddressFamily::UNIX, SocketType::STREAM);
    rustix::net::bind(&listening, &rustix::net::SocketAddrUnix::new_unnamed()).unwrap();
    rustix::net::listen(&listening, 1).unwrap();
    let descriptors = [
        ("a pipe's reading end", reader),
        ("a pipe's writing end", writer),
        ("a UDP socket", socket(AddressFamily::INET, SocketType::DGRAM)),
        ("a TCP socket", socket(AddressFamily::INET, SocketType::STREAM)),
        (
            "a datagram socket",
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap().0,
        ),
        ("a packet socket", Arc::into_inner(sockets().0).unwrap()),
        ("a socket without another end", socket(AddressFamily::UNIX, SocketType::STREAM)),
        ("a socket that listens", listening),
        ("a file", std::fs::File::open("/proc/self/status").unwrap().into()),
    ];
    for (what, descriptor) in descriptors {
        let (one, two) = sockets();
        let flow = Flow::new(one, LIMIT).unwrap();
        assert!(say(&two, &frame(Frame::Open(FIRST)), &[descriptor.as_fd()]));
        assert_eq!(ends_with_protocol(&flow, what).await, "a stream with a descriptor that is no stream's");
    }
}

#[tokio::test]
async fn floods_end_the_flow_at_its_bounds() {
    let (_near, far) = unix_pair();
    for (words, streams) in
        [("more messages than there was room for", false), ("more streams than there was room for", true)]
    {
        let (one, two) = sockets();
        let flow = Flow::new(one, LIMIT).unwrap();
        let mut said = 0;
        let mut over = Box::pin(flow.closed());
        while at_once(&mut over).await.is_none() {
            let open = frame(Frame::Open(StreamId { ours: true, number: said }));
            let done = if streams { say(&two, &open, &[far.as_fd()]) } else { say(&two, &[1; 4096], &[]) };
            if done {
                said += 1;
            } else {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(ends_with_protocol(&flow, words).await, words);
        assert!(said <= 1500, "{said} frames");
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_makes_nobody_wait_but_who_needs_room() {
    let (one, _two) = sockets();
    let flow = Flow::new(one, LIMIT).unwrap();
    let mut streams = Vec::new();
    for _ in 0..1024 {
        // What finds no room in the socket is said later.
        streams.push(soon(flow.open_stream()).await.unwrap());
    }
    for (send, recv) in &mut streams {
        send.finish().unwrap();
        recv.stop(Reason(1));
    }
    assert!(at_once(flow.open_stream()).await.is_none());
    let message = bytes::Bytes::from_static(b"x");
    assert_eq!(flow.try_send_message(message), Err(crate::error::MessageError::WouldBlock));
    flow.abort();
    assert_eq!(soon(streams[1023].0.stopped()).await, Err(StreamError::Over(Over::Closed)));
}

#[tokio::test]
async fn a_close_that_nobody_reads_is_given_up() {
    let (one, _two) = sockets();
    let flow = Flow::new(one, LIMIT).unwrap();
    let mut streams = Vec::new();
    for _ in 0..1024 {
        streams.push(flow.open_stream().await.unwrap());
    }
    soon(flow.close()).await;
    assert_eq!(flow.closed().await, Over::Closed);
}

async fn an_end_without_a_word(write: bool) {
    let (one, two) = sockets();
    let flow = Flow::new(one, LIMIT).unwrap();
    let (near, far) = unix_pair();
    assert!(say(&two, &frame(Frame::Open(FIRST)), &[far.as_fd()]));
    rustix::net::send(&near, b"and", SendFlags::NOSIGNAL).unwrap();
    drop((near, far));
    let (mut send, mut recv) = flow.accept_stream().await.unwrap();
    let end = if write {
        of(send.write(b"x").await.unwrap_err())
    } else {
        let (bytes, end) = read_all(&mut recv).await;
        assert_eq!(bytes, b"and");
        end.unwrap_err()
    };
    let words = "a stream's end was shut without a word".to_owned();
    assert_eq!(end, StreamError::Over(Over::Protocol(words)));
}

#[tokio::test]
async fn an_end_without_a_word_ends_the_flow_for_who_reads() {
    an_end_without_a_word(false).await;
}

#[tokio::test]
async fn an_end_without_a_word_ends_the_flow_for_who_writes() {
    an_end_without_a_word(true).await;
}

#[tokio::test]
async fn a_word_that_comes_after_the_end_is_waited_for() {
    let (one, two) = sockets();
    let flow = Flow::new(one, LIMIT).unwrap();
    let (near, far) = unix_pair();
    assert!(say(&two, &frame(Frame::Open(FIRST)), &[far.as_fd()]));
    drop((near, far));
    let (_send, mut recv) = flow.accept_stream().await.unwrap();
    let mut read = Box::pin(read_all(&mut recv));
    assert!(at_once(&mut read).await.is_none());
    assert!(say(&two, &frame(Frame::Reset(FIRST, Reason(3))), &[]));
    assert_eq!(read.await, (vec![], Err(StreamError::Reset(Reason(3)))));
}

#[tokio::test]
async fn a_program_that_died_leaves_no_clean_end() {
    let (one, two) = sockets();
    let flow = Flow::new(one, LIMIT).unwrap();
    let (near, far) = unix_pair();
    let (near2, far2) = unix_pair();
    assert!(say(&two, &frame(Frame::Open(FIRST)), &[far.as_fd()]));
    assert!(say(&two, &frame(Frame::Open(StreamId { number: 1, ..FIRST })), &[far2.as_fd()]));
    assert!(say(&two, &frame(Frame::Fin(FIRST)), &[]));
    drop((near, far, near2, far2, two));
    let (mut send, mut recv) = soon(flow.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut recv).await, (vec![], Ok(())));
    let over = StreamError::Over(Over::SocketClosed);
    assert_eq!(of(soon(send.write(b"x")).await.unwrap_err()), over);
    let (_send, mut recv) = soon(flow.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut recv).await, (vec![], Err(over)));
}
