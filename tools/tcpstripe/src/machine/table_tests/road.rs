//! A link with a rate, a queue, a delay and loss, and what runs over it: connections each with a control of its own, with nothing
//! or a group on top.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::cubic::Cubic;
use crate::machine::{Group, Outgoing, Path, TrackId};

/// Bytes of a packet, without and with what is around them on the wire.
const PACKET: usize = 1_448;
const ON_WIRE: f64 = 1_514.0;
/// How often paths are looked at.
const TICK: Duration = Duration::from_millis(20);

/// The link. Back there is nothing in the way but the delay.
#[derive(Clone, Copy)]
pub(super) struct Road {
    pub(super) rate: f64,
    pub(super) round_trip: Duration,
    pub(super) loss: f64,
    pub(super) seed: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A transmission of a connection's packet comes out.
    Arrives(usize, u64, u64),
    /// Its sender hears that it did.
    Acknowledged(usize, u64),
    /// The other end's next bytes.
    Back(usize),
    Tick,
}

/// One connection.
struct Connection {
    cubic: Cubic,
    /// Bytes that were never sent; and all that were and are not known to have come, by packet.
    unsent: VecDeque<Bytes>,
    waiting: usize,
    packets: BTreeMap<u64, Bytes>,
    next: u64,
    again: VecDeque<u64>,
    /// What came, out of order, and the packet whose turn it is.
    came: BTreeMap<u64, Bytes>,
    turn: u64,
    /// In order, for whoever reads.
    out: BytesMut,
    back: VecDeque<Bytes>,
}

/// The link with its connections, in virtual time.
struct Traffic {
    road: Road,
    now: Duration,
    busy_until: Duration,
    dice: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
    connections: Vec<Connection>,
}

impl Traffic {
    fn new(road: Road, connections: usize) -> Self {
        let connection = |_| Connection {
            cubic: Cubic::new(road.round_trip),
            unsent: VecDeque::new(),
            waiting: 0,
            packets: BTreeMap::new(),
            next: 0,
            again: VecDeque::new(),
            came: BTreeMap::new(),
            turn: 0,
            out: BytesMut::new(),
            back: VecDeque::new(),
        };
        let mut traffic = Self {
            road,
            now: Duration::ZERO,
            busy_until: Duration::ZERO,
            dice: ChaCha8Rng::seed_from_u64(road.seed),
            events: BinaryHeap::new(),
            count: 0,
            connections: (0..connections).map(connection).collect(),
        };
        traffic.after(TICK, Event::Tick);
        traffic
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + time, self.count, event)));
    }

    /// The next thing that happens; time is then.
    fn next(&mut self) -> Event {
        let Reverse((at, _, event)) = self.events.pop().expect("there is always a tick");
        self.now = at;
        match event {
            Event::Arrives(at, packet, transmission) => self.arrives(at, packet, transmission),
            Event::Acknowledged(at, transmission) => {
                let lost = self.connections[at].cubic.acknowledged(self.now, transmission);
                self.connections[at].again.extend(lost);
                self.send(at);
            }
            Event::Tick => {
                self.after(TICK, Event::Tick);
                for at in 0..self.connections.len() {
                    let lost = self.connections[at].cubic.timed_out(self.now);
                    self.connections[at].again.extend(lost);
                    self.send(at);
                }
            }
            Event::Back(_) => {}
        }
        event
    }

    fn arrives(&mut self, at: usize, packet: u64, transmission: u64) {
        self.after(self.road.round_trip / 2, Event::Acknowledged(at, transmission));
        let connection = &mut self.connections[at];
        if let Some(bytes) = connection.packets.remove(&packet) {
            connection.came.insert(packet, bytes);
        }
        while let Some(bytes) = connection.came.remove(&connection.turn) {
            connection.out.extend_from_slice(&bytes);
            connection.turn += 1;
        }
    }

    /// What a connection's window allows.
    fn send(&mut self, at: usize) {
        while self.connections[at].cubic.has_room() {
            let connection = &mut self.connections[at];
            let packet = match connection.again.pop_front() {
                // It had come, and only its acknowledgement took its time.
                Some(packet) if !connection.packets.contains_key(&packet) => continue,
                Some(packet) => packet,
                None => {
                    let Some(bytes) = connection.cut() else { return };
                    connection.packets.insert(connection.next, bytes);
                    connection.next += 1;
                    connection.next - 1
                }
            };
            let transmission = connection.cubic.send(self.now, packet);
            self.launch(at, packet, transmission);
        }
    }

    fn launch(&mut self, at: usize, packet: u64, transmission: u64) {
        let lost = f64::from(self.dice.next_u32()) < self.road.loss * f64::from(u32::MAX);
        let waits = self.busy_until.saturating_sub(self.now);
        if lost || waits > self.road.round_trip {
            return;
        }
        self.busy_until = self.now + waits + Duration::from_secs_f64(ON_WIRE * 8.0 / self.road.rate);
        self.after(self.busy_until - self.now + self.road.round_trip / 2, Event::Arrives(at, packet, transmission));
    }
}

impl Connection {
    fn push(&mut self, bytes: Bytes) {
        self.waiting += bytes.len();
        self.unsent.push_back(bytes);
    }

