//! What travels with the allocation of a track's flow: which group it is for.
//!
//! Six bytes `tcpst` and the version 1, the group (64 bits), how many tracks there are to be (16), which of them this is
//! (16), the asking side's window (32), all in network order, and a byte: 0 if the group may be new, 1 if it must be there. What
//! follows is for later versions and ignored.

/// What every such text begins with.
const MAGIC: [u8; 6] = *b"tcpst\x01";
/// Bytes of it.
pub const LENGTH: usize = 23;

/// A group's number: random, so that nobody guesses it. It counts together with who the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// A flow asks to be a track of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Of this one. The first track that comes makes it.
    pub group: GroupId,
    /// How many the proxy opens.
    pub tracks: u16,
    /// Which of them this is; a replacement has the number of what it replaces.
    pub track: u16,
    /// Bytes that the relay may send before it is told otherwise.
    pub window: u32,
    /// The group is there already: a relay that does not know it must not make it anew.
    pub again: bool,
}

/// It is not asked for as a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this name takes tracks of tcpstripe, version 1; ask with tcpstripe proxy")]
pub struct NoJoin;

impl Join {
    /// As bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.group.0.to_be_bytes());
        bytes.extend(self.tracks.to_be_bytes());
        bytes.extend(self.track.to_be_bytes());
        bytes.extend(self.window.to_be_bytes());
        bytes.push(self.again.into());
        bytes
    }

    /// And back.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoJoin> {
        let read = || {
            let rest = bytes.strip_prefix(&MAGIC)?;
            let (group, rest) = rest.split_first_chunk()?;
            let (tracks, rest) = rest.split_first_chunk()?;
            let (track, rest) = rest.split_first_chunk()?;
            let (window, rest) = rest.split_first_chunk()?;
            Some(Self {
                group: GroupId(u64::from_be_bytes(*group)),
                tracks: u16::from_be_bytes(*tracks),
                track: u16::from_be_bytes(*track),
                window: u32::from_be_bytes(*window),
                again: *rest.first()? != 0,
            })
        };
        read().filter(|join| join.track < join.tracks).ok_or(NoJoin)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_of_a_join() {
        let join = Join { group: GroupId(0x0102), tracks: 8, track: 3, window: 65_536, again: false };
        let written: String = join.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, "7463707374010000000000000102000800030001000000");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(group: u64, tracks in 1..=u16::MAX, track: u16, window: u32, again: bool, more: Vec<u8>) {
            let join = Join { group: GroupId(group), tracks, track: track % tracks, window, again };
            let mut bytes = join.encode();
            prop_assert_eq!(bytes.len(), LENGTH);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Join::decode(&bytes[..cut]), Err(NoJoin));
            }
            bytes.extend(more);
            prop_assert_eq!(Join::decode(&bytes), Ok(join));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Join::decode(&bytes);
        }
    }
}
