//! Runs cases in the lab, each as a test of its own for `cargo test` and for cargo-nextest.
//!
//! A case that needs network namespaces is *skipped* where this machine refuses them, and so is one that needs
//! middleboxes where `nft` is missing, or programs that are not installed: it is listed as ignored and a line on standard error names it and the reason. With
//! `CI=true` it fails instead: in CI nothing is skipped.

use std::process::ExitCode;
use std::sync::{OnceLock, PoisonError, RwLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// What a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Hosts that are network namespaces, and the daemons and tools.
    Hosts,
    /// Network namespaces only.
    Namespaces,
}

/// One test.
pub struct Case {
    /// What it shows, as a name.
    pub name: &'static str,
    /// The test; an error or a panic is a failure.
    pub run: fn() -> Result<()>,
    /// Whether it needs [middleboxes](lab::Middlebox), which are made with `nft`.
    pub middleboxes: bool,
    /// Programs of others that it needs.
    pub programs: &'static [&'static str],
}

/// Cases from functions, each named as its function; `middleboxes:` before them says that they need some, `programs
/// ["named"]:` that they need programs of others.
#[macro_export]
macro_rules! cases {
    (middleboxes: $($name:ident),* $(,)?) => { $crate::cases!(@ true, [], $($name),*) };
    (programs [$($program:literal),*]: $($name:ident),* $(,)?) => { $crate::cases!(@ false, [$($program),*], $($name),*) };
    (@ $middleboxes:literal, $programs:tt, $($name:ident),*) => {
        vec![$($crate::harness::Case {
            name: stringify!($name), run: $name, middleboxes: $middleboxes, programs: &$programs,
        }),*]
    };
    ($($name:ident),* $(,)?) => { $crate::cases!(@ false, [], $($name),*) };
}

/// What a case returns that needs something this machine has not got: a loud skip, in CI a failure.
pub fn lacks(case: &str, what: &str) -> Result<()> {
    anyhow::ensure!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI must not skip {case}, but {what}");
    eprintln!("SKIPPED {case}: {what}");
    Ok(())
}

static OTHER_USERS: OnceLock<bool> = OnceLock::new();

/// Whether the lab has more users than root: only where root runs the tests.
pub fn has_other_users() -> bool {
    OTHER_USERS.get().copied().unwrap_or(false)
}

/// The `main` of a file of cases (`harness = false` in Cargo.toml).
pub fn main(needs: Needs, cases: Vec<Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if needs == Needs::Hosts && arguments.test_threads.is_none() {
        // Stories between hosts wait for each other's answers most of the time.
        arguments.test_threads = std::thread::available_parallelism().ok().map(|cores| cores.get() + 1);
    }
    if needs == Needs::Hosts
        && !arguments.list
        && let Err(error) = lab::binaries::prepare(lab::binaries::Build::default())
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    // Also to list: whether a case is ignored is part of the list.
    let refused = match lab::enter() {
        Ok(inside) => {
            // Set once: `main` runs once.
            let _ = OTHER_USERS.set(!inside.user);
            None
        }
        Err(refused) => Some(format!("there are no namespaces: {refused}")),
    };
    let no_boxes = match &refused {
        None if cases.iter().any(|case| case.middleboxes) => {
            lab::probe_middleboxes().err().map(|error| format!("there are no middleboxes: {error:#}"))
        }
        _ => None,
    };
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    raise_descriptor_limit();
    let lacks = |case: &Case| {
        let missing = case.programs.iter().find(|program| crate::name_server::program(program).is_none());
        let missing = missing.map(|program| format!("{program} is not installed"));
        refused.clone().or(no_boxes.clone().filter(|_| case.middleboxes)).or(missing)
    };
    let trials = cases.into_iter().map(|case| trial(&case, lacks(&case).as_ref(), ci, arguments.list)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// `lacks`: what this machine has not got for the case.
fn trial(case: &Case, lacks: Option<&String>, ci: bool, list: bool) -> Trial {
    let run = case.run;
    let Some(lacks) = lacks else {
        let name = case.name;
        return Trial::test(name, move || beside_others(name, run));
    };
    if ci {
        let why = format!("CI must not skip this case, but {lacks}");
        return Trial::test(case.name, move || Err(Failed::from(why)));
    }
    if !list {
        eprintln!("SKIPPED {}: {lacks}", case.name);
    }
    let lacks = lacks.clone();
    Trial::test(case.name, || Err(Failed::from(lacks))).with_ignored_flag(true)
}

/// Held by all stories that run side by side, and by one alone.
static ALONE: RwLock<()> = RwLock::new(());

/// A story beside others that fails is told, and has a second chance alone: on a machine that others keep busy an answer
/// may be late by seconds, which is no fault of what is tested. What fails alone, too, fails.
fn beside_others(name: &str, run: fn() -> Result<()>) -> Result<(), Failed> {
    let first = {
        let _beside = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        match told(run) {
            Ok(()) => return Ok(()),
            Err(first) => first,
        }
    };
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    eprintln!("AGAIN {name}: failed beside other stories and runs alone now: {}", first.message().unwrap_or_default());
    told(run)
}

/// A failure is told with the ends of the logs of what ran.
fn told(run: fn() -> Result<()>) -> Result<(), Failed> {
    // The words of a case before on this thread are not this one's.
    lab::last_words();
    let failed = match std::panic::catch_unwind(run) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{error:?}"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or("panicked".into())
        }
    };
    Err(Failed::from(format!("{failed}\n\nlogs:\n{}", lab::last_words())))
}

/// Thousands of flows are thousands of descriptors, and processes inherit the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Not being able to is no failure: the case that needs them says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
