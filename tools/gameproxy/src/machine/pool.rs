//! Buffers of datagrams that wait, used again and again.

/// The longest that is kept; longer ones are rare.
const LONG: usize = 2048;
/// How many are kept: what a thousand players have waiting at 100 datagrams a second and 40 ms.
const KEPT: usize = 4096;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
}

impl Pool {
    /// A buffer with these bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        // Powers of two: the buffer fits the next one, too.
        buffer.reserve(bytes.len().next_power_of_two().max(256));
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Nobody uses it any more.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_are_bounded() {
        let mut pool = Pool::default();
        let buffer = pool.take(b"abc");
        assert_eq!(buffer, b"abc");
        let place = buffer.as_ptr();
        pool.give(buffer);
        let again = pool.take(b"d");
        assert_eq!((again.as_slice(), again.as_ptr()), (&b"d"[..], place));
        pool.give(vec![0; 60_000]);
        assert!(pool.is_empty(), "too long to be kept");
        (0..KEPT + 10).for_each(|_| pool.give(Vec::new()));
        assert_eq!(pool.len(), KEPT);
    }
}
