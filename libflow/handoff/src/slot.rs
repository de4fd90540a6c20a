//! The statistics memory of a lease: native-endian `u64` words, in two halves of as many slots each.
//!
//! The first half, one cache line of 64 bytes per slot:
//!
//! | word | counts |
//! |---|---|
//! | 0 | SDUs sent |
//! | 1 | bytes sent |
//! | 2 | SDUs received |
//! | 3 | bytes received |
//! | 4 | sends that failed |
//! | 5 | receives that failed |
//! | 6 | when something was sent last, ms of `CLOCK_MONOTONIC_COARSE`; 0: never |
//! | 7 | when something was received last, the same |
//!
//! The second half, 64 bytes per slot, is written by message and stream flows between hosts, a few times a second while
//! they carry something (what QUIC sees of its path; the words may be of two moments):
//!
//! | word | |
//! |---|---|
//! | 0 | smoothed round trip time, µs |
//! | 1 | congestion window, bytes |
//! | 2 | packets sent |
//! | 3 | packets lost |
//! | 4 | UDP payload bytes sent |
//! | 5 | UDP payload bytes received |
//! | 6 | UDP payload that the path carries, bytes |
//! | 7 | when they were written, as word 6 above; 0: never |
//!
//! Versions before 0.2 know the first half alone, with words 6 and 7 zero. A memory of that size, and a program that maps
//! no more, are fine: the second half is not there then.

/// Size of a slot in either half, bytes.
pub const SLOT_BYTES: usize = 64;
