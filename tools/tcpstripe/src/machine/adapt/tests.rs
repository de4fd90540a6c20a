#![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]
use super::*;

const TICK: Duration = Duration::from_millis(20);

/// A group whose tracks bring what a path gives to so many of them, and what it decided.
struct Path {
    adapt: Adapt,
    start: Instant,
    now: Instant,
    tracks: u16,
    moved: f64,
    changes: Vec<(u64, u16)>,
}

impl Path {
    fn new(least: u16, most: u16) -> Self {
        let start = Instant::now();
        let adapt = Adapt::new(start, least, most);
        Self { adapt, start, now: start, tracks: least, moved: 0.0, changes: Vec::new() }
    }

    /// For so many seconds; bytes per second of so many tracks.
    fn run(&mut self, seconds: u64, rate: impl Fn(u16) -> f64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            self.now += TICK;
            let rate = rate(self.tracks);
            self.moved += rate * TICK.as_secs_f64();
            let (rtt, waits) = (Duration::from_millis(40), false);
            let seen = Reading { tracks: self.tracks, moved: self.moved as u64, waits, rtt };
            if let Some(change) = self.adapt.look(self.now, seen) {
                self.tracks = change.tracks;
                self.changes.push(((self.now - self.start).as_secs(), change.tracks));
            }
            assert!((self.adapt.least..=self.adapt.most).contains(&self.tracks), "{}", self.tracks);
        }
    }
}

const MBIT: f64 = 125_000.0;

/// Loss that each track feels for itself: so many tracks, so many times the rate.
#[test]
fn it_grows_while_that_pays() {
    let mut path = Path::new(1, 8);
    path.run(8, |tracks| f64::from(tracks) * 5.0 * MBIT);
    assert_eq!(path.changes.iter().map(|(_, tracks)| *tracks).collect::<Vec<_>>(), [2, 4, 8]);
    assert_eq!(path.adapt.why(), "4 brought 20 Mbit/s, 8 bring 40");
    // Fewer are tried later, and bring less.
    path.run(52, |tracks| f64::from(tracks) * 5.0 * MBIT);
    let tried: Vec<u16> = path.changes[3..].iter().map(|(_, tracks)| *tracks).collect();
    assert_eq!(tried, [4, 8], "{:?}", path.changes);
}

/// One fills the path: two are tried seldom, and given up each time.
#[test]
fn it_stays_where_more_brings_nothing() {
    let mut path = Path::new(1, 8);
    path.run(600, |_| 90.0 * MBIT);
    assert!(path.changes.iter().all(|(_, tracks)| *tracks <= 2), "{:?}", path.changes);
    assert!(path.changes.len() <= 16, "{:?}", path.changes);
    assert_eq!(path.tracks, 1);
}

/// It stops where the path is full.
#[test]
fn it_stops_at_the_knee() {
    let mut path = Path::new(1, 8);
    path.run(20, |tracks| (f64::from(tracks) * 25.0).min(55.0) * MBIT);
    assert_eq!(path.tracks, 2, "{:?}: four bring a tenth more than two", path.changes);
    assert!(path.changes.contains(&(path.changes[1].0, 4)), "{:?}", path.changes);
}

/// The path becomes another one, each way.
#[test]
fn it_follows_the_path() {
    let mut path = Path::new(1, 8);
    path.run(20, |tracks| f64::from(tracks) * 5.0 * MBIT);
    assert_eq!(path.tracks, 8);
    // No loss any more: fewer do as well, and by and by they are fewer.
    path.run(400, |_| 90.0 * MBIT);
    assert!(path.tracks <= 2, "{:?}", path.changes);
    // Bad again, to less than half of what it was: at once more are tried, whatever did not pay before.
    let before = path.now;
    path.run(20, |tracks| f64::from(tracks) * 5.0 * MBIT);
    assert_eq!(path.tracks, 8, "{:?} after {:?}", path.changes, before - path.start);
}

#[test]
fn who_says_little_has_the_least() {
    let mut path = Path::new(2, 8);
    path.run(100, |_| 10_000.0);
    assert_eq!(path.changes, []);
    path.run(10, |tracks| f64::from(tracks) * 5.0 * MBIT);
    assert_eq!(path.tracks, 8);
    path.run(40, |_| 0.0);
    assert_eq!(path.tracks, 2, "{:?}", path.changes);
    assert_eq!(path.adapt.why(), "nothing was said for 30 s");
    assert_eq!(path.adapt.poll_timeout(), None, "and nothing is to be done until something is said");
}

/// Tracks that do not come are not waited for, and not asked for again at once.
#[test]
fn tracks_that_are_not_to_be_had() {
    let start = Instant::now();
    let mut adapt = Adapt::new(start, 1, 8);
    let mut changes = Vec::new();
    for tick in 1..1_500_u32 {
        let seen = Reading { tracks: 1, moved: u64::from(tick) * 100_000, waits: true, rtt: TICK };
        if let Some(change) = adapt.look(start + tick * TICK, seen) {
            changes.push((change.tracks, change.why));
        }
    }
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(changes[1], (1, "2 were not to be had".to_owned()));
}

#[test]
fn a_number_that_is_given_stays() {
    let mut path = Path::new(4, 4);
    path.run(100, |tracks| f64::from(tracks) * 5.0 * MBIT);
    assert_eq!((path.changes.len(), path.adapt.adapts(), path.adapt.poll_timeout()), (0, false, None));
}
