//! `gameproxy`'s rules: who may play, where, what of it client sides learn, and what strangers can do.

mod admission;
mod changes;
mod families;
mod offers;
mod queries;
pub(crate) mod stage;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use admission::*;
    use changes::*;
    use families::*;
    use offers::*;
    use queries::*;
    cases![
        quake_queries_say_which_game_servers_live,
        a_token_picks_the_game_server_and_does_not_reach_it,
        a_probe_says_how_far_away_the_game_proxy_is,
        a_wrong_game_configuration_is_told_with_its_place,
        what_matches_a_player_of_a_game_is_explained,
        who_may_not_play_a_game_is_dropped_and_counted,
        players_of_a_game_are_limited_and_so_is_their_rate,
        strangers_reach_no_player_of_a_game,
        made_up_players_disturb_no_game,
        game_datagrams_longer_than_an_sdu_go_in_pieces,
        other_rules_of_a_game_keep_who_may_stay,
        a_game_server_that_is_not_found_keeps_no_other_waiting,
        a_stop_waits_for_players_of_a_game_where_it_is_told_to,
        game_clients_learn_their_ports,
        game_clients_learn_of_changes,
        several_client_sides_play_at_one_game,
        a_game_server_side_is_started_when_a_client_asks,
        players_of_a_fair_game_have_the_same_round_trip,
        players_of_both_families_reach_servers_of_both,
        players_of_both_families_are_proxied_in_one_process,
        a_player_at_an_address_of_one_link_is_answered_through_a_flow,
    ]
}
