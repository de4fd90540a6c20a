//! One statistics slot: 64 bytes, one cache line, eight native-endian `u64`:
//!
//! | word | counts |
//! |---|---|
//! | 0 | SDUs sent |
//! | 1 | bytes sent |
//! | 2 | SDUs received |
//! | 3 | bytes received |
//! | 4 | sends that failed |
//! | 5 | receives that failed |
//! | 6, 7 | zero; for later use |

/// Size of a slot, bytes.
pub const SLOT_BYTES: usize = 64;
