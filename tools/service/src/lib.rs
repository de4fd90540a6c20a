//! What the tools that run as services do alike: files of rules that are read again ([`source`], [`reloads`]) with faults
//! that have a place ([`Fault`]) and values as people write them ([`values`]); who is let in and which target is next
//! ([`admit`], [`balance`]); a control socket in a folder of one's own ([`control`], [`folder`]) and how commands end
//! ([`end`]); names looked up ([`resolve`]), [`signals`]; logs, tables and metrics ([`logfile`], [`table`], [`figures`],
//! [`page`]).

mod io;
mod machine;
mod said;

pub use io::{control, end, folder, logfile, page, print, process, reloads, resolve, signals, source};
pub use machine::{admit, balance, figures, table};
pub use said::fault::Fault;
pub use said::values;
