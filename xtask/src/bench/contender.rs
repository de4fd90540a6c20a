//! Programs that are measured beside each other, and the rounds in which that is done.

use std::fmt::Debug;

use anyhow::{Context as _, Result};

use super::peers::installed;
use super::road::Road;

/// What one of them measured, by its name.
pub(crate) type Measured<F> = Vec<(&'static str, Vec<F>)>;

/// A program that does the job, set up on a stage; or none, or what is ours.
pub(crate) struct Contender<S> {
    pub(crate) name: &'static str,
    /// None of ours: what has to be installed.
    peer: Option<&'static str>,
    pub(crate) start: fn(&S) -> Result<Road>,
}

impl<S> Contender<S> {
    /// Ours, or none.
    pub(crate) fn own(name: &'static str, start: fn(&S) -> Result<Road>) -> Self {
        Self { name, peer: None, start }
    }

    /// What people use today, if `program` is installed.
    pub(crate) fn peer(name: &'static str, program: &'static str, start: fn(&S) -> Result<Road>) -> Self {
        Self { name, peer: Some(program), start }
    }

    pub(crate) fn is_peer(&self) -> bool {
        self.peer.is_some()
    }

    pub(crate) fn is_installed(&self) -> bool {
        self.peer.is_none_or(installed)
    }
}

/// Measures all of them, one after the other, in each round. A peer that cannot do it has no row: the others' figures stay.
pub(crate) fn measure<S, F: Debug>(
    stage: &S,
    contenders: &[Contender<S>],
    rounds: u32,
    one: impl Fn(&Road) -> Result<F>,
) -> Result<Measured<F>> {
    let mut all: Measured<F> = Vec::new();
    let mut failed = Vec::new();
    for round in 0..rounds {
        for contender in contenders.iter().filter(|contender| contender.is_installed()) {
            if failed.contains(&contender.name) {
                continue;
            }
            println!("{}: round {} of {rounds}", contender.name, round + 1);
            let figures = match (contender.start)(stage).and_then(|road| one(&road)).context(contender.name) {
                Err(error) if contender.is_peer() => {
                    println!("its row ends here: {error:#}");
                    failed.push(contender.name);
                    continue;
                }
                measured => measured?,
            };
            println!("  {figures:?}");
            match all.iter_mut().find(|(name, _)| *name == contender.name) {
                Some((_, rounds)) => rounds.push(figures),
                None => all.push((contender.name, vec![figures])),
            }
        }
    }
    // The columns compare round by round: who failed in one has none.
    all.retain(|(name, _)| !failed.contains(name));
    Ok(all)
}
