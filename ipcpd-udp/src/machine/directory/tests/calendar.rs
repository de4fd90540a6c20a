//! When names are written, refreshed, tried again, taken out.

use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{Failure, FailureKind};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use super::super::plan::Aim;
use super::super::registrar::{Registrar, Step, Updated, Waiter};
use super::super::trouble::Trouble;
use crate::machine::tests::{name, origin};

/// A registrar, and name servers that are played.
struct Calendar {
    registrar: Registrar,
    rng: ChaCha12Rng,
    now: Instant,
    told: Vec<(Waiter, Result<(), Failure>)>,
    warned: usize,
}

impl Calendar {
    fn new() -> Self {
        let registrar = Registrar::new(Duration::from_secs(900));
        Self { registrar, rng: ChaCha12Rng::seed_from_u64(1), now: origin(), told: Vec::new(), warned: 0 }
    }

    /// The updates that are to begin.
    fn updates(&mut self) -> Vec<(Name, Aim)> {
        let mut updates = Vec::new();
        while let Some(step) = self.registrar.step() {
            match step {
                Step::Update { name, aim, .. } => updates.push((name, aim)),
                Step::Tell { waiter, result } => self.told.push((waiter, result)),
                Step::Warn(_) => self.warned += 1,
            }
        }
        updates
    }

    /// Goes on to the next thing that is due; how long that was.
    fn next(&mut self) -> Duration {
        let before = self.now;
        self.now = self.registrar.next().expect("something is due");
        self.registrar.handle_timeout(self.now, &mut self.rng);
        self.now - before
    }

    fn end(&mut self, of: &str, result: Result<(), Trouble>) {
        let updated = Updated { result, server: "10.0.0.53:53".into() };
        self.registrar.updated(self.now, &mut self.rng, &name(of), updated);
    }

    fn publish(&mut self, what: &str, waiter: Option<u64>) {
        self.registrar.publish(self.now, &name(what), &format!("{what}.z"), waiter.map(Waiter));
    }

    fn state(&self, of: &str) -> &'static str {
        self.registrar.standing(self.now, &name(of)).map_or("none", |standing| standing.state)
    }
}

#[test]
fn a_record_is_refreshed_three_times_a_lifetime() {
    let mut calendar = Calendar::new();
    calendar.publish("echo", Some(1));
    for _ in 0..4 {
        assert_eq!(calendar.updates(), [(name("echo"), Aim::Publish)]);
        calendar.end("echo", Ok(()));
        assert_eq!(calendar.state("echo"), "published");
        let pause = calendar.next();
        assert!((270..=330).contains(&pause.as_secs()), "{pause:?}");
    }
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Publish)]);
    calendar.end("echo", Ok(()));
    // Told again, as after a restart of irmd: it stands there.
    calendar.publish("echo", None);
    calendar.publish("echo", Some(2));
    assert!(calendar.updates().is_empty());
    assert_eq!(calendar.told, [(Waiter(1), Ok(())), (Waiter(2), Ok(()))]);
}

#[test]
fn what_fails_is_tried_again_ever_more_slowly_and_warned_of_once() {
    let mut calendar = Calendar::new();
    calendar.publish("echo", Some(1));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(calendar.updates().len(), 1);
        calendar.end("echo", Err(Trouble::Refused));
        assert_eq!(calendar.state("echo"), "failing");
        calendar.updates();
        pauses.push(calendar.next().as_millis());
    }
    let doubled = [1, 2, 4, 8, 16, 32, 60, 60, 60];
    for (pause, want) in pauses.iter().zip(doubled) {
        assert!((want * 900..=want * 1100).contains(pause), "{pauses:?}");
    }
    assert_eq!((calendar.warned, calendar.told.len()), (1, 1));
    let failure = calendar.told[0].1.clone().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::DirectoryFailed);
    assert!(failure.message.contains("REFUSED") && failure.message.contains("tried again"), "{failure}");
    // Who mended it asks by hand: at once, not in a minute.
    calendar.updates();
    calendar.end("echo", Err(Trouble::NoAnswer));
    calendar.publish("echo", Some(2));
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Publish)]);
    calendar.end("echo", Ok(()));
    calendar.updates();
    assert_eq!(calendar.told[1], (Waiter(2), Ok(())));
}

#[test]
fn a_caller_does_not_wait_for_ever() {
    let mut calendar = Calendar::new();
    calendar.publish("echo", Some(1));
    assert_eq!(calendar.updates().len(), 1);
    assert_eq!(calendar.next(), Duration::from_secs(4));
    assert!(calendar.updates().is_empty());
    assert_eq!(calendar.told[0].1.as_ref().unwrap_err().kind(), FailureKind::DirectoryFailed);
    // An update of which nothing is ever heard is tried again.
    assert_eq!(calendar.next(), Duration::from_secs(26));
    assert_eq!(calendar.state("echo"), "failing");
    calendar.next();
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Publish)]);
}

