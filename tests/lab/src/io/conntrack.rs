//! Connection tracking, told to forget: one message of netlink, as `conntrack --flush` sends it.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// Of the kernel's `nfnetlink.h` and `netlink.h`: "delete", in the part for connection tracking; a request, to be answered.
const DELETE: u16 = 1 << 8 | 2;
const REQUEST_AND_ANSWER: u16 = 1 | 4;
/// Length, type, flags, sequence, port; then family, version and resource, all zero: every entry there is.
const MESSAGE: u32 = 16 + 4;

/// Forgets every flow of the network this thread is in.
pub(crate) fn forget_all() -> io::Result<()> {
    let protocol = Some(netlink::NETFILTER);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let mut message = MESSAGE.to_ne_bytes().to_vec();
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_AND_ANSWER.to_ne_bytes());
    message.resize(MESSAGE as usize, 0);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 128];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // A header like ours, then the negative number of the error.
    let error = answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match error {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("netlink's answer is too short")),
    }
}
