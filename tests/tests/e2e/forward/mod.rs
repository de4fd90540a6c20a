//! `portfwd`: what connections see through it, against what they see without.

mod ends;
mod limits;
mod refusals;
mod road;
mod stories;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use ends::*;
    use limits::*;
    use refusals::*;
    cases![
        ends_are_the_same_when_forwarded_directly,
        ends_are_the_same_over_a_local_flow,
        ends_are_the_same_over_a_flow_between_hosts,
        ends_are_the_same_over_a_bad_link,
        unix_sockets_are_forwarded,
        a_dead_target_is_a_reset,
        a_dead_target_is_no_listener_where_the_rule_says_so,
        refusals_over_flows_are_told_apart,
        a_target_that_is_silent_is_given_up,
        a_flow_that_dies_resets_its_connections_and_the_next_asks_anew,
        stalled_clients_hold_up_no_other,
        a_forwarder_without_descriptors_waits_and_goes_on,
        connections_beyond_one_flow_get_another,
        as_many_connections_as_descriptors_go_over_flows,
    ]
}
