//! The server by itself: members are written by hand, time is a number.
#![expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]

mod choosing;
mod hostile;
mod introductions;
mod members;
mod model;
mod noise;
mod relaying;
mod world;
