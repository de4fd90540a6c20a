//! The real daemons and tools on hosts made of network namespaces, end to end. Each case is a story and is named after
//! what it shows.

mod alloc;
mod capture;
mod classic;
mod daemons;
mod dns;
mod doctor;
mod faces;
mod failure;
mod flood;
mod flowcat;
mod flowtop;
mod forward;
mod forward_ops;
mod game;
mod game_rules;
mod hostile;
mod identity;
mod links;
mod load;
mod logs;
mod metrics;
mod middlebox;
mod on_path;
mod outlive;
mod programs;
mod rendezvous;
mod rendezvous_server;
mod rules;
mod see;
mod service;
mod stories;
mod streams;
mod stripe;
mod truth;
mod vanish;
mod versions;
mod who;
mod wire;

use std::process::ExitCode;

use flowring_tests::harness::{self, Needs};

fn main() -> ExitCode {
    harness::main(Needs::Hosts, stories::all())
}
