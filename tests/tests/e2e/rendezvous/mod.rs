//! Hosts behind NATs that meet at a rendezvous.

mod life;
mod moves;
mod services;
mod stage;
mod table;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use life::*;
    use moves::*;
    use services::*;
    use table::*;
    let mut cases = cases![
        middleboxes:
        six_kinds_of_nat_meet_as_the_table_says,
        six_members_use_fifteen_flows_at_once,
        two_hosts_behind_one_nat_meet_locally,
        message_and_stream_flows_go_through_nats,
        what_cannot_meet_is_relayed_where_that_is_offered,
        a_stranger_with_the_private_address_gets_no_flow,
        flows_outlive_a_rendezvous_that_restarts_and_one_that_is_gone,
        a_wrong_key_is_told_as_an_unknown_session_is,
        a_member_that_restarts_keeps_its_flows,
        a_nat_that_forgets_is_opened_again,
        a_peer_that_vanishes_is_noticed_through_two_nats,
        relayed_flows_move_to_a_path_that_appears,
        flows_without_another_way_stay_relayed,
    ];
    cases.extend(cases![@ true, ["curl"], a_web_server_behind_a_nat_is_fetched_from_behind_another]);
    cases
}
