//! What is decided: values in, values out.

pub mod admit;
pub mod balance;
pub mod figures;
pub mod table;