#[test]
fn a_name_that_goes_is_taken_out() {
    let mut calendar = Calendar::new();
    // Before it was in: what is under way ends first.
    calendar.publish("echo", Some(1));
    calendar.updates();
    assert!(calendar.registrar.withdraw(calendar.now, &name("echo"), Some(Waiter(2))));
    assert_eq!(calendar.state("echo"), "withdrawing");
    assert!(calendar.updates().is_empty());
    assert_eq!(calendar.told[0].1.as_ref().unwrap_err().kind(), FailureKind::NotFound);
    calendar.end("echo", Ok(()));
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Withdraw)]);
    calendar.end("echo", Ok(()));
    calendar.updates();
    assert_eq!(calendar.told[1], (Waiter(2), Ok(())));
    assert!(calendar.registrar.is_idle() && calendar.registrar.next().is_none());
    assert!(!calendar.registrar.withdraw(calendar.now, &name("echo"), None));

    // The server is away: tried until the record is void by itself.
    calendar.publish("echo", None);
    calendar.updates();
    calendar.end("echo", Ok(()));
    let since = calendar.now;
    calendar.registrar.withdraw(calendar.now, &name("echo"), None);
    let mut tries = 0;
    while !calendar.registrar.is_idle() {
        assert_eq!(calendar.updates(), [(name("echo"), Aim::Withdraw)]);
        calendar.end("echo", Err(Trouble::NoAnswer));
        calendar.updates();
        tries += 1;
        if calendar.registrar.next().is_some() {
            calendar.next();
        }
    }
    let took = calendar.now - since;
    assert!(tries > 10 && took >= Duration::from_secs(900) && took < Duration::from_secs(970), "{tries} in {took:?}");
}

#[test]
fn a_name_that_comes_back_while_it_goes_stays() {
    let mut calendar = Calendar::new();
    calendar.publish("echo", None);
    calendar.updates();
    calendar.end("echo", Ok(()));
    calendar.registrar.withdraw(calendar.now, &name("echo"), None);
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Withdraw)]);
    calendar.publish("echo", Some(1));
    calendar.end("echo", Ok(()));
    assert_eq!(calendar.updates(), [(name("echo"), Aim::Publish)]);
    calendar.end("echo", Ok(()));
    calendar.updates();
    assert_eq!(calendar.told, [(Waiter(1), Ok(()))]);
    assert_eq!(calendar.state("echo"), "published");
}

#[test]
fn thousands_of_names_do_not_flood_the_server_and_a_stop_takes_all_out() {
    let mut calendar = Calendar::new();
    let names: Vec<String> = (0..1_000).map(|n| format!("n{n}")).collect();
    for name in &names {
        calendar.publish(name, None);
    }
    let mut under_way = calendar.updates();
    let mut done = 0;
    while let Some((name, aim)) = under_way.pop() {
        assert!(under_way.len() < 8 && aim == Aim::Publish);
        done += 1;
        calendar.end(name.as_str(), Ok(()));
        under_way.extend(calendar.updates());
    }
    assert_eq!(done, 1_000);
    calendar.registrar.stop(calendar.now);
    let mut under_way = calendar.updates();
    while let Some((name, aim)) = under_way.pop() {
        assert_eq!(aim, Aim::Withdraw);
        // Tried once each, with or without success.
        calendar.end(name.as_str(), Err(Trouble::NoAnswer));
        under_way.extend(calendar.updates());
    }
    assert!(calendar.registrar.is_idle());
}

#[test]
fn what_changed_is_written_anew_at_once_and_once() {
    let mut calendar = Calendar::new();
    calendar.publish("a", None);
    calendar.publish("b", None);
    calendar.publish("c", None);
    calendar.registrar.withdraw(calendar.now, &name("c"), None);
    assert_eq!(calendar.updates().len(), 3);
    calendar.end("a", Ok(()));
    calendar.end("c", Ok(()));
    assert_eq!(calendar.updates(), [(name("c"), Aim::Withdraw)]);
    // One stands there, of one an update is under way that says what was, one leaves.
    calendar.registrar.renew(calendar.now);
    assert_eq!(calendar.updates(), [(name("a"), Aim::Publish)]);
    calendar.end("b", Ok(()));
    assert_eq!(calendar.updates(), [(name("b"), Aim::Publish)]);
    for of in ["a", "b"] {
        calendar.end(of, Ok(()));
        assert_eq!(calendar.state(of), "published");
    }
    calendar.end("c", Ok(()));
    assert_eq!(calendar.state("c"), "none");
    let pause = calendar.next();
    assert!(pause.as_secs() >= 270 && calendar.updates().len() == 1, "{pause:?}");
}
