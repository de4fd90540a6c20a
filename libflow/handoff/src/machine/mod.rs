//! What is decided: who may take which flow, and what each program is told. Contains no socket and no clock.

mod carried;
mod effect;
pub(crate) mod epoch;
mod failures;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod program;
pub(crate) mod seal;
mod slots;
mod tokens;

pub(crate) use effect::{Effect, LeaseId, Told};
pub(crate) use ledger::{Ledger, Limits};
pub(crate) use tokens::Offered;
