//! `gameproxy` between two hosts: players, flows that are lost and made again, a real game.

mod carry;
mod minetest;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use carry::*;
    use minetest::*;
    let mut all = cases![
        five_hundred_players_of_a_game_come_and_go,
        a_game_goes_on_when_its_server_side_is_started_again,
        a_game_goes_on_when_its_flow_is_lost,
        a_game_server_that_never_stops_keeps_no_dead_player,
        game_datagrams_go_through_a_byte_stream,
    ];
    all.extend(cases!(programs ["minetest", "minetestserver"]: a_real_game_is_played_through_a_flow));
    all
}
