//! Many UDP datagrams per system call: [`Batch`] to receive them, [`send`] to send them, each with its addresses; [`Outbox`] collects
//! those that go with the next call.

mod io;

pub use io::batch::{Batch, MANY, Received, Sending, join, say_local, send};
pub use io::outbox::Outbox;
pub use io::socket::{bound, socket};
