//! Buffers of datagrams that wait, used again and again.

/// The longest that is kept; longer ones are rare.
const LONG: usize = 2048;
/// How many are kept: what a thousand players have waiting at 100 datagrams a second and 40 ms.
const KEPT: usize = 4096;

/// Bytes of buffers in use at most: what waits of all players together, whatever they send and however long it is delayed.
const MOST: usize = 64 << 20;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
    /// Bytes of those that are in use.
    used: usize,
}

impl Pool {
    /// Whether so many bytes may be in use in addition.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used + size(bytes) <= MOST
    }

    /// A buffer with these bytes; `None`: too much is in use.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.has_room(bytes.len()) {
            return None;
        }
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.reserve(size(bytes.len()));
        buffer.extend_from_slice(bytes);
        self.used += buffer.capacity();
        Some(buffer)
    }

    /// Nobody uses it any more.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        self.used = self.used.saturating_sub(buffer.capacity());
        if self.free.len() < KEPT && buffer.capacity() <= LONG {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

/// A buffer's size: a power of two, so that it fits the next datagram, too.
fn size(bytes: usize) -> usize {
    bytes.next_power_of_two().max(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_are_bounded() {
        let mut pool = Pool::default();
        let buffer = pool.take(b"abc").unwrap();
        assert_eq!(buffer, b"abc");
        let place = buffer.as_ptr();
        pool.give(buffer);
        let again = pool.take(b"d").unwrap();
        assert_eq!((again.as_slice(), again.as_ptr()), (&b"d"[..], place));
        pool.give(vec![0; 60_000]);
        assert!(pool.is_empty(), "too long to be kept");
        (0..KEPT + 10).for_each(|_| pool.give(Vec::new()));
        assert_eq!(pool.len(), KEPT);
    }

    #[test]
    fn no_more_is_in_use_than_may_be() {
        let (mut pool, data) = (Pool::default(), vec![7; 60_000]);
        let taken: Vec<Vec<u8>> = std::iter::from_fn(|| pool.take(&data)).take(100_000).collect();
        let bytes: usize = taken.iter().map(Vec::capacity).sum();
        assert!(bytes <= MOST && bytes + 2 * data.len() > MOST, "{bytes}");
        assert!(!pool.has_room(data.len()));
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.used == 0 && pool.take(&data).is_some());
    }
}
