//! What is decided: sessions, who is in them, who is introduced to whom, what is relayed. Datagrams and the time come in as
//! values, datagrams and events go out; nothing here has a clock, a socket or randomness of its own.

mod attempts;
pub mod backlog;
pub mod chat;
mod choosing;
mod cookie;
mod counts;
mod hygiene;
mod introducing;
mod joining;
mod list;
mod member;
pub mod metrics;
mod probing;
mod relay;
mod relaying;
mod report;
mod rules;
mod server;
mod session;
pub mod show;
mod timers;

#[cfg(test)]
mod tests;

pub use counts::{Counts, Reason};
pub use rules::{Limits, RelayRules, Rules, SessionRules};
pub use server::{Event, Introduced, Place, Role, Sending, Server, Via};
