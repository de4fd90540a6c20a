//! The same without a runtime: calls block the thread.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let flow = libflow::blocking::flow_alloc("echo", libflow::Qos::raw())?;
//! flow.send(b"hello")?;
//! let mut buffer = [0; 1500];
//! let length = flow.recv(&mut buffer)?;
//! # Ok(())
//! # }
//! ```

mod flow;
mod listener;
mod stream;

use std::path::Path;

pub use flow::Flow;
pub use listener::{Incoming, Listener};
pub use stream::{RecvHalf, SendHalf, Stream};

use crate::{Alloc, AllocError, Listen, ListenError, Qos, StackError};

/// [`crate::Stack`] without a runtime: its requests end in `.wait()`.
#[derive(Clone, Debug)]
pub struct Stack(crate::Stack);

impl Stack {
    /// See [`crate::Stack::find`].
    pub fn find(run_dir: Option<&Path>) -> Result<Self, StackError> {
        crate::Stack::find(run_dir).map(Self)
    }

    /// See [`crate::Stack::global`].
    pub fn global() -> Result<Self, StackError> {
        crate::Stack::global().map(Self)
    }

    /// A flow to `name`; set what is wanted, then [`Alloc::wait`].
    pub fn alloc(&self, name: &str) -> Alloc {
        self.0.alloc(name)
    }

    /// Serves `name`; set what is wanted, then [`Listen::wait`].
    pub fn listen(&self, name: &str) -> Listen {
        self.0.listen(name)
    }
}

impl From<crate::Stack> for Stack {
    fn from(stack: crate::Stack) -> Self {
        Self(stack)
    }
}

/// A flow to `name`, through the irmd that the environment names.
pub fn flow_alloc(name: &str, qos: Qos) -> Result<Flow, AllocError> {
    Stack::global()?.alloc(name).qos(qos).wait()
}

/// Serves `name`: created, bound and registered in every layer, through the irmd that the environment names.
pub fn flow_accept(name: &str) -> Result<Listener, ListenError> {
    Stack::global()?.listen(name).wait()
}