    /// The next packet that was never sent. Short writes leave together.
    fn cut(&mut self) -> Option<Bytes> {
        let mut packet = BytesMut::with_capacity(PACKET);
        while packet.len() < PACKET
            && let Some(first) = self.unsent.front_mut()
        {
            packet.extend_from_slice(&first.split_to(first.len().min(PACKET - packet.len())));
            if first.is_empty() {
                self.unsent.pop_front();
            }
        }
        self.waiting -= packet.len();
        (!packet.is_empty()).then(|| packet.freeze())
    }

    fn path(&self) -> Path {
        let window = Some((self.cubic.window() * PACKET as f64) as u64);
        Path { rtt: Some(self.cubic.rtt), window, lost: 0 }
    }
}

/// So many connections that have nothing to do with each other, each with as much to send as it likes; bytes that came in order.
pub(super) fn bare(road: Road, connections: usize, time: Duration) -> u64 {
    let mut traffic = Traffic::new(road, connections);
    let block = Bytes::from(vec![0; 64 << 10]);
    while traffic.now < time {
        for connection in &mut traffic.connections {
            while connection.waiting < block.len() {
                connection.push(block.clone());
            }
            connection.out.clear();
        }
        traffic.next();
    }
    traffic.connections.iter().map(|connection| connection.turn * PACKET as u64).sum()
}

/// A group from end to end, with as much to send as it likes.
pub(super) struct Pair {
    traffic: Traffic,
    ends: [Box<dyn Group>; 2],
    start: Instant,
    body_left: Vec<usize>,
    /// Frames that a track's writer has under way, and how many bytes they have left.
    writing: Vec<bool>,
    delivered: u64,
}

fn id(at: usize) -> TrackId {
    TrackId(at as u32 + 1)
}

impl Pair {
    pub(super) fn new(start: Instant, road: Road, mut ends: [Box<dyn Group>; 2], tracks: usize) -> Self {
        let traffic = Traffic::new(road, tracks);
        for end in &mut ends {
            for at in 0..tracks {
                end.track_up(start, id(at));
                end.set_path(id(at), traffic.connections[at].path());
            }
        }
        Self { traffic, ends, start, body_left: vec![0; tracks], writing: vec![false; tracks], delivered: 0 }
    }

    /// Bytes that came out in order.
    pub(super) fn run(mut self, time: Duration) -> u64 {
        (0..self.writing.len()).for_each(|at| self.write(at));
        while self.traffic.now < time {
            match self.traffic.next() {
                Event::Arrives(at, ..) => {
                    self.read(at);
                    self.answer(at);
                }
                Event::Acknowledged(at, _) => self.write(at),
                Event::Back(at) => {
                    self.hear(at);
                    self.write(at);
                }
                Event::Tick => self.tick(),
            }
        }
        self.delivered
    }

    fn now(&self) -> Instant {
        self.start + self.traffic.now
    }

    fn tick(&mut self) {
        let now = self.now();
        for at in 0..self.writing.len() {
            let path = self.traffic.connections[at].path();
            self.ends[0].set_path(id(at), path);
            self.write(at);
        }
        for end in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| now >= at) {
                end.handle_timeout(now);
            }
        }
    }

    /// The sending end's frames, as many as the track's socket takes.
    fn write(&mut self, at: usize) {
        let now = self.now();
        loop {
            let most = self.traffic.connections[at].path().unsent() as usize;
            if self.traffic.connections[at].waiting >= most {
                break;
            }
            if std::mem::take(&mut self.writing[at]) {
                self.ends[0].sent(now, id(at));
            }
            let room = self.ends[0].room();
            if room > 0 {
                self.ends[0].take(now, Bytes::from(vec![0; room.min(64 << 10)]));
            }
            let Some(Outgoing::Bytes { head, body }) = self.ends[0].next(now, id(at)) else { break };
            self.writing[at] = true;
            let connection = &mut self.traffic.connections[at];
            connection.push(Bytes::copy_from_slice(&head));
            if !body.is_empty() {
                connection.push(body);
            }
        }
        self.traffic.send(at);
    }

    /// What came over a track, at the receiving end.
    fn read(&mut self, at: usize) {
        let now = self.now();
        let end = &mut self.ends[1];
        loop {
            let out = &mut self.traffic.connections[at].out;
            if out.is_empty() {
                break;
            }
            if self.body_left[at] == 0 {
                let Some((head, body)) = end.head(now, id(at), out).expect("frames of ours") else { break };
                out.advance(head);
                self.body_left[at] = body;
            } else if end.accepts(id(at)) {
                let body = out.split_to(self.body_left[at].min(out.len())).freeze();
                self.body_left[at] -= body.len();
                end.body(now, id(at), body).expect("chunks of ours");
            } else {
                break;
            }
        }
        while let Some(piece) = end.deliver() {
            end.delivered(now, piece.len());
            self.delivered += piece.len() as u64;
        }
    }

    /// What the receiving end says: it needs no room.
    fn answer(&mut self, at: usize) {
        let now = self.now();
        while let Some(Outgoing::Bytes { head, .. }) = self.ends[1].next(now, id(at)) {
            self.ends[1].sent(now, id(at));
            self.traffic.connections[at].back.push_back(Bytes::copy_from_slice(&head));
            let time = self.traffic.road.round_trip / 2;
            self.traffic.after(time, Event::Back(at));
        }
    }

    fn hear(&mut self, at: usize) {
        let now = self.now();
        if let Some(frame) = self.traffic.connections[at].back.pop_front() {
            self.ends[0].head(now, id(at), &frame).expect("frames of ours");
        }
    }
}
