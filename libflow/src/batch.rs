//! Room for many SDUs, reused from one receive to the next.

use crate::io::syscalls::RECV_MANY;

/// Room per message: the longest local SDU; odd in cache lines, so that messages do not fight for the same sets.
const STRIDE: usize = 65_536 + 448;

/// A message of several SDUs and as many bytes is a long run.
const LONG_RUN: usize = 16_384;

/// SDUs that [`crate::Flow::recv_batch`] received together.
///
/// Make one and reuse it: its memory (1 MiB of addresses, touched as far as SDUs come) is kept.
///
/// ```
/// let batch = libflow::Batch::new();
/// assert_eq!(batch.iter().count(), 0);
/// ```
#[derive(Default)]
pub struct Batch {
    storage: Vec<u8>,
    spans: Vec<Span>,
    sdus: usize,
    bytes: usize,
    /// The kernel hands long runs of SDUs over as one message.
    coalesced: bool,
}

/// One message: SDUs of `segment` bytes, the last may be shorter.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
    segment: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of SDUs.
    pub fn len(&self) -> usize {
        self.sdus
    }

    /// True before the first receive.
    pub fn is_empty(&self) -> bool {
        self.sdus == 0
    }

    /// Bytes of all SDUs together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The SDUs, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().flat_map(|span| self.storage[span.start..span.start + span.len].chunks(span.segment))
    }

    /// Forgets the SDUs, keeps the memory.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.sdus = 0;
        self.bytes = 0;
    }

    /// How many messages to ask for: many where each brings one SDU, one where each brings dozens.
    pub(crate) fn width(&self) -> usize {
        if self.coalesced { 1 } else { RECV_MANY }
    }

    /// Memory for `messages` messages, and the room of each.
    pub(crate) fn storage(&mut self, messages: usize) -> (&mut [u8], usize) {
        self.clear();
        let bytes = messages.min(RECV_MANY) * STRIDE;
        if self.storage.len() < bytes {
            self.storage = vec![0; bytes];
        }
        (&mut self.storage[..bytes], STRIDE)
    }

    /// A message was received into its place.
    pub(crate) fn fill(&mut self, place: usize, len: usize, segment: usize) {
        self.coalesced = segment > 0 && len >= LONG_RUN;
        self.add(Span { start: place * STRIDE, len, segment: if segment == 0 { len } else { segment } });
    }

    fn add(&mut self, span: Span) {
        // An empty datagram is no SDU.
        if span.len == 0 {
            return;
        }
        self.sdus += span.len.div_ceil(span.segment);
        self.bytes += span.len;
        self.spans.push(span);
    }

    /// Forgets those SDUs of the last message that are not to be kept.
    pub(crate) fn retain_last(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let Some(&Span { start, len, segment }) = self.spans.last() else { return };
        if self.storage[start..start + len].chunks(segment).all(&keep) {
            return;
        }
        self.spans.pop();
        self.sdus -= len.div_ceil(segment);
        self.bytes -= len;
        for at in (start..start + len).step_by(segment) {
            let len = segment.min(start + len - at);
            if keep(&self.storage[at..at + len]) {
                self.add(Span { start: at, len, segment: len });
            }
        }
    }

    /// Copies an SDU to the end of a batch that has not been received into.
    pub(crate) fn push(&mut self, sdu: &[u8]) {
        let start = self.spans.last().map_or(0, |span| span.start + span.len);
        let end = start + sdu.len();
        if self.storage.len() < end {
            self.storage.resize(end, 0);
        }
        self.storage[start..end].copy_from_slice(sdu);
        self.add(Span { start, len: sdu.len(), segment: sdu.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_split_into_sdus() {
        let mut batch = Batch::new();
        let (storage, stride) = batch.storage(3);
        storage[..7].copy_from_slice(b"aabbccd");
        storage[2 * stride..2 * stride + 3].copy_from_slice(b"eee");
        batch.fill(0, 7, 2);
        batch.fill(1, 0, 0);
        batch.fill(2, 3, 0);
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"aa"[..], b"bb", b"cc", b"d", b"eee"]);
        assert_eq!((batch.len(), batch.bytes()), (5, 10));
        batch.storage(1).0[..7].copy_from_slice(b"aabbaad");
        batch.fill(0, 7, 2);
        batch.retain_last(|sdu| sdu != b"aa");
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"bb"[..], b"d"]);
        assert_eq!((batch.len(), batch.bytes()), (2, 3));
        batch.clear();
        batch.push(b"xy");
        batch.push(b"z");
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"xy"[..], b"z"]);
    }
}
