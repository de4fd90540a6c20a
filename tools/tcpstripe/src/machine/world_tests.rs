//! Two ends of a group, joined by simulated tracks of different rates, delays and lives, in virtual time. From a seed: what fails
//! once, fails again.
#![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::said::classic::Framing;
use crate::said::rule::{EndMark, How, Policy};

/// A reliable track: what goes in comes out later, at some rate, until it dies.
struct Link {
    /// Both ways.
    ways: [Way; 2],
    rate: f64,
    delay: Duration,
    /// Nothing arrives in this time.
    hole: Option<(Duration, Duration)>,
    dies: Option<Duration>,
    /// When its first end has no more use for it.
    retires: Option<Duration>,
    alive: bool,
}

#[derive(Default)]
struct Way {
    under_way: VecDeque<(Duration, Vec<u8>)>,
    /// When the last byte has left.
    busy_until: Duration,
    buffer: BytesMut,
    body_left: usize,
    finished: bool,
    ended: bool,
    /// A frame was taken that does not fit yet.
    taking: bool,
}

/// How much of each is in a link before its sender waits: bytes that have not left yet, and bytes that nobody reads.
const ROOM: usize = 64 << 10;

impl Way {
    fn has_room(&self, now: Duration, rate: f64) -> bool {
        let unsent = self.busy_until.saturating_sub(now).as_secs_f64() * rate;
        if self.under_way.len() > 20_000 || self.under_way.is_empty() {
            return self.under_way.is_empty();
        }
        let arrived = self.under_way.iter().take_while(|(at, _)| *at <= now);
        (unsent as usize) < ROOM && self.buffer.len() + arrived.map(|(_, bytes)| bytes.len()).sum::<usize>() < ROOM
    }
}

struct World {
    ends: [Box<dyn Group>; 2],
    links: Vec<Link>,
    texts: [Vec<u8>; 2],
    taken: [usize; 2],
    got: [Vec<u8>; 2],
    /// Each end's local side takes so many bytes per step.
    reads: [usize; 2],
    start: Instant,
    now: Duration,
    rng: ChaCha8Rng,
    replaces: bool,
    held_most: u64,
    /// Tracks that were closed before the end.
    parted: u32,
}

const STEP: Duration = Duration::from_millis(1);

fn text(len: usize, seed: u8) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

impl World {
    fn new(ends: [Box<dyn Group>; 2], links: Vec<Link>, lens: [usize; 2], seed: u64) -> Self {
        let mut world = Self {
            ends,
            links: Vec::new(),
            texts: [text(lens[0], 1), text(lens[1], 2)],
            taken: [0; 2],
            got: [Vec::new(), Vec::new()],
            reads: [usize::MAX; 2],
            start: Instant::now(),
            now: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            replaces: false,
            held_most: 0,
            parted: 0,
        };
        links.into_iter().for_each(|link| world.add(link));
        world
    }

    fn add(&mut self, link: Link) {
        self.links.push(link);
        let id = TrackId(self.links.len() as u32);
        let link = &self.links[self.links.len() - 1];
        let path = Path {
            rtt: Some(link.delay * 2),
            window: Some((link.rate * link.delay.as_secs_f64() * 2.0) as u64),
            lost: 0,
        };
        for end in &mut self.ends {
            end.track_up(self.start + self.now, id);
            end.set_path(id, path);
        }
    }

    /// The local sides: bytes in, bytes out. Of random length, as programs write them.
    fn local(&mut self) {
        let now = self.start + self.now;
        for (side, end) in self.ends.iter_mut().enumerate() {
            let room = end.room();
            let left = self.texts[side].len() - self.taken[side];
            let some = 1 + self.rng.next_u32() as usize % 40_000;
            if room > 0 && left > 0 {
                let len = room.min(left).min(some);
                let from = self.taken[side];
                end.take(now, Bytes::copy_from_slice(&self.texts[side][from..from + len]));
                self.taken[side] += len;
            }
            if self.taken[side] == self.texts[side].len() {
                end.take_end(now);
            }
            let mut budget = self.reads[side];
            while budget > 0
                && let Some(piece) = end.deliver()
            {
                budget = budget.saturating_sub(piece.len());
                end.delivered(now, piece.len());
                self.got[side].extend_from_slice(&piece);
            }
            self.held_most = self.held_most.max(end.view(now).held);
        }
    }

