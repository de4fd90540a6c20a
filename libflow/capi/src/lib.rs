//! The C face of libflow: `flowring.h` says what each call does.
//!
//! Handles are numbers into one table, so a C program cannot make us touch memory that is not ours by handing in a
//! stale one. No panic crosses into C.
#![expect(unsafe_code, reason = "C calls in with pointers")]

mod calls;
mod error;
mod handle;
mod streams;

pub use calls::*;
