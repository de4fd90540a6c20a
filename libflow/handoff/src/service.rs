//! A daemon under a service manager, for both daemons.

pub use crate::io::service::{Service, VARIABLES, sockets};
