//! Hosts behind NATs that meet at a rendezvous.

mod amplifier;
mod going;
mod group;
mod life;
mod mapped;
mod moves;
mod nat;
mod neighbours;
mod punch;
mod roaming;
mod rounds;
mod services;
mod several;
mod stage;
mod table;
mod versions;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    [meeting(), paths(), groups(), with_tools()].into_iter().flatten().collect()
}

/// Members, their NATs, and what stands between.
fn meeting() -> Vec<Case> {
    use life::*;
    use nat::*;
    use neighbours::*;
    use several::*;
    use table::*;
    use versions::*;
    cases![
        middleboxes:
        six_kinds_of_nat_meet_as_the_table_says,
        six_members_use_fifteen_flows_at_once,
        two_hosts_behind_one_nat_meet_locally,
        members_that_are_kept_apart_meet_by_hairpinning_or_are_relayed,
        members_meet_over_ipv6_through_both_firewalls,
        members_over_ipv4_and_ipv6_share_a_session,
        two_levels_of_nat_on_both_sides_are_passed,
        message_and_stream_flows_go_through_nats,
        what_cannot_meet_is_relayed_where_that_is_offered,
        a_stranger_with_the_private_address_gets_no_flow,
        flows_outlive_a_rendezvous_that_restarts_and_one_that_is_gone,
        a_wrong_key_is_told_as_an_unknown_session_is,
        a_member_that_restarts_keeps_its_flows,
        a_nat_that_forgets_is_opened_again,
        a_peer_that_vanishes_is_noticed_through_two_nats,
        irm_nat_tells_the_kinds_of_nat_apart,
        a_second_rendezvous_tells_mappings_by_address,
        hairpinning_is_seen_where_there_is_some,
        the_lifetime_of_mappings_is_measured,
        irm_nat_asks_the_layer_s_rendezvous,
        a_flow_that_cannot_be_punched_says_what_would_do,
        a_name_of_two_members_is_had_where_one_was_killed,
        a_session_that_is_full_says_so_until_one_leaves,
    ]
}

/// Paths that change, and those that take more than hellos.
fn paths() -> Vec<Case> {
    use going::*;
    use moves::*;
    use punch::*;
    use roaming::*;
    cases![
        middleboxes:
        a_member_follows_its_host_to_another_address,
        an_address_that_was_given_stays,
        relayed_flows_move_to_a_path_that_appears,
        flows_without_another_way_stay_relayed,
        ports_in_a_row_are_predicted,
        ports_are_not_predicted_where_that_is_off,
        ports_at_random_are_searched_for,
        nothing_is_searched_in_vain,
        flows_go_along_with_their_hosts,
        flows_of_hosts_behind_nats_go_along,
        flows_go_to_the_relay_where_nothing_else_works_and_from_there,
        a_direct_path_that_ends_is_not_the_flow_s_end,
        a_flow_that_cannot_go_along_ends_with_that_reason,
    ]
}

fn groups() -> Vec<Case> {
    use group::*;
    let mut cases = cases![
        middleboxes:
        members_behind_five_kinds_of_nat_chat,
        members_that_cannot_meet_are_told_so_or_relayed,
        a_group_outlives_its_daemons,
        a_pair_whose_flow_breaks_has_another,
        a_mesh_of_twenty_members,
    ];
    cases.extend(cases![
        members_on_one_host_need_no_rendezvous,
        a_stopped_terminal_holds_nobody_up,
        a_member_that_leaves_or_is_to_be_started_may_join,
    ]);
    cases
}

/// What needs other programs, too.
fn with_tools() -> Vec<Case> {
    use amplifier::*;
    use mapped::*;
    use rounds::*;
    use services::*;
    let mut cases = cases![@ true, ["miniupnpd"],
        symmetric_hosts_meet_where_a_router_maps_by_pcp,
        symmetric_hosts_meet_where_a_router_maps_by_nat_pmp,
        symmetric_hosts_meet_where_a_router_maps_by_upnp,
        a_router_that_refuses_leaves_flows_as_they_were,
        a_router_that_stops_costs_no_flow
    ];
    cases.extend(cases![programs ["dumpcap"]: a_capture_shows_no_amplification_by_the_server]);
    cases.extend(cases![@ true, ["dumpcap"], a_lying_member_has_few_hellos_sent_to_a_third_party]);
    cases.extend(cases![@ true, ["dumpcap"], a_path_takes_two_round_trips_after_the_introduction]);
    cases.extend(cases![@ true, ["curl"], a_web_server_behind_a_nat_is_fetched_from_behind_another]);
    cases
}
