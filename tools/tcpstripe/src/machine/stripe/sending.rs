//! What this end sends: bytes of the local side, cut to chunks, kept until the peer has them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::machine::Broken;

/// Bytes taken from the local side and not yet given to a track.
const AHEAD: u64 = 256 << 10;

/// The outgoing stream.
#[derive(Debug)]
pub(super) struct Sending {
    fresh: VecDeque<Bytes>,
    /// Where in the stream the first fresh byte is.
    offset: u64,
    /// Bytes taken.
    pub(super) taken: u64,
    pub(super) ended: bool,
    /// All before it has come, says the peer.
    base: u64,
    /// How far the peer lets us go.
    limit: u64,
    /// Chunks to be sent again: their track died or stalls.
    again: BTreeMap<u64, Bytes>,
    pub(super) sent_again: u64,
}

impl Sending {
    /// At first `limit` bytes may go out.
    pub(super) fn new(limit: u64) -> Self {
        let (fresh, again) = (VecDeque::new(), BTreeMap::new());
        Self { fresh, offset: 0, taken: 0, ended: false, base: 0, limit, again, sent_again: 0 }
    }

    /// How many bytes from the local side are wanted.
    pub(super) fn room(&self) -> u64 {
        if self.ended {
            return 0;
        }
        let ahead = self.taken - self.offset;
        // Also no more than may go out: what has no credit is better kept by who wrote it.
        AHEAD.saturating_sub(ahead).min(self.limit.saturating_sub(self.taken))
    }

    pub(super) fn take(&mut self, bytes: Bytes) {
        self.taken += bytes.len() as u64;
        self.fresh.push_back(bytes);
    }

    /// The length of the stream once it has ended and all of it has been given to tracks.
    pub(super) fn end(&self) -> Option<u64> {
        (self.ended && self.fresh.is_empty() && self.again.is_empty()).then_some(self.taken)
    }

    /// The peer has all of it and knows that it is all.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.base == self.taken + 1
    }

    /// The peer has so much, and takes so much.
    pub(super) fn acknowledged(&mut self, received: u64, limit: u64) -> Result<(), Broken> {
        let most = if self.ended { self.taken + 1 } else { self.offset };
        if received > most {
            return Err(Broken(format!("{received} bytes were acknowledged of {most}")));
        }
        self.base = self.base.max(received);
        self.limit = self.limit.max(limit);
        self.again = self.again.split_off(&self.oldest_needed());
        Ok(())
    }

    /// Chunks are acknowledged whole or not at all, but `received` may lie within one: that is needed still.
    fn oldest_needed(&self) -> u64 {
        let before = self.again.range(..self.base).next_back();
        before
            .filter(|(offset, bytes)| *offset + bytes.len() as u64 > self.base)
            .map_or(self.base, |(offset, _)| *offset)
    }

    /// Whether the peer lacks some of a chunk.
    pub(super) fn is_needed(&self, offset: u64, len: usize) -> bool {
        offset + len as u64 > self.base
    }

    /// A chunk whose track does not bring it.
    pub(super) fn send_again(&mut self, offset: u64, bytes: Bytes) {
        if self.is_needed(offset, bytes.len()) {
            self.again.insert(offset, bytes);
        }
    }

    pub(super) fn has_chunk(&self) -> bool {
        !self.again.is_empty() || !self.fresh.is_empty()
    }

    /// The next chunk, at most `size` bytes unless it was cut before.
    pub(super) fn chunk(&mut self, size: usize) -> Option<(u64, Bytes)> {
        if let Some((offset, bytes)) = self.again.pop_first() {
            self.sent_again += bytes.len() as u64;
            return Some((offset, bytes));
        }
        let first = self.fresh.front_mut()?;
        let chunk = first.split_to(size.clamp(1, first.len()));
        if first.is_empty() {
            self.fresh.pop_front();
        }
        let offset = self.offset;
        self.offset += chunk.len() as u64;
        Some((offset, chunk))
    }

    /// Nothing goes out any more.
    pub(super) fn forget(&mut self) {
        self.ended = true;
        self.fresh.clear();
        self.again.clear();
    }
}
