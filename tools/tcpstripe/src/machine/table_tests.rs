//! What striping brings over a long and lossy link, as a table: so many tracks beside so many connections that have nothing to
//! do with each other, with the same loss-based control. In virtual time and from a seed, so that the table changes only with the
//! code. `BLESS=1 cargo test -p tcpstripe table` writes it anew: look at the difference before it is committed.
#![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]

mod cubic;
mod road;

use std::fmt::Write as _;
use std::path::Path as File;
use std::time::{Duration, Instant};

use self::road::{Pair, Road};
use super::{Classic, Group, Stripe};
use crate::said::rule::How;

/// Of the link, bits per second; its queue is one bandwidth-delay product.
const RATE: f64 = 50e6;
const TIME: Duration = Duration::from_secs(5);
const ROUND_TRIPS: [u64; 3] = [20, 40, 100];
const LOSSES: [f64; 3] = [0.0, 0.001, 0.01];
const TRACKS: [usize; 4] = [1, 2, 4, 8];

/// Mbit/s that came out in order within [`TIME`], with so many connections or tracks.
fn rate(road: Road, tracks: usize, ends: Option<[Box<dyn Group>; 2]>) -> f64 {
    let bytes = match ends {
        Some(ends) => Pair::new(Instant::now(), road, ends, tracks).run(TIME),
        None => road::bare(road, tracks, TIME),
    };
    bytes as f64 * 8.0 / 1e6 / TIME.as_secs_f64()
}

fn table() -> String {
    let how = How::default();
    let classics = || -> [Box<dyn Group>; 2] { [Box::new(Classic::new(&how)), Box::new(Classic::new(&how))] };
    let now = Instant::now();
    let stripes = || -> [Box<dyn Group>; 2] {
        [Box::new(Stripe::new(now, &how, None)), Box::new(Stripe::new(now, &how, Some(how.window)))]
    };
    let mut text =
        "| RTT | loss | N | N connections | N TCP tracks | N flows |\n|---|---|---|---|---|---|\n".to_owned();
    for round_trip in ROUND_TRIPS {
        for loss in LOSSES {
            for tracks in TRACKS {
                let road = Road { rate: RATE, round_trip: Duration::from_millis(round_trip), loss, seed: 7 };
                let ways = [None, Some(classics()), Some(stripes())];
                let [bare, classic, stripe] = ways.map(|ends| rate(road, tracks, ends));
                let percent = loss * 100.0;
                let _ = writeln!(
                    text,
                    "| {round_trip} ms | {percent} % | {tracks} | {bare:.1} | {classic:.1} | {stripe:.1} |"
                );
            }
        }
    }
    text
}

#[test]
fn what_striping_brings() {
    let table = table();
    let file = File::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/table_tests/table.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(want == table, "the table is another one now:\n{table}\nand was:\n{want}");
}

/// What the issue wants of it, whatever the table says.
#[test]
fn tracks_bring_nine_tenths_of_as_many_connections() {
    let road = Road { rate: 100e6, round_trip: Duration::from_millis(40), loss: 0.01, seed: 3 };
    let how = How::default();
    let bare = rate(road, 8, None);
    let classic = rate(road, 8, Some([Box::new(Classic::new(&how)), Box::new(Classic::new(&how))]));
    assert!(classic >= 0.9 * bare, "{classic} of {bare} Mbit/s");
}
