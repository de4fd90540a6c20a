//! A peer that says anything, on three tracks: for tests/fuzz, and a property.

use std::time::Instant;

use super::{Broken, Classic, Group, Stripe, TrackId};
use crate::said::classic::Framing;
use crate::said::rule::{EndMark, How};

const WINDOW: u32 = 256 << 10;
const TRACKS: usize = 3;
/// Bytes of a story that come at a time; the first of them says on which track.
const PIECE: usize = 9;

/// Both kinds of groups hear `story`: none panics, and none keeps more than its window and what it counts for each datagram.
#[doc(hidden)]
pub fn play(now: Instant, story: &[u8]) {
    let how = How { window: WINDOW, ..How::default() };
    let marked = How { end: EndMark::Mark, framing: Framing::Long, ..how.clone() };
    let groups: [Box<dyn Group>; 3] =
        [Box::new(Stripe::new(now, &how, None)), Box::new(Classic::new(&how)), Box::new(Classic::new(&marked))];
    for mut group in groups {
        // It may break the protocol: that is the point.
        let _ = hear(&mut *group, now, story);
        let view = group.view(now);
        assert!(view.held <= 3 * u64::from(WINDOW), "{view:?}");
    }
}

fn hear(group: &mut dyn Group, now: Instant, story: &[u8]) -> Result<(), Broken> {
    let mut tracks: [(Vec<u8>, usize); TRACKS] = Default::default();
    (1..=TRACKS as u32).for_each(|track| group.track_up(now, TrackId(track)));
    for piece in story.chunks(PIECE) {
        let at = usize::from(piece[0]) % TRACKS;
        let id = TrackId(at as u32 + 1);
        let (buffer, left) = &mut tracks[at];
        buffer.extend_from_slice(&piece[1..]);
        while !buffer.is_empty() {
            if *left == 0 {
                let Some((head, body)) = group.head(now, id, buffer)? else { break };
                buffer.drain(..head);
                *left = body;
            } else if group.accepts(id) {
                let body: Vec<u8> = buffer.drain(..(*left).min(buffer.len())).collect();
                *left -= body.len();
                group.body(now, id, body.into())?;
            } else {
                break;
            }
        }
        if piece[0] > 250 {
            group.retire(id);
        }
        if let Some(piece) = group.deliver() {
            group.delivered(now, piece.len());
        }
        while group.next(now, id).is_some() {
            group.sent(now, id);
        }
    }
    (1..=TRACKS as u32).try_for_each(|track| group.track_ended(now, TrackId(track)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any moment will do")]
    use proptest::prelude::*;

    use super::*;
    use crate::said::frame::{Abort, Frame};

    /// Frames that are nearly right reach further than any bytes.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let small = || prop_oneof![0..20_u64, 0..400_000_u64, any::<u64>()];
        let frame = prop_oneof![
            (small(), 1..40_u32).prop_map(|(offset, size)| Frame::Data { offset, size }),
            small().prop_map(|offset| Frame::End { offset }),
            (small(), small(), small()).prop_map(|(received, limit, chunks)| Frame::Ack { received, limit, chunks }),
            Just(Frame::Abort(Abort::Reset)),
        ];
        prop::collection::vec((frame, any::<u8>()), 0..60).prop_map(|frames| {
            let mut story = Vec::new();
            for (frame, track) in frames {
                let mut bytes = frame.encode().to_vec();
                if let Frame::Data { size, .. } = frame {
                    bytes.extend(vec![7; size as usize]);
                }
                // Pieces of a whole length, so that a frame begins where the last one ended.
                let rest = bytes.len().next_multiple_of(PIECE - 1) - bytes.len();
                bytes.extend(vec![4; rest]);
                story.extend(bytes.chunks(PIECE - 1).flat_map(|piece| [&[track], piece].concat()));
            }
            story
        })
    }

    proptest! {
        #[test]
        fn nobody_makes_a_group_panic(story: Vec<u8>, nearly in frames()) {
            play(Instant::now(), &story);
            play(Instant::now(), &nearly);
        }
    }
}
