//! What wires do over many frames, and for any settings.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::link::{Burst, Link};
use super::wire::{Departure, Fate, Why, Wire};

const MANY: u32 = 100_000;
const MS: Duration = Duration::from_millis(1);

/// The fates of `count` frames of `length` bytes that come every `gap`.
fn fates(link: Link, count: u32, length: usize, gap: Duration) -> (Instant, Vec<Fate>) {
    link.check().unwrap();
    let (mut wire, start) = (Wire::new(link, 0), Instant::now());
    (start, (0..count).map(|n| wire.pass(start + gap * n, length, false)).collect())
}

fn departures(fates: &[Fate]) -> impl Iterator<Item = Departure> {
    fates.iter().filter_map(|fate| if let Fate::Leaves(departure) = fate { Some(*departure) } else { None })
}

/// The share of many frames whose fate is `wanted`.
fn share(link: Link, wanted: impl Fn(&Fate) -> bool) -> f64 {
    let (_, fates) = fates(link, MANY, 1000, MS);
    fates.iter().filter(|fate| wanted(fate)).count() as f64 / f64::from(MANY)
}

/// Four standard deviations of what `share` of many says.
fn near(found: f64, share: f64) {
    let tolerance = 4.0 * (share * (1.0 - share) / f64::from(MANY)).sqrt();
    assert!((found - share).abs() <= tolerance, "{found} is not {share} ± {tolerance}");
}

#[test]
fn shares_are_as_set() {
    let leaves = |what: fn(&Departure) -> bool| move |fate: &Fate| matches!(fate, Fate::Leaves(d) if what(d));
    for p in [0.01, 0.1, 0.5] {
        for seed in 0..4 {
            let clean = Link { seed, ..Link::CLEAN };
            near(share(Link { loss: p, ..clean }, |fate| *fate == Fate::Dropped(Why::Lost)), p);
            near(share(Link { duplicate: p, ..clean }, leaves(|d| d.twice)), p);
            near(share(Link { corrupt: p, ..clean }, leaves(|d| d.flipped.is_some())), p);
            near(share(Link { reorder: p, ..clean }, leaves(|d| d.held_back)), p);
        }
    }
    assert_eq!(share(Link { loss: 1.0, ..Link::CLEAN }, |fate| matches!(fate, Fate::Leaves(_))), 0.0);
}

#[test]
fn a_clean_wire_does_nothing() {
    let (start, fates) = fates(Link::CLEAN, 1000, 1514, MS);
    for (n, fate) in (0..).zip(fates) {
        let clean = Departure { at: start + MS * n, twice: false, flipped: None, held_back: false };
        assert_eq!(fate, Fate::Leaves(clean));
    }
}

#[test]
fn bursts_have_their_share_and_their_length() {
    for (loss, length) in [(0.01, 5.0), (0.05, 20.0), (0.3, 2.0)] {
        let link = Link { burst: Some(Burst::of(loss, length)), ..Link::CLEAN };
        let (_, fates) = fates(link, 10 * MANY, 1000, MS);
        let lost: Vec<bool> = fates.iter().map(|fate| *fate == Fate::Dropped(Why::LostInBurst)).collect();
        let count = lost.iter().filter(|lost| **lost).count() as f64;
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        let found = count / f64::from(10 * MANY);
        assert!((found / loss - 1.0).abs() < 0.1, "lost {found} of {loss}");
        assert!((count / bursts / length - 1.0).abs() < 0.1, "bursts of {} for {length}", count / bursts);
    }
}

#[test]
fn jitter_is_uniform_around_the_delay_and_keeps_the_order() {
    let link = Link { delay: 50 * MS, jitter: 10 * MS, ..Link::CLEAN };
    // Far apart, so that no frame waits for another.
    let (start, far) = fates(link, MANY, 1000, 100 * MS);
    let delays: Vec<f64> =
        (0..).zip(departures(&far)).map(|(n, d)| (d.at - start - 100 * MS * n).as_secs_f64() * 1e3).collect();
    let mean = delays.iter().sum::<f64>() / f64::from(MANY);
    assert!((mean - 50.0).abs() < 0.1, "{mean}");
    let (least, most) = delays.iter().fold((f64::MAX, 0.0_f64), |(l, m), d| (l.min(*d), m.max(*d)));
    assert!((40.0..40.1).contains(&least) && most <= 60.001 && most > 59.9, "{least} to {most}");
    let (_, close) = fates(link, 1000, 1000, MS / 10);
    let times: Vec<_> = departures(&close).map(|d| d.at).collect();
    assert!(times.is_sorted(), "jitter reordered");
}

#[test]
fn a_frame_held_back_is_overtaken() {
    let link = Link { delay: 5 * MS, reorder: 0.1, reorder_by: 3 * MS, ..Link::CLEAN };
    let (start, fates) = fates(link, 1000, 1000, MS);
    for (n, departure) in (0..).zip(departures(&fates)) {
        let late = if departure.held_back { 3 * MS } else { Duration::ZERO };
        assert_eq!(departure.at, start + MS * n + 5 * MS + late);
    }
}

