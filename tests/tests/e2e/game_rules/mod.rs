//! `gameproxy`'s rules: who may play, where, what of it client sides learn, and what strangers can do.

mod admission;
mod changes;
mod offers;
mod queries;
pub(crate) mod stage;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use admission::*;
    use changes::*;
    use offers::*;
    use queries::*;
    cases![
        quake_queries_go_through_and_say_which_servers_live,
        a_token_picks_the_server_and_does_not_reach_it,
        a_probe_says_how_far_away_the_proxy_is,
        a_wrong_configuration_is_told_with_its_place,
        what_matches_is_explained,
        who_may_not_play_is_dropped_and_counted,
        players_are_limited_and_so_is_their_rate,
        strangers_reach_no_player,
        made_up_players_disturb_no_real_one,
        datagrams_that_are_too_long_are_dropped_alone,
        other_rules_keep_who_may_stay,
        a_name_that_is_not_found_keeps_no_other_redirect_waiting,
        a_stop_waits_for_players_where_it_is_told_to,
        client_sides_learn_their_ports,
        client_sides_learn_of_changes,
        several_client_sides_play_at_one_server_side,
        players_at_different_distances_have_the_same_round_trip,
    ]
}
