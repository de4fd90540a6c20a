//! `gameproxy` between two hosts: players, flows that are lost and made again, a real game.

mod carry;
mod minetest;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use carry::*;
    use minetest::*;
    let mut all = cases![
        five_hundred_players_come_and_go,
        a_server_side_that_is_started_again_has_its_players_back,
        a_lost_flow_is_made_again_for_the_same_players,
        a_server_that_never_stops_keeps_no_dead_player,
        game_datagrams_go_through_a_byte_stream,
    ];
    all.extend(cases!(programs ["minetest", "minetestserver"]: minetest_is_played_through_a_flow));
    all
}
