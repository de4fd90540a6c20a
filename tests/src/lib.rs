//! What the tests of the whole share: the rules of the source, and the harness that runs cases in the lab.

pub mod harness;
pub mod rules;
