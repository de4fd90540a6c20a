//! `rendezvous`, the server: members that are written by hand, at hosts behind NATs.

mod admission;
mod meeting;
pub(crate) mod member;
mod running;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use admission::*;
    use meeting::*;
    use running::*;
    let mut all = cases![
        middleboxes:
        members_behind_nats_hear_of_each_other_and_meet,
        what_cannot_be_direct_is_relayed_within_its_quota,
        a_server_says_what_nat_there_is,
    ];
    all.extend(cases![
        a_silent_member_is_forgotten_and_the_others_hear_of_it,
        a_restarted_rendezvous_has_its_members_again,
        a_wrong_key_gets_what_an_unknown_session_gets,
        a_flood_of_joins_is_not_amplified_and_hurts_nobody,
        sessions_come_and_go_by_reload,
        a_rendezvous_that_is_stopped_finishes_what_it_began,
        a_rendezvous_serves_both_kinds_of_addresses,
        a_session_on_the_command_line_needs_no_file,
    ]);
    all
}
