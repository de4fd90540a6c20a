//! The first bytes of a frame, before the chunk it carries.

use std::ops::Deref;

/// Bytes of the longest.
pub const MAX_HEAD: usize = 25;

/// So few bytes that they need no allocation of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; MAX_HEAD],
    len: usize,
}

impl Head {
    /// Parts, one behind the other. What is longer than [`MAX_HEAD`] is cut off.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut head = Self::default();
        for (place, byte) in head.bytes.iter_mut().zip(parts.iter().flat_map(|part| part.iter())) {
            *place = *byte;
            head.len += 1;
        }
        head
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
