//! Codes and sentences for C.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libflow::{AcceptError, AllocError, FlowError, ListenError};

/// A code of `enum flow_error`, with its sentence.
pub(crate) struct Failed {
    pub(crate) code: c_int,
    pub(crate) text: String,
}

pub(crate) const EHANDLE: c_int = -1;
pub(crate) const EINVAL: c_int = -2;
const EUNKNOWN: c_int = -3;
const EREFUSED: c_int = -4;
const ENOBODY: c_int = -5;
pub(crate) const ETIMEDOUT: c_int = -6;
const EUNREACHABLE: c_int = -7;
const EPERM: c_int = -8;
const EGONE: c_int = -9;
const ETOOLONG: c_int = -10;
const ETRUNCATED: c_int = -11;
pub(crate) const EEXHAUSTED: c_int = -12;
const EUNSUPPORTED: c_int = -13;
pub(crate) const EFAILED: c_int = -14;
const EDIRECTORY: c_int = -15;
const EUNTRUSTED: c_int = -16;
const EHANDSHAKE: c_int = -17;
const ESTREAM: c_int = -18;

/// In the order of the codes, from -1 down.
const WORDS: [&CStr; 18] = [
    c"no such flow or listener",
    c"invalid argument",
    c"unknown name",
    c"refused by the program",
    c"nobody accepts",
    c"timed out",
    c"irmd or an IPC process is not running",
    c"not permitted",
    c"the flow is gone",
    c"the SDU is too long",
    c"the SDU did not fit the buffer",
    c"descriptors or a quota ran out",
    c"unsupported quality of service or layer",
    c"failed",
    c"the directory could not be asked",
    c"the peer is not trusted",
    c"the handshake failed",
    c"the stream ended before its time",
];

pub(crate) fn words(code: c_int) -> &'static CStr {
    let index = code.checked_add(1).and_then(|code| usize::try_from(code.unsigned_abs()).ok());
    match index.filter(|_| code < 0).and_then(|index| WORDS.get(index)) {
        Some(words) => words,
        None if code >= 0 => c"no error",
        None => c"unknown error code",
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The sentence of this thread's last failure; valid until the next one.
pub(crate) fn last() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs a call of C's: its number, or the code of what failed.
pub(crate) fn guard<N: From<i8> + TryFrom<i64>>(call: impl FnOnce() -> Result<N, Failed>) -> N {
    let failed = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(number)) => return number,
        Ok(Err(failed)) => failed,
        Err(_) => Failed { code: EFAILED, text: "libflow failed inside; this is a bug in it".into() },
    };
    let text = CString::new(failed.text.replace('\0', "?")).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    let _ = LAST.try_with(|last| last.replace(text));
    N::try_from(failed.code.into()).unwrap_or_else(|_| N::from(-1))
}

fn failed(code: c_int, error: &dyn std::fmt::Display) -> Failed {
    Failed { code, text: error.to_string() }
}

impl From<AllocError> for Failed {
    fn from(error: AllocError) -> Self {
        let code = match &error {
            AllocError::UnknownName { .. } => EUNKNOWN,
            AllocError::Refused { .. } => EREFUSED,
            AllocError::NobodyAccepts { .. } => ENOBODY,
            AllocError::TimedOut { .. } => ETIMEDOUT,
            AllocError::DirectoryFailed { .. } => EDIRECTORY,
            AllocError::IrmdUnreachable(_) | AllocError::HandoverUnreachable(_) | AllocError::IpcpDown { .. } => {
                EUNREACHABLE
            }
            AllocError::NotPermitted { .. } => EPERM,
            AllocError::UnsupportedQos { .. } | AllocError::NoSuchLayer { .. } => EUNSUPPORTED,
            AllocError::Exhausted { .. } => EEXHAUSTED,
            AllocError::Untrusted { .. } => EUNTRUSTED,
            AllocError::Handshake { .. } => EHANDSHAKE,
            AllocError::Invalid { .. } => EINVAL,
            AllocError::Failed { .. } => EFAILED,
        };
        failed(code, &error)
    }
}

impl From<ListenError> for Failed {
    fn from(error: ListenError) -> Self {
        let code = match &error {
            ListenError::IrmdUnreachable(_) => EUNREACHABLE,
            ListenError::NotPermitted { .. } => EPERM,
            ListenError::NoSuchLayer { .. } => EUNSUPPORTED,
            ListenError::UnknownName { .. } => EUNKNOWN,
            ListenError::Invalid { .. } => EINVAL,
            ListenError::Failed { .. } => EFAILED,
        };
        failed(code, &error)
    }
}

impl From<AcceptError> for Failed {
    fn from(error: AcceptError) -> Self {
        let code = match &error {
            AcceptError::TimedOut(_) => ETIMEDOUT,
            AcceptError::Gone { .. } => EGONE,
            AcceptError::IrmdUnreachable(_) | AcceptError::HandoverUnreachable(_) => EUNREACHABLE,
            AcceptError::NotPermitted { .. } => EPERM,
            AcceptError::Exhausted { .. } => EEXHAUSTED,
            AcceptError::Failed { .. } => EFAILED,
        };
        failed(code, &error)
    }
}

impl From<FlowError> for Failed {
    fn from(error: FlowError) -> Self {
        let code = match &error {
            FlowError::Gone(_) => EGONE,
            FlowError::Empty => EINVAL,
            FlowError::TooLong { .. } => ETOOLONG,
            FlowError::Truncated { .. } => ETRUNCATED,
            FlowError::TimedOut(_) | FlowError::WouldBlock => ETIMEDOUT,
            FlowError::Io(_) => EFAILED,
        };
        failed(code, &error)
    }
}

/// A stream was not to be had.
pub(crate) fn stream_failed(error: &impl std::fmt::Display) -> Failed {
    failed(EFAILED, error)
}

/// A stream ended before its time.
pub(crate) fn stream_ended(error: &libflow::StreamError) -> Failed {
    failed(ESTREAM, error)
}
