//! What is decided: values in, values out.

pub(crate) mod local;
pub(crate) mod quic;
