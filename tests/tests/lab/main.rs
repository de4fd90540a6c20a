//! The lab itself: its hosts, links and middleboxes are what they are called, and nothing outlives it.

#![expect(clippy::disallowed_methods, reason = "probes of the lab's networks")]

mod ends;
mod hosts;
mod links;
mod middleboxes;

use std::process::ExitCode;

use flowring_tests::harness::{self, Needs};

fn main() -> ExitCode {
    if let Some(code) = ends::victim() {
        return code;
    }
    let cases = [ends::cases(), hosts::cases(), links::cases(), middleboxes::cases()];
    harness::main(Needs::Namespaces, cases.into_iter().flatten().collect())
}
