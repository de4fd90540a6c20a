//! What Flowring's processes and hosts **say** to each other.
//!
//! This crate holds the protobuf services and the datagram codecs. It contains no networking code, takes no
//! time from the operating system and decides nothing: bytes and messages in, values out.
//!
//! * [`v1`]: the messages and services of `schema/`, generated.
//! * [`calls`]: which of them travel in streams, many calls in one.
//! * [`shim`]: allocation and control datagrams between two hosts.
//! * [`rendezvous`]: what members of a session, their server and each other say, to get through NATs.
//! * [`forward`]: what two port forwarders say at the beginning of a stream.
//! * [`handoff`]: packets between a program and a daemon on the hand-over socket.
//! * [`Name`], [`FlowId`], [`WireId`], [`Token`], …: the nouns, as types.

mod counts;
mod failure;
mod id;
mod name;
mod qos;
mod run_dir;
mod words;

pub mod calls;
pub mod forward;
pub mod handoff;
pub mod rendezvous;
pub mod shim;

pub use counts::Count;
pub use id::{BootId, FlowId, HostId, Token, WireId};
pub use name::{Name, NameError};
pub use qos::{Cube, NoSuchCube, Qos};
pub use run_dir::{RunDir, RunDirError};

/// The generated messages, clients and servers of protocol version 1.
#[expect(missing_docs, reason = "generated; the schema carries the comments")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("flowring.v1");
}

/// The version said in every first message between processes. Two processes of different versions refuse each
/// other, naming both.
pub const PROTOCOL_VERSION: u32 = 1;

/// The version that this process says: [`PROTOCOL_VERSION`]. In debug builds `FLOWRING_TEST_PROTOCOL_VERSION` takes its
/// place, so that tests have daemons and programs of another version without a second build; release builds never look.
pub fn protocol_version() -> u32 {
    #[cfg(debug_assertions)]
    {
        static SAID: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
            let said = std::env::var("FLOWRING_TEST_PROTOCOL_VERSION").ok().and_then(|text| text.parse().ok());
            said.unwrap_or(PROTOCOL_VERSION)
        });
        *SAID
    }
    #[cfg(not(debug_assertions))]
    PROTOCOL_VERSION
}

/// The first `longest` bytes of a text, or a little less where a character would be cut.
pub fn clip(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Longest gRPC message either side takes, bytes. Listings stream, so no message grows with their length.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Names in one message: more that begin alike are not told.
pub const MOST_NAMES: usize = 256;
