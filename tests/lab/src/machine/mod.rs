//! What a link does to each frame and what a middlebox lets through: decided here, done in `io/`.

// The crate is all doing but for this folder; its tests need a time to begin at.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub(crate) mod delays;
pub(crate) mod lane;
pub(crate) mod link;
pub(crate) mod link_text;
pub(crate) mod middlebox;
pub(crate) mod ruleset;
pub(crate) mod wire;

#[cfg(test)]
mod link_props;
