//! A machine and a peer that says anything: for the fuzzer.

use super::{Attached, Exchange, Heard, Saying, StreamId};
use crate::error::Reason;

/// Plays `story`: what the peer says, and what the program does meanwhile. Panics if the machine grows beyond its bounds.
pub(crate) fn play(mut story: &[u8]) {
    let mut exchange = Exchange::default();
    let mut held: Vec<StreamId> = Vec::new();
    while let Some((&op, rest)) = story.split_first() {
        story = rest;
        let which = held.get(usize::from(op >> 4) % held.len().max(1)).copied();
        match (op & 0x0f, which) {
            (0, _) => held.extend(exchange.open().ok().flatten()),
            (1, _) => held.extend(exchange.take().ok().flatten()),
            (2, Some(id)) => drop(exchange.finish(id)),
            (3, Some(id)) => exchange.reset(id, Reason(u32::from(op))),
            (4, Some(id)) => exchange.stop(id, Reason(u32::from(op))),
            (5, Some(id)) => {
                exchange.reset(id, Reason(0));
                exchange.stop(id, Reason(0));
                exchange.release(id);
                exchange.release(id);
                held.retain(|it| *it != id);
            }
            (6, _) => drop(exchange.read()),
            (7, _) => drop(exchange.use_room(usize::from(op >> 4))),
            (8, _) => {
                while exchange.front().is_some() {
                    exchange.said();
                }
            }
            _ => story = hear(&mut exchange, op, story),
        }
        exchange.take_wakes();
        assert!(exchange.is_within_bounds(held.len()), "{exchange:?}");
    }
    exchange.close();
    let mut last = None;
    while let Some(saying) = exchange.front() {
        last = Some(saying);
        exchange.said();
    }
    assert!(matches!(last, None | Some(Saying::End | Saying::Forget(_))), "{last:?}");
}

/// The next bytes are a frame: its length, and itself.
fn hear<'a>(exchange: &mut Exchange, op: u8, story: &'a [u8]) -> &'a [u8] {
    let Some((&len, rest)) = story.split_first() else { return &[] };
    let (frame, rest) = rest.split_at(usize::from(len).min(rest.len()));
    if let Ok(heard) = Heard::decode(frame) {
        let attached = match (op >> 4) & 3 {
            0 => Attached::Nothing,
            1 => Attached::Stream,
            2 => Attached::Lost,
            _ => Attached::Unfit,
        };
        exchange.hear(heard, attached);
    }
    rest
}
