//! What `irm` decides: what its arguments mean, how answers look. Values in, text out.

pub mod argument;
pub mod capture;
pub mod choice;
pub mod doctor;
pub mod event;
pub mod flow;
pub mod host;
pub mod identity;
pub mod ipcp;
pub mod log;
pub mod name;
pub mod nat;
pub mod resolve;
pub mod rules;
pub mod status;
pub mod table;
pub mod text;