    /// What the ends give to the links.
    fn send(&mut self) -> Result<(), Broken> {
        let now = self.start + self.now;
        let count = self.links.len();
        let first = self.rng.next_u32() as usize;
        for at in 0..count {
            let at = (first + at) % count;
            let id = TrackId(at as u32 + 1);
            let link = &mut self.links[at];
            for (side, end) in self.ends.iter_mut().enumerate() {
                let way = &mut link.ways[side];
                while link.alive && way.has_room(self.now, link.rate) {
                    if std::mem::take(&mut way.taking) {
                        end.sent(now, id);
                    }
                    let Some(next) = end.next(now, id) else { break };
                    way.taking = true;
                    match next {
                        Outgoing::Finish => way.finished = true,
                        Outgoing::Bytes { head, body } => {
                            let bytes = [&head[..], &body[..]].concat();
                            let begins = way.busy_until.max(self.now);
                            way.busy_until = begins + Duration::from_secs_f64(bytes.len() as f64 / link.rate);
                            way.under_way.push_back((way.busy_until + link.delay, bytes));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What comes out of the links.
    fn receive(&mut self) -> Result<(), Broken> {
        let now = self.start + self.now;
        for (at, link) in self.links.iter_mut().enumerate() {
            let id = TrackId(at as u32 + 1);
            if link.alive && link.dies.is_some_and(|at| self.now >= at) {
                link.alive = false;
                for end in &mut self.ends {
                    end.track_lost(now, id)?;
                }
            }
            if link.alive && link.retires.take_if(|at| self.now >= *at).is_some() {
                self.ends[0].retire(id);
            }
            let in_hole = link.hole.is_some_and(|(from, to)| self.now >= from && self.now < to);
            if !link.alive || in_hole {
                continue;
            }
            for side in 0..2 {
                let (way, end) = (&mut link.ways[side], &mut self.ends[1 - side]);
                pass_on(way, now, id, &mut **end)?;
                while way.under_way.front().is_some_and(|(at, _)| *at <= self.now) && way.buffer.len() < ROOM {
                    let (_, bytes) = way.under_way.pop_front().unwrap();
                    way.buffer.extend_from_slice(&bytes);
                    pass_on(way, now, id, &mut **end)?;
                }
                if way.finished && way.under_way.is_empty() && way.buffer.is_empty() && !way.ended {
                    way.ended = true;
                    end.track_ended(now, id)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        self.now += STEP;
        self.receive()?;
        self.local();
        self.send()?;
        self.part()?;
        let now = self.start + self.now;
        for side in 0..2 {
            while self.ends[side].poll_timeout().is_some_and(|at| now >= at) {
                self.ends[side].handle_timeout(now);
                let Some(hopeless) = self.ends[side].poll_hopeless(now) else { break };
                self.links[hopeless.0 as usize - 1].alive = false;
                self.ends[1 - side].track_lost(now, hopeless)?;
            }
        }
        if self.replaces && self.links.iter().all(|link| !link.alive) {
            self.add(link(1e6, 10));
        }
        Ok(())
    }

    /// Tracks that ended both ways before their group are closed.
    fn part(&mut self) -> Result<(), Broken> {
        let now = self.start + self.now;
        for (at, link) in self.links.iter_mut().enumerate() {
            let open = self.ends.iter().all(|end| end.may_part() && end.state() == State::Open);
            if open && link.alive && link.ways.iter().all(|way| way.ended) {
                link.alive = false;
                self.parted += 1;
                for end in &mut self.ends {
                    end.track_lost(now, TrackId(at as u32 + 1))?;
                }
            }
        }
        Ok(())
    }

    /// Runs until both ends are over, for so long at most.
    fn run(&mut self, most: Duration) -> Result<(), Broken> {
        while self.now < most && self.ends.iter().any(|end| end.state() == State::Open) {
            self.step()?;
        }
        Ok(())
    }

    fn assert_whole(&self) {
        for side in 0..2 {
            let view = self.ends[side].view(self.start + self.now);
            assert_eq!(self.ends[side].state(), State::Done, "end {side} after {:?}: {view:?}", self.now);
            assert!(
                self.got[1 - side] == self.texts[side],
                "what end {side} said is not what came: {} of {}",
                self.got[1 - side].len(),
                self.texts[side].len()
            );
        }
    }
}

fn pass_on(way: &mut Way, now: Instant, id: TrackId, end: &mut dyn Group) -> Result<(), Broken> {
    while !way.buffer.is_empty() {
        if way.body_left == 0 {
            let Some((head, body)) = end.head(now, id, &way.buffer)? else { break };
            way.buffer.advance(head);
            way.body_left = body;
        } else {
            if !end.accepts(id) {
                break;
            }
            let len = way.body_left.min(way.buffer.len());
            way.body_left -= len;
            end.body(now, id, way.buffer.split_to(len).freeze())?;
        }
    }
    Ok(())
}

fn link(rate: f64, delay: u64) -> Link {
    Link {
        ways: Default::default(),
        rate,
        delay: Duration::from_millis(delay),
        hole: None,
        dies: None,
        retires: None,
        alive: true,
    }
}

fn stripes(how: &How) -> [Box<dyn Group>; 2] {
    let now = Instant::now();
    [Box::new(Stripe::new(now, how, None)), Box::new(Stripe::new(now, how, Some(how.window)))]
}

fn classics(how: &How) -> [Box<dyn Group>; 2] {
    [Box::new(Classic::new(how)), Box::new(Classic::new(how))]
}

const LONG: Duration = Duration::from_secs(600);

/// A track as a property draws it: its rate, its delay, when it dies, when nothing arrives on it, and when it is retired.
type AnyLink = (u32, u64, Option<u64>, Option<(u64, u64)>, Option<u64>);

fn any_link() -> impl Strategy<Value = AnyLink> {
    (
        20_000..5_000_000_u32,
        0..400_u64,
        prop::option::weighted(0.3, 0..3_000_u64),
        prop::option::weighted(0.3, (0..2_000_u64, 100..5_000_u64)),
        prop::option::weighted(0.3, 0..2_000_u64),
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![Policy::FirstFree, Policy::LowestRtt, Policy::RoundRobin, Policy::Redundant])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Over flows: whatever tracks do, and though all of them may die, each byte comes once and in order, and no more is kept
    /// than the window says.
    #[test]
    fn over_flows_each_byte_comes_once(
        links in prop::collection::vec(any_link(), 1..6),
        policy in policies(),
        lens in (0..600_000_usize, 0..50_000_usize),
        slow in prop::option::weighted(0.3, 500..5_000_usize),
        seed: u64,
    ) {
        let how = How { policy, window: 256 << 10, patience: LONG, ..How::default() };
        let links = links.into_iter().map(|(rate, delay, dies, hole, retires)| Link {
            dies: dies.map(Duration::from_millis),
            retires: retires.map(Duration::from_millis),
            hole: hole.map(|(from, len)| (Duration::from_millis(from), Duration::from_millis(from + len))),
            ..link(rate.into(), delay)
        });
        let mut world = World::new(stripes(&how), links.collect(), [lens.0, lens.1], seed);
        world.replaces = true;
        if let Some(slow) = slow {
            world.reads[1] = slow;
        }
        world.run(LONG).unwrap();
        world.assert_whole();
        prop_assert!(world.held_most <= u64::from(how.window));
    }

    /// Over TCP: whatever the rates are, all of it in order. A track that breaks is told, never an end that looks whole.
    #[test]
    fn over_tcp_each_byte_comes_once_or_the_break_is_told(
        links in prop::collection::vec(any_link(), 1..6),
        policy in policies(),
        lens in (0..600_000_usize, 0..50_000_usize),
        long: bool,
        mark: bool,
        chunk in prop::option::of(1..3_000_u32),
        seed: u64,
    ) {
        let framing = if long { Framing::Long } else { Framing::Short };
        let end = if mark { EndMark::Mark } else { EndMark::Fin };
        let how = How { policy, framing, end, chunk: chunk.map(|chunk| chunk.max(200)), window: 256 << 10, ..How::default() };
        let links = links.into_iter().map(|(rate, delay, dies, hole, retires)| Link {
            dies: dies.map(Duration::from_millis),
            retires: retires.map(Duration::from_millis),
            hole: hole.map(|(from, len)| (Duration::from_millis(from), Duration::from_millis(from + len))),
            ..link(rate.into(), delay)
        });
        let mut world = World::new(classics(&how), links.collect(), [lens.0, lens.1], seed);
        match world.run(LONG) {
            Ok(()) => world.assert_whole(),
            Err(broken) => prop_assert!(world.links.iter().any(|link| !link.alive), "{}", broken),
        }
        // One datagram of each track that was begun before the window was full may come on top.
        let most = u64::from(how.window) + world.links.len() as u64 * ((128 << 10) + 96);
        prop_assert!(world.held_most <= most, "{} waited", world.held_most);
    }
}

/// 16 bits of serial, three times around, with a track so slow that comparing with what was delivered last goes wrong.
#[test]
fn serials_wrap_and_nothing_is_lost() {
    let how = How { chunk: Some(16), window: 64 << 20, ..How::default() };
    let links = vec![link(3e6, 1), link(2e6, 20), link(40e3, 300)];
    let mut world = World::new(classics(&how), links, [3_300_000, 1_000], 7);
    world.run(LONG).unwrap();
    world.assert_whole();
    let chunks = 3_300_000 / 16;
    assert!(chunks > 200_000, "{chunks} datagrams");
}

/// No track falls so far behind that its serials could be taken for others.
#[test]
fn a_track_that_stands_still_stops_the_others_in_time() {
    let how = How { chunk: Some(1), window: 1 << 30, ..How::default() };
    let hole = Some((Duration::ZERO, Duration::from_secs(5)));
    let mut world = World::new(classics(&how), vec![link(5e6, 1), Link { hole, ..link(5e6, 1) }], [100_000, 0], 9);
    world.run(Duration::from_secs(3)).unwrap();
    let sent = world.ends[0].view(world.start).tracks.iter().map(|track| track.bytes_out).sum::<u64>();
    // The one that stands still took what its buffer holds, and is then so many behind.
    assert!((GAP..2 * GAP + ROOM as u64).contains(&sent), "{sent}");
    world.run(LONG).unwrap();
    world.assert_whole();
}

/// A track dies in the middle of a transfer: the others bring what it did not.
#[test]
fn a_dead_track_costs_nothing() {
    let how = How::default();
    let dies = Some(Duration::from_millis(500));
    let mut world = World::new(
        stripes(&how),
        vec![link(2e6, 20), Link { dies, ..link(2e6, 20) }, link(2e6, 20)],
        [6_000_000, 10],
        3,
    );
    world.run(LONG).unwrap();
    world.assert_whole();
    assert!(world.ends[0].view(world.start).sent_again > 0);
}

/// One of two paths is a black hole for 10 s: the other one goes on meanwhile, with what was under way there, too.
#[test]
fn a_black_hole_holds_nobody_up_for_long() {
    let how = How::default();
    let hole = Some((Duration::from_millis(300), Duration::from_millis(10_300)));
    let mut world = World::new(stripes(&how), vec![link(1e6, 20), Link { hole, ..link(1e6, 80) }], [4_000_000, 0], 3);
    world.run(Duration::from_secs(9)).unwrap();
    assert_eq!(world.got[1].len(), 4_000_000, "in virtual time");
}

/// Tracks that are not wanted any more end while the others carry on, each way; nothing is lost, and little comes twice.
#[test]
fn retired_tracks_leave() {
    let how = How::default();
    let retires = |at| Link { retires: Some(Duration::from_millis(at)), ..link(2e6, 20) };
    let links = vec![link(2e6, 20), retires(300), retires(500), retires(500)];
    let mut world = World::new(stripes(&how), links, [6_000_000, 3_000_000], 3);
    world.run(LONG).unwrap();
    world.assert_whole();
    assert_eq!(world.parted, 3);
    assert_eq!(world.ends[0].view(world.start).sent_again, 0, "they brought what they were given");
    let again = world.ends[1].view(world.start).sent_again;
    assert!(again < 600_000, "{again}: the other end learns of it late, but not that late");
}

/// Two paths of different round trips together bring nearly their sum.
#[test]
fn paths_add_up() {
    let how = How::default();
    for policy in [Policy::FirstFree, Policy::LowestRtt] {
        let how = How { policy, ..how.clone() };
        let mut world = World::new(stripes(&how), vec![link(6.25e6, 10), link(6.25e6, 40)], [12_500_000, 0], 3);
        world.run(LONG).unwrap();
        world.assert_whole();
        let rate = 12.5e6 / world.now.as_secs_f64();
        assert!(rate > 0.9 * 12.5e6, "{policy:?}: {rate} bytes/s of 12.5 million");
    }
}

/// Nobody reads at the far end: no more goes out than its window takes.
#[test]
fn who_does_not_read_holds_the_source_back() {
    let how = How { window: 256 << 10, ..How::default() };
    for ends in [stripes(&how), classics(&how)] {
        let mut world = World::new(ends, vec![link(5e6, 1), link(5e6, 5)], [5_000_000, 0], 3);
        world.reads[1] = 0;
        world.run(Duration::from_secs(20)).unwrap();
        let taken = world.taken[0];
        // What is ahead at the sender, the window, and what is in the links.
        assert!((200_000..1_200_000).contains(&taken), "{taken}");
        world.reads[1] = usize::MAX;
        world.run(LONG).unwrap();
        world.assert_whole();
    }
}
