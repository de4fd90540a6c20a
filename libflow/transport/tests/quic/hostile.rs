//! Strangers, noise, and peers that stall.
