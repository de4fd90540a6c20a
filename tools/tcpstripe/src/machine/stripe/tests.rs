//! What a peer may say, and what not; how a group ends.
#![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]

use std::time::Instant;

use super::*;

fn group(tracks: u32) -> Stripe {
    let mut group = Stripe::new(Instant::now(), &How { window: 256 << 10, ..How::default() }, None);
    (1..=tracks).for_each(|track| group.track_up(Instant::now(), TrackId(track)));
    group
}

fn hear(group: &mut Stripe, track: u32, frame: Frame) -> Result<usize, Broken> {
    let bytes = frame.encode();
    let heard = group.head(Instant::now(), TrackId(track), &bytes)?;
    let (head, body) = heard.expect("a whole frame");
    assert_eq!(head, bytes.len());
    Ok(body)
}

fn chunk(group: &mut Stripe, track: u32, offset: u64, bytes: &'static [u8]) -> Result<(), Broken> {
    hear(group, track, Frame::Data { offset, size: bytes.len() as u32 })?;
    group.body(Instant::now(), TrackId(track), Bytes::from_static(bytes))
}

/// All that the group says on a track now.
fn said(group: &mut Stripe, track: u32) -> Vec<Frame> {
    let now = Instant::now();
    let mut all = Vec::new();
    while let Some(next) = group.next(now, TrackId(track)) {
        group.sent(now, TrackId(track));
        if let Outgoing::Bytes { head, .. } = next {
            all.push(Frame::decode(&head).unwrap().unwrap().0);
        }
    }
    all
}

#[test]
fn what_breaks_a_group() {
    type Story = fn(&mut Stripe) -> Result<(), Broken>;
    let stories: [(&str, Story, &str); 7] = [
        (
            "beyond the credit",
            |g| hear(g, 1, Frame::Data { offset: 256 << 10, size: 1 }).map(drop),
            "the limit is 262144",
        ),
        (
            "behind the end",
            |g| {
                hear(g, 1, Frame::End { offset: 3 })?;
                chunk(g, 2, 2, b"xy")
            },
            "behind the stream's end",
        ),
        (
            "two ends",
            |g| hear(g, 1, Frame::End { offset: 3 }).and_then(|_| hear(g, 1, Frame::End { offset: 4 })).map(drop),
            "cannot end",
        ),
        (
            "an end before what came",
            |g| chunk(g, 1, 5, b"x").and_then(|()| hear(g, 1, Frame::End { offset: 3 })).map(drop),
            "cannot end",
        ),
        (
            "an acknowledgement of nothing",
            |g| hear(g, 1, Frame::Ack { received: 1, limit: 0, chunks: 0 }).map(drop),
            "were acknowledged of 0",
        ),
        (
            "of chunks that were not sent",
            |g| hear(g, 1, Frame::Ack { received: 0, limit: 0, chunks: 1 }).map(drop),
            "0 were sent",
        ),
        (
            "of fewer than before",
            |g| {
                g.take(Instant::now(), Bytes::from_static(b"x"));
                said(g, 1);
                hear(g, 1, Frame::Ack { received: 1, limit: 0, chunks: 1 })?;
                hear(g, 1, Frame::Ack { received: 1, limit: 0, chunks: 0 }).map(drop)
            },
            "1 were sent",
        ),
    ];
    for (what, story, words) in stories {
        let mut group = group(2);
        let broken = story(&mut group).unwrap_err().to_string();
        assert!(broken.contains(words), "{what}: {broken}");
    }
}

#[test]
fn the_end_is_acknowledged_when_it_has_been_delivered() {
    let mut group = group(1);
    chunk(&mut group, 1, 0, b"abc").unwrap();
    hear(&mut group, 1, Frame::End { offset: 3 }).unwrap();
    let acks = said(&mut group, 1);
    assert!(acks.iter().all(|frame| matches!(frame, Frame::Ack { received: 3, chunks: 1, .. })), "{acks:?}");
    assert_eq!(group.deliver().as_deref(), Some(&b"abc"[..]));
    assert!(!group.is_delivered(), "not written out");
    group.delivered(Instant::now(), 3);
    assert!(group.is_delivered());
    assert!(said(&mut group, 1).iter().any(|frame| matches!(frame, Frame::Ack { received: 4, .. })));
    // The other way has its own end.
    assert_eq!(group.state(), State::Open);
    group.take_end(Instant::now());
    assert_eq!(said(&mut group, 1), [Frame::End { offset: 0 }]);
    hear(&mut group, 1, Frame::Ack { received: 1, limit: 0, chunks: 0 }).unwrap();
    assert_eq!(group.state(), State::Done);
    assert_eq!(group.next(Instant::now(), TrackId(1)), Some(Outgoing::Finish));
}

