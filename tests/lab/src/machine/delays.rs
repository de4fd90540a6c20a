//! What is under way: things that leave at their time, those of one time in the order in which they came.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Things of type `T`, each with the time at which it leaves. Bounded by the bytes that they are said to have.
#[derive(Debug)]
pub(crate) struct Delays<T> {
    heap: BinaryHeap<Entry<T>>,
    pushed: u64,
    bytes: usize,
    room: usize,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    bytes: usize,
    thing: T,
}

impl<T> Delays<T> {
    /// Room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0, bytes: 0, room }
    }

    /// Takes a thing that leaves `at`; gives it back where there is no room.
    pub(crate) fn push(&mut self, at: Instant, bytes: usize, thing: T) -> Result<(), T> {
        if self.bytes + bytes > self.room {
            return Err(thing);
        }
        self.bytes += bytes;
        self.heap.push(Entry { at, number: self.pushed, bytes, thing });
        self.pushed += 1;
        Ok(())
    }

    /// The next thing whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let entry = self.heap.pop()?;
        self.bytes -= entry.bytes;
        Some(entry.thing)
    }

    /// When the next thing leaves.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Forgets all; how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.heap.len();
        self.heap.clear();
        self.bytes = 0;
        count
    }
}

// The heap's greatest is the one that leaves first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_leave_at_their_time_and_in_their_order() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut delays = Delays::new(100);
        for (at, thing) in [(3, "late"), (1, "first"), (1, "second"), (2, "third")] {
            delays.push(ms(at), 1, thing).unwrap();
        }
        assert_eq!(delays.next(), Some(ms(1)));
        assert_eq!(delays.pop(ms(0)), None);
        let left: Vec<_> = std::iter::from_fn(|| delays.pop(ms(2))).collect();
        assert_eq!(left, ["first", "second", "third"]);
        assert_eq!((delays.pop(ms(3)), delays.next()), (Some("late"), None));
    }

    #[test]
    fn there_is_a_bound_and_what_leaves_makes_room() {
        let now = Instant::now();
        let mut delays = Delays::new(10);
        assert_eq!(delays.push(now, 6, 'a'), Ok(()));
        assert_eq!(delays.push(now, 6, 'b'), Err('b'));
        assert_eq!(delays.pop(now), Some('a'));
        assert_eq!(delays.push(now, 6, 'b'), Ok(()));
        assert_eq!(delays.clear(), 1);
        assert_eq!(delays.push(now, 10, 'c'), Ok(()));
    }
}
