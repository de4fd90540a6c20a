//! Tests that play many lives, each of its own seed: on all cores, so many as the environment says, and any of them again.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lives gone wrong on one thread, after which it stops.
const ENOUGH: usize = 10;

/// Plays `life` for each seed below `count`, or below `$FLOWRING_SIM_LIVES`; with `$FLOWRING_SIM_SEED` for that one alone. `test`:
/// the command that plays them, for people.
///
/// # Panics
/// With the first seed that went wrong, once all were played; each that did is a line on standard error.
pub fn play(test: &str, count: u64, life: impl Fn(u64) -> Result<(), String> + Sync) {
    let seeds = match number("FLOWRING_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLOWRING_SIM_LIVES").unwrap_or(count),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wrong: Vec<(u64, String)> = std::thread::scope(|scope| {
        let each = |n: usize| {
            let (seeds, life) = (seeds.clone().skip(n).step_by(threads), &life);
            scope.spawn(move || some(seeds, life))
        };
        let players: Vec<_> = (0..threads).map(each).collect();
        players.into_iter().flat_map(|player| player.join().expect("panics are caught")).collect()
    });
    wrong.sort_unstable();
    for (seed, what) in &wrong {
        eprintln!("FLOWRING_SIM_SEED={seed} {test} plays this again: {what}");
    }
    assert!(wrong.is_empty(), "of {} lives, seed {} went wrong", seeds.end - seeds.start, wrong[0].0);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// The seeds that go wrong, and what is wrong with them.
fn some(seeds: impl Iterator<Item = u64>, life: impl Fn(u64) -> Result<(), String>) -> Vec<(u64, String)> {
    let wrong = seeds.filter_map(|seed| {
        let result = catch_unwind(AssertUnwindSafe(|| life(seed)));
        let what = result.unwrap_or_else(|_| Err("a panic, see above".to_owned())).err()?;
        Some((seed, what))
    });
    wrong.take(ENOUGH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_is_found_and_the_rest_is_played() {
        let life = |seed| if seed == 7 { panic!("on purpose") } else { Ok(()) };
        assert_eq!(some(0..20, life), [(7, "a panic, see above".to_owned())]);
        assert_eq!(some(0..40, |_| Err("bad".into())).len(), ENOUGH);
        assert_eq!(some(0..40, |_| Ok(())), []);
    }
}
