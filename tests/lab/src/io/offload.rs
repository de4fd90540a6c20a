//! Frames as they are on a wire: one datagram each, checksums filled in.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Legacy commands of SIOCETHTOOL that every kernel has: transmit checksums, scatter-gather, TCP and generic
/// segmentation, generic receive offload.
const SWITCHES: [u32; 5] = [0x17, 0x19, 0x1f, 0x24, 0x2c];

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Lets `device`, of the network this thread is in, send whole frames only: the kernel cuts large ones and fills in
/// checksums before them. Between veth ends it puts both off for ever, and a packet socket would see neither done.
pub(crate) fn switch_off(device: &str) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for command in SWITCHES {
        set(&socket, device, Value { command, data: 0 })?;
    }
    Ok(())
}

fn set(socket: &OwnedFd, device: &str, mut value: Value) -> io::Result<()> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::other(format!("{device} is no name of a device")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value it points to outlive the call, and these commands touch only the value.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
