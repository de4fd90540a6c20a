#![expect(clippy::disallowed_methods, reason = "a test begins at some moment")]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::said::offer::Offered;

fn offer(redirects: u16) -> Offer {
    let redirect = |port| Offered { port, on: Vec::new(), from: vec![Ipv4Addr::UNSPECIFIED.into()] };
    Offer { access: Vec::new(), redirects: (1..=redirects).map(redirect).collect() }
}

/// Both sides, and a way between that loses what `lose` says; until the client side has nothing to say before its next second.
fn talk(now: &mut Instant, teller: &Teller, learner: &mut Learner, mut lose: impl FnMut() -> bool) -> usize {
    let mut said = 0;
    for _ in 0..10_000 {
        while let Some(about) = learner.poll(*now) {
            said += 1;
            if lose() {
                continue;
            }
            let mut bytes = Vec::new();
            about.put(&mut bytes);
            for answer in teller.answer(&About::parse(&bytes).unwrap(), Some("192.0.2.7".parse().unwrap())) {
                let mut bytes = Vec::new();
                answer.put(&mut bytes);
                assert!(bytes.len() <= PART + 13);
                if !lose() {
                    learner.heard(*now + Duration::from_millis(5), &About::parse(&bytes).unwrap());
                }
            }
        }
        if learner.have.as_ref().is_some_and(|(number, _)| *number == teller.number()) && learner.getting.is_none() {
            return said;
        }
        *now = learner.poll_timeout();
    }
    panic!("not learnt: {learner:?}");
}

#[test]
fn a_small_offer_is_learnt_with_one_question_and_a_large_one_with_few() {
    let mut now = Instant::now();
    let teller = Teller::new(&offer(3)).unwrap();
    let mut learner = Learner::new(now, Vec::new());
    assert_eq!(learner.front(), None);
    assert_eq!(talk(&mut now, &teller, &mut learner, || false), 1);
    assert_eq!(learner.front().unwrap().ports.len(), 3);
    assert_eq!(learner.round_trip(), Some(Duration::from_millis(5)));
    assert_eq!(learner.seen, Some("192.0.2.7".parse().unwrap()));

    // Each second it says what it has.
    now = learner.poll_timeout();
    assert_eq!(
        learner
            .poll(now)
            .map(|about| matches!(about, About::Have { number, round_trip: 5000, .. } if number == teller.number())),
        Some(true)
    );
    assert_eq!(learner.poll(now), None);

    // The rules change; 60,000 redirects are 540,000 bytes, more than there may be.
    assert!(Teller::new(&offer(60_000)).is_none());
    let large = Teller::new(&offer(8_000)).unwrap();
    assert_eq!(learner.heard(now, &large.news()), Learnt::Nothing);
    let said = talk(&mut now, &large, &mut learner, || false);
    assert!(said <= large.bytes.len().div_ceil(PART * 16) + 1, "{said} questions");
    assert_eq!(learner.front().unwrap().ports.len(), 8_000);

    // The flow is allocated again: what it has still holds, and is told as such.
    learner.begin(now);
    assert_eq!(learner.front().unwrap().ports.len(), 8_000);
    assert!(matches!(learner.poll(now), Some(About::Have { number, .. }) if number == large.number()));
    assert_eq!((learner.poll(now), learner.getting.is_none()), (None, true));
}

#[test]
fn another_address_is_another_front() {
    let now = Instant::now();
    let own: IpAddr = "10.0.0.1".parse().unwrap();
    let redirect = Offered { port: 5, on: vec!["192.0.2.7".parse().unwrap()], from: vec![own] };
    let teller = Teller::new(&Offer { access: Vec::new(), redirects: vec![redirect] }).unwrap();
    let mut learner = Learner::new(now, vec![own]);
    let have = learner.poll(now).unwrap();
    let heard: Vec<Learnt> = teller.answer(&have, None).iter().map(|about| learner.heard(now, about)).collect();
    assert_eq!((heard.last(), learner.front().unwrap().ports.len()), (Some(&Learnt::Front), 0));
    let seen = Some("::ffff:192.0.2.7".parse().unwrap());
    assert_eq!(learner.heard(now, &teller.is(0, seen)), Learnt::Front, "seen at the machine's address");
    assert_eq!(learner.front().unwrap().ports, ["10.0.0.1:5".parse().unwrap()]);
    assert!(learner.moved(now, vec!["10.0.0.2".parse().unwrap()]));
    assert_eq!(learner.front().unwrap().ports, ["0.0.0.0:5".parse().unwrap()]);
}

#[test]
fn parts_that_fit_nowhere_are_left_out() {
    let now = Instant::now();
    let teller = Teller::new(&offer(300)).unwrap();
    let mut learner = Learner::new(now, Vec::new());
    learner.heard(now, &teller.news());
    let number = teller.number();
    let bytes = [0; PART];
    for (number, at, bytes) in
        [(number, 1, &bytes[..]), (number, 0, &bytes[1..]), (number, 4096, &bytes[..]), (number + 1, 0, &bytes[..])]
    {
        assert_eq!(learner.heard(now, &About::Part { number, at, bytes }), Learnt::Nothing);
        assert!(learner.getting.as_ref().unwrap().parts.is_empty());
    }
    // Bytes that are not what was said: it is asked for anew.
    let all = teller.bytes.len().div_ceil(PART);
    for place in 0..all {
        let bytes = vec![0; (teller.bytes.len() - place * PART).min(PART)];
        learner.heard(now, &About::Part { number, at: (place * PART) as u32, bytes: &bytes });
    }
    assert!(learner.getting.is_none() && learner.front().is_none());
}

proptest! {
    /// Whatever is lost, all is learnt in the end.
    #[test]
    fn loss_only_delays(redirects in 1..3_000_u16, mut dice in any::<u64>()) {
        let mut now = Instant::now();
        let teller = Teller::new(&offer(redirects)).unwrap();
        let mut learner = Learner::new(now, Vec::new());
        // As many get through as are lost, by chance (Knuth's numbers).
        let lose = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice >> 63 == 1
        };
        talk(&mut now, &teller, &mut learner, lose);
        prop_assert_eq!(learner.front().unwrap().ports.len(), usize::from(redirects));
    }
}
