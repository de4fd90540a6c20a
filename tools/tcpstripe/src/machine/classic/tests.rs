//! What a peer may say, and what not.
#![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]

use std::time::Instant;

use super::*;

fn group(how: How, tracks: u32) -> Classic {
    let mut group = Classic::new(&how);
    (1..=tracks).for_each(|track| group.track_up(Instant::now(), TrackId(track)));
    group
}

/// A datagram of the short framing, whole.
fn hear(group: &mut Classic, track: u32, serial: u16, bytes: &'static [u8]) -> Result<(), Broken> {
    let (now, track) = (Instant::now(), TrackId(track));
    let head = Framing::Short.encode(Header { serial, size: bytes.len() as u32 }).unwrap();
    assert_eq!(group.head(now, track, &head)?, Some((4, bytes.len())));
    if bytes.is_empty() { Ok(()) } else { group.body(now, track, Bytes::from_static(bytes)) }
}

fn delivered(group: &mut Classic) -> Vec<u8> {
    let all: Vec<u8> = std::iter::from_fn(|| group.deliver()).flat_map(|piece| piece.to_vec()).collect();
    group.delivered(Instant::now(), all.len());
    all
}

fn end(group: &mut Classic, tracks: u32) -> Result<(), Broken> {
    (1..=tracks).try_for_each(|track| group.track_ended(Instant::now(), TrackId(track)))
}

#[test]
fn datagrams_of_many_tracks_come_out_in_order() {
    let mut group = group(How::default(), 2);
    hear(&mut group, 2, 2, b"world").unwrap();
    assert_eq!(delivered(&mut group), b"");
    hear(&mut group, 1, 1, b"hello ").unwrap();
    assert_eq!(delivered(&mut group), b"hello world");
    assert!(!group.is_delivered());
    end(&mut group, 2).unwrap();
    assert!(group.is_delivered());
}

#[test]
fn what_breaks_a_group() {
    type Story = fn(&mut Classic) -> Result<(), Broken>;
    let stories: [(&str, Story, &str); 6] = [
        (
            "a serial twice on a track",
            |g| hear(g, 1, 1, b"a").and_then(|()| hear(g, 1, 1, b"a")),
            "came twice on one track",
        ),
        ("a serial twice on two", |g| hear(g, 1, 2, b"a").and_then(|()| hear(g, 2, 2, b"a")), "datagram 2 came twice"),
        ("one that was delivered", |g| hear(g, 1, 1, b"a").and_then(|()| hear(g, 2, 1, b"a")), "datagram 1 came twice"),
        ("a gap at the end", |g| hear(g, 1, 2, b"a").and_then(|()| end(g, 2)), "datagram 1 had not come"),
        (
            "a track cut in a datagram",
            |g| {
                let head = Framing::Short.encode(Header { serial: 1, size: 9 }).unwrap();
                g.head(Instant::now(), TrackId(1), &head)?;
                end(g, 2)
            },
            "within a datagram",
        ),
        ("a track that breaks", |g| g.track_lost(Instant::now(), TrackId(1)), "a track broke"),
    ];
    for (what, story, words) in stories {
        let mut group = group(How::default(), 2);
        let broken = story(&mut group).unwrap_err().to_string();
        assert!(broken.contains(words), "{what}: {broken}");
    }
}

#[test]
fn a_jump_of_serials_waits_and_is_told_at_the_end() {
    let mut group = group(How::default(), 1);
    hear(&mut group, 1, 40_000, b"late").unwrap();
    assert_eq!(delivered(&mut group), b"");
    assert!(end(&mut group, 1).unwrap_err().to_string().contains("datagram 1 had not come"));
}

#[test]
fn an_empty_datagram_is_nothing_or_the_end() {
    let mut plain = group(How::default(), 1);
    hear(&mut plain, 1, 1, b"").unwrap();
    hear(&mut plain, 1, 2, b"on").unwrap();
    assert_eq!(delivered(&mut plain), b"on");
    let marked = How { end: EndMark::Mark, ..How::default() };
    let mut cut = group(marked.clone(), 1);
    hear(&mut cut, 1, 1, b"half").unwrap();
    assert!(end(&mut cut, 1).unwrap_err().to_string().contains("without the empty datagram"));
    let mut whole = group(marked, 2);
    hear(&mut whole, 2, 2, b"").unwrap();
    assert!(!whole.is_delivered(), "its turn has not come");
    hear(&mut whole, 1, 1, b"all").unwrap();
    assert_eq!(delivered(&mut whole), b"all");
    assert!(whole.is_delivered());
    assert!(hear(&mut whole, 1, 3, b"more").unwrap_err().to_string().contains("behind the one that marks the end"));
}

#[test]
fn empty_datagrams_are_bounded() {
    let mut group = group(How { window: 256 << 10, ..How::default() }, 1);
    let broken = (2..60_000).find_map(|serial| hear(&mut group, 1, serial, b"").err());
    assert!(broken.unwrap().to_string().contains("more empty datagrams"));
}

#[test]
fn only_the_track_whose_turn_it_is_is_read_beyond_the_window() {
    let mut group = group(How { window: 256 << 10, ..How::default() }, 2);
    static LONG: [u8; 60_000] = [7; 60_000];
    for serial in 2..7 {
        hear(&mut group, 2, serial, &LONG).unwrap();
    }
    let head = |serial| Framing::Short.encode(Header { serial, size: 10 }).unwrap();
    group.head(Instant::now(), TrackId(2), &head(7)).unwrap();
    group.head(Instant::now(), TrackId(1), &head(1)).unwrap();
    assert!(!group.accepts(TrackId(2)), "it has to wait");
    assert!(group.accepts(TrackId(1)), "it has what all wait for");
}

#[test]
fn the_bytes_are_those_of_the_seed() {
    let now = Instant::now();
    for (framing, expected) in [(Framing::Short, &[0, 1, 0, 5][..]), (Framing::Long, &[0, 1, 0, 0, 0, 5])] {
        let mut group = group(How { framing, ..How::default() }, 1);
        group.take(now, Bytes::from_static(b"hello"));
        let Some(Outgoing::Bytes { head, body }) = group.next(now, TrackId(1)) else { panic!("nothing") };
        assert_eq!((&head[..], &body[..]), (expected, &b"hello"[..]));
        assert_eq!(group.next(now, TrackId(1)), None, "it is busy");
        group.sent(now, TrackId(1));
        group.take_end(now);
        assert_eq!(group.next(now, TrackId(1)), Some(Outgoing::Finish));
    }
}

#[test]
fn nobody_joins_late() {
    let now = Instant::now();
    let mut group = group(How { chunk: Some(1), ..How::default() }, 1);
    assert!(group.may_join());
    for _ in 0..LATEST_JOIN {
        group.take(now, Bytes::from_static(b"x"));
        group.next(now, TrackId(1)).unwrap();
        group.sent(now, TrackId(1));
    }
    assert!(!group.may_join());
}
