//! `tcpstripe`: one TCP connection over many tracks. What passes is whole, what is cut short is reset at both ends, and the
//! seed's bytes are the seed's.

mod adapt;
mod bulk;
mod files;
mod paths;
mod seed;
mod stage;
mod troubles;
mod whole;

use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = whole::cases();
    cases.extend(seed::cases());
    cases.extend(troubles::cases());
    cases.extend(bulk::cases());
    cases.extend(files::cases());
    cases.extend(paths::cases());
    cases.extend(adapt::cases());
    cases
}
