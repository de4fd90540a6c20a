//! What the tests of the whole share: the rules of the source, the stage of the end-to-end tests, scripted peers.

pub mod capture;
pub mod flows;
pub mod harness;
pub mod iperf3;
pub mod name_server;
pub mod net;
pub mod rules;
pub mod spoof;
pub mod terminal;
