//! The functions of `flowring.h`.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use libflow::blocking::Stack;
use libflow::{Cube, Qos};

use crate::error::{self, EFAILED, EINVAL, Failed, guard};
use crate::handle::{self, Held};
use crate::streams;

/// `ssize_t`.
type Length = isize;

fn invalid(text: &str) -> Failed {
    Failed { code: EINVAL, text: text.into() }
}

/// # Safety
/// `name` is null or a NUL-terminated string that lives through the call.
unsafe fn text<'a>(name: *const c_char) -> Result<&'a str, Failed> {
    if name.is_null() {
        return Err(invalid("the name is a null pointer"));
    }
    // SAFETY: not null; the rest is the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_err(|_| invalid("the name is not UTF-8 text"))
}

fn stack() -> Result<Stack, Failed> {
    Stack::global().map_err(|error| Failed { code: EFAILED, text: error.to_string() })
}

fn within(timeout_ms: c_uint) -> Option<Duration> {
    (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()))
}

fn length(bytes: usize) -> Result<Length, Failed> {
    Length::try_from(bytes).map_err(|_| invalid("more bytes than a ssize_t counts"))
}

/// See `flowring.h`.
///
/// # Safety
/// `name` is null or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_alloc(name: *const c_char, timeout_ms: c_uint) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { alloc(name, Qos::raw(), timeout_ms) }
    })
}

/// See `flowring.h`.
///
/// # Safety
/// `name` is null or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_alloc_qos(name: *const c_char, qos: c_int, timeout_ms: c_uint) -> c_int {
    guard(|| {
        let cube = u8::try_from(qos).ok().and_then(Cube::from_code);
        let cube = cube.ok_or_else(|| invalid("the QoS is none of FLOW_RAW, FLOW_MESSAGE, FLOW_STREAM"))?;
        // SAFETY: the caller's promise.
        unsafe { alloc(name, cube.into(), timeout_ms) }
    })
}

/// # Safety
/// `name` is null or a NUL-terminated string.
unsafe fn alloc(name: *const c_char, qos: Qos, timeout_ms: c_uint) -> Result<c_int, Failed> {
    // SAFETY: the caller's promise.
    let mut alloc = stack()?.alloc(unsafe { text(name) }?).qos(qos);
    if let Some(within) = within(timeout_ms) {
        alloc = alloc.timeout(within);
    }
    handle::add(Held::Flow(Arc::new(alloc.wait()?)))
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_stream_open(flow: c_int) -> c_int {
    guard(|| streams::open(&*handle::flow(flow)?))
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_stream_accept(flow: c_int, timeout_ms: c_uint) -> c_int {
    guard(|| streams::accept(&*handle::flow(flow)?, within(timeout_ms)))
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_stream_status(fd: c_int) -> c_int {
    guard(|| streams::status(fd))
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_stream_reset(fd: c_int, reason: c_uint) -> c_int {
    guard(|| streams::reset(fd, reason))
}

/// See `flowring.h`.
///
/// # Safety
/// `name` is null or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_listen(name: *const c_char) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let listener = stack()?.listen(unsafe { text(name) }?).wait()?;
        handle::add(Held::Listener(Arc::new(listener)))
    })
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_accept(listener: c_int, timeout_ms: c_uint) -> c_int {
    guard(|| {
        let listener = handle::listener(listener)?;
        let flow = match within(timeout_ms) {
            Some(within) => listener.accept_within(within)?,
            None => listener.accept()?,
        };
        handle::add(Held::Flow(Arc::new(flow)))
    })
}

/// # Safety
/// `buffer` is null or has room for `size` bytes, which nobody else touches during the call.
unsafe fn read(flow: c_int, buffer: *mut c_void, size: usize, within: Option<Duration>) -> Result<Length, Failed> {
    let flow = handle::flow(flow)?;
    if buffer.is_null() || size > isize::MAX as usize {
        return Err(invalid("the buffer is a null pointer, or larger than memory"));
    }
    // SAFETY: not null, not too long; the rest is the caller's promise. Bytes have no invalid values, and the kernel
    // only writes.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size) };
    let received = match within {
        Some(within) => flow.recv_within(buffer, within)?,
        None => flow.recv(buffer)?,
    };
    length(received)
}

/// See `flowring.h`.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_read(flow: c_int, buffer: *mut c_void, size: usize) -> Length {
    // SAFETY: the caller's promise.
    guard(|| unsafe { read(flow, buffer, size, None) })
}

/// See `flowring.h`.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_read_within(flow: c_int, buffer: *mut c_void, size: usize, timeout_ms: c_uint) -> Length {
    let within = Duration::from_millis(timeout_ms.into());
    // SAFETY: the caller's promise.
    guard(|| unsafe { read(flow, buffer, size, Some(within)) })
}

/// See `flowring.h`.
///
/// # Safety
/// `sdu` is null or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_write(flow: c_int, sdu: *const c_void, length: usize) -> Length {
    guard(|| {
        let flow = handle::flow(flow)?;
        if sdu.is_null() || length > isize::MAX as usize {
            return Err(invalid("the SDU is a null pointer, or longer than memory"));
        }
        // SAFETY: not null, not too long; the rest is the caller's promise.
        flow.send(unsafe { std::slice::from_raw_parts(sdu.cast::<u8>(), length) })?;
        self::length(length)
    })
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_fd(flow: c_int) -> c_int {
    guard(|| Ok(handle::flow(flow)?.as_fd().as_raw_fd()))
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_sdu_limit(flow: c_int) -> Length {
    guard(|| length(handle::flow(flow)?.sdu_limit()))
}

/// See `flowring.h`.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_source(flow: c_int, buffer: *mut c_char, size: usize) -> Length {
    guard(|| {
        let flow = handle::flow(flow)?;
        // SAFETY: the caller's promise.
        unsafe { copy(&flow.peer().source, buffer, size) }
    })
}

/// See `flowring.h`.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flow_peer_host(flow: c_int, buffer: *mut c_char, size: usize) -> Length {
    guard(|| {
        let flow = handle::flow(flow)?;
        let host = flow.peer().identity.map_or_else(String::new, |identity| identity.host);
        // SAFETY: the caller's promise.
        unsafe { copy(&host, buffer, size) }
    })
}

/// Copies a text, NUL-terminated and cut to size; its whole length.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes.
unsafe fn copy(text: &str, buffer: *mut c_char, size: usize) -> Result<Length, Failed> {
    if let (false, Some(room)) = (buffer.is_null(), size.checked_sub(1)) {
        let cut = room.min(text.len());
        // SAFETY: the buffer has room for `size` bytes by the caller's promise; `cut` and the NUL are at most that, and
        // the text is not within it.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, cut);
            buffer.add(cut).write(0);
        }
    }
    length(text.len())
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_dealloc(handle: c_int) -> c_int {
    guard(|| {
        match handle::remove(handle)? {
            Held::Flow(flow) => match Arc::try_unwrap(flow) {
                Ok(flow) => flow.dealloc(),
                // Another thread is in a call on it.
                Err(flow) => flow.end(),
            },
            Held::Listener(listener) => drop(listener),
        }
        Ok(0)
    })
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_last_error() -> *const c_char {
    error::last()
}

/// See `flowring.h`.
#[unsafe(no_mangle)]
pub extern "C" fn flow_strerror(code: c_int) -> *const c_char {
    error::words(code).as_ptr()
}