#[test]
fn a_rate_spaces_frames_and_its_queue_is_bounded() {
    // 1000 B at 1 Mbit/s are 8 ms; they come every ms.
    let link = Link { rate: Some(1_000_000), queue: 4000, ..Link::CLEAN };
    let (start, fates) = fates(link, 800, 1000, MS);
    let times: Vec<_> = departures(&fates).map(|d| d.at).collect();
    assert!((100..=105).contains(&times.len()), "{} frames of 1000 B in 800 ms at 1 Mbit/s", times.len());
    assert_eq!(times[0], start + 8 * MS);
    for pair in times.windows(2) {
        assert_eq!(pair[1] - pair[0], 8 * MS);
    }
    let waited = (0..).zip(&fates).filter_map(|(n, fate)| match fate {
        Fate::Leaves(departure) => Some(departure.at - (start + MS * n)),
        Fate::Dropped(_) => None,
    });
    // Four in the queue, one on the wire.
    assert!(waited.max().unwrap() <= 40 * MS);
    assert!(fates.contains(&Fate::Dropped(Why::Overflowed)));
}

#[test]
fn a_frame_over_the_mtu_is_dropped() {
    let mut wire = Wire::new(Link { mtu: Some(1280), ..Link::CLEAN }, 0);
    let now = Instant::now();
    assert!(matches!(wire.pass(now, 1294, false), Fate::Leaves(_)));
    assert_eq!(wire.pass(now, 1295, false), Fate::Dropped(Why::TooLarge));
}

#[test]
fn the_two_directions_roll_different_dice() {
    let link = Link { loss: 0.5, ..Link::CLEAN };
    let now = Instant::now();
    let lost = |direction| {
        let mut wire = Wire::new(link, direction);
        (0..64).map(|_| wire.pass(now, 100, false) == Fate::Dropped(Why::Lost)).collect::<Vec<_>>()
    };
    assert_eq!(lost(0), lost(0));
    assert_ne!(lost(0), lost(1));
}

#[test]
fn what_goes_to_many_leaves_the_dice_of_the_others_alone() {
    let link = Link { loss: 0.3, burst: Some(Burst::of(0.1, 3.0)), ..Link::CLEAN };
    let now = Instant::now();
    let (mut quiet, mut chatty) = (Wire::new(link, 0), Wire::new(link, 0));
    for n in 0..1000 {
        if n % 7 == 0 {
            chatty.pass(now, 60, true);
        }
        assert_eq!(quiet.pass(now, 100, false), chatty.pass(now, 100, false));
    }
}

prop_compose! {
    fn links()(
        (delay, jitter) in (0_u64..1000).prop_flat_map(|delay| (Just(delay), 0..=delay)),
        shares in prop::array::uniform4(0.0..=1.0_f64),
        burst in prop::option::of((0.0..=1.0_f64, 0.0..=1.0_f64)),
        rate in prop::option::of(1000_u64..10_000_000_000),
        (queue, mtu, seed) in (0_usize..1 << 20, prop::option::of(0_usize..2000), any::<u64>()),
    ) -> Link {
        Link {
            delay: MS * u32::try_from(delay).unwrap(),
            jitter: MS * u32::try_from(jitter).unwrap(),
            loss: shares[0],
            reorder: shares[1],
            duplicate: shares[2],
            corrupt: shares[3],
            burst: burst.map(|(begin, end)| Burst { begin, end }),
            reorder_by: MS,
            rate,
            queue,
            mtu,
            seed,
        }
    }
}

proptest! {
    #[test]
    fn the_same_seed_decides_the_same(link in links(), frames in prop::collection::vec((0_u32..5000, 0_usize..2000), 0..200)) {
        let start = Instant::now();
        let decide = || {
            let (mut wire, mut now) = (Wire::new(link, 0), start);
            frames.iter().map(|(gap, length)| {
                now += Duration::from_micros((*gap).into());
                (now, *length, wire.pass(now, *length, false))
            }).collect::<Vec<_>>()
        };
        let decided = decide();
        prop_assert_eq!(&decided, &decide());
        let mut last = start;
        for (now, length, fate) in decided {
            let Fate::Leaves(departure) = fate else { continue };
            prop_assert!(departure.at >= now + link.delay - link.jitter);
            prop_assert!(departure.flipped.is_none_or(|bit| bit >= 14 * 8 && bit < length * 8));
            if !departure.held_back {
                prop_assert!(departure.at >= last);
                last = departure.at;
            }
        }
    }

    #[test]
    fn a_knob_leaves_the_others_alone(link in links(), loss in 0.0..=1.0_f64) {
        let (with, without) = (Link { rate: None, loss, ..link }, Link { rate: None, loss: 0.0, ..link });
        let (_, with) = fates(with, 200, 1000, MS);
        let (_, without) = fates(without, 200, 1000, MS);
        for (with, without) in with.iter().zip(&without) {
            if let (Fate::Leaves(with), Fate::Leaves(without)) = (with, without) {
                prop_assert_eq!((with.twice, with.flipped, with.held_back), (without.twice, without.flipped, without.held_back));
            }
        }
    }

    #[test]
    fn any_text_is_a_link_or_a_reason(text in "[a-z=,.0-9%x-]{0,40}") {
        if let Ok(link) = text.parse::<Link>() {
            prop_assert_eq!(link.check(), Ok(()));
        }
    }
}
