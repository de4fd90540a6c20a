//! What is written and what is said: rules, and the layout of what goes between the two sides.

pub mod frame;
pub mod rule;