#[test]
fn nothing_goes_out_without_credit() {
    let mut group = group(1);
    let mut sent = 0;
    while group.room() > 0 {
        let room = group.room().min(10_000);
        group.take(Instant::now(), Bytes::from(vec![0; room]));
        let data = said(&mut group, 1)
            .into_iter()
            .map(|frame| if let Frame::Data { size, .. } = frame { u64::from(size) } else { 0 });
        sent += data.sum::<u64>();
    }
    assert_eq!(sent, u64::from(MIN_WINDOW));
}

#[test]
fn a_track_that_dies_leaves_its_chunks_to_others() {
    let mut group = group(2);
    group.take(Instant::now(), Bytes::from_static(b"chunk"));
    let frames = said(&mut group, 1);
    assert!(frames.contains(&Frame::Data { offset: 0, size: 5 }));
    said(&mut group, 2);
    group.track_lost(Instant::now(), TrackId(1)).unwrap();
    assert_eq!(said(&mut group, 2), [Frame::Data { offset: 0, size: 5 }]);
    // And the last one's to the next that comes.
    group.track_lost(Instant::now(), TrackId(2)).unwrap();
    group.track_up(Instant::now(), TrackId(3));
    assert!(said(&mut group, 3).contains(&Frame::Data { offset: 0, size: 5 }));
}

#[test]
fn a_stalled_track_is_left_alone_and_then_replaced() {
    let mut group = group(2);
    let start = Instant::now();
    group.take(start, Bytes::from_static(b"chunk"));
    said(&mut group, 1);
    said(&mut group, 2);
    let stalls = group.poll_timeout().unwrap();
    group.handle_timeout(stalls);
    assert!(group.view(stalls).tracks[0].stalled);
    assert_eq!(said(&mut group, 2), [Frame::Data { offset: 0, size: 5 }]);
    group.take(start, Bytes::from_static(b"more"));
    assert_eq!(said(&mut group, 1), []);
    // It revives with the first word that something of it came.
    let mut revived = group;
    hear(&mut revived, 1, Frame::Ack { received: 5, limit: 0, chunks: 1 }).unwrap();
    assert!(!revived.view(stalls).tracks[0].stalled);
    assert_eq!(revived.poll_hopeless(stalls + HOPELESS), None);
    // Or never does.
    said(&mut revived, 1);
    let stalls = revived.poll_timeout().unwrap();
    revived.handle_timeout(stalls);
    assert_eq!(revived.poll_hopeless(stalls), None);
    let hopeless = revived.poll_hopeless(stalls + HOPELESS);
    assert!(hopeless.is_some());
}

#[test]
fn who_has_no_track_for_too_long_gives_up() {
    let mut group = group(0);
    let at = group.poll_timeout().unwrap();
    group.handle_timeout(at);
    assert_eq!(group.state(), State::Aborted(Abort::NoTrack));
    assert_eq!(group.poll_timeout(), None);
}

#[test]
fn an_abort_is_said_on_each_track_and_heard_once() {
    let mut group = group(2);
    group.take(Instant::now(), Bytes::from_static(b"chunk"));
    group.abort(Abort::Reset);
    assert_eq!(said(&mut group, 1), [Frame::Abort(Abort::Reset)]);
    assert_eq!(said(&mut group, 2), [Frame::Abort(Abort::Reset)]);
    let mut other = self::group(1);
    hear(&mut other, 1, Frame::Abort(Abort::Refused)).unwrap();
    assert_eq!(other.state(), State::PeerAborted(Abort::Refused));
    assert_eq!((other.room(), said(&mut other, 1)), (0, vec![]));
}
