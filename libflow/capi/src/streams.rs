//! Streams of `flowring.h`: plain descriptors, and how they ended.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use libflow::blocking::{Flow, Stream};
use libflow::{Bridge, Ends, Reason};

use crate::error::{ETIMEDOUT, Failed, stream_ended, stream_failed};

/// By descriptor. One that the program closed stays until its number comes again, so there are no more than descriptors.
static BRIDGES: RwLock<BTreeMap<c_int, Bridge>> = RwLock::new(BTreeMap::new());

pub(crate) fn open(flow: &Flow) -> Result<c_int, Failed> {
    descriptor(flow.open_stream().map_err(|error| stream_failed(&error))?)
}

pub(crate) fn accept(flow: &Flow, within: Option<Duration>) -> Result<c_int, Failed> {
    let accepted = match within {
        None => flow.accept_stream().map(Some),
        Some(within) => flow.accept_stream_within(within),
    };
    match accepted.map_err(|error| stream_failed(&error))? {
        Some(stream) => descriptor(stream),
        None => Err(Failed { code: ETIMEDOUT, text: "the peer opened no stream in time".into() }),
    }
}

fn descriptor(stream: Stream) -> Result<c_int, Failed> {
    let (fd, bridge) = stream.into_fd().map_err(|error| stream_failed(&error))?;
    BRIDGES.write().unwrap_or_else(PoisonError::into_inner).insert(fd.as_raw_fd(), bridge);
    Ok(fd.into_raw_fd())
}

fn bridge(fd: c_int) -> Result<Bridge, Failed> {
    let bridge = BRIDGES.read().unwrap_or_else(PoisonError::into_inner).get(&fd).cloned();
    bridge.ok_or_else(|| crate::handle::unknown(fd))
}

/// Whether a direction has ended otherwise than well: the first that has.
pub(crate) fn status(fd: c_int) -> Result<c_int, Failed> {
    let Ends { received, sent } = bridge(fd)?.why();
    for end in [received, sent] {
        if let Some(Err(error)) = end {
            return Err(stream_ended(&error));
        }
    }
    Ok(0)
}

pub(crate) fn reset(fd: c_int, reason: u32) -> Result<c_int, Failed> {
    bridge(fd)?.reset(Reason(reason));
    Ok(0)
}
