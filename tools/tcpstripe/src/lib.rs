//! `tcpstripe`: a TCP connection enters a proxy, travels in pieces over N tracks (flows, or TCP connections as ro-ro-tcp's) and
//! leaves a relay in order. [`cli`] is the command line; [`said`] what is written, in files and on tracks; [`machine`] decides
//! which bytes go where and when they may leave; [`io`] has the sockets, the flows and the clock. docs/tcpstripe.md says what
//! is on the wire, byte by byte, and what is promised.

pub mod cli;
pub mod io;
pub mod machine;
pub mod said;

pub use io::run;
