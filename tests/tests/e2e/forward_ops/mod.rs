//! `portfwd` as one operates it: in the background, with a file of rules that changes, with limits, TLS, datagrams.

mod clients;
mod datagrams;
mod layers;
mod reload;
pub(crate) mod stage;

use flowring_tests::cases;
use flowring_tests::harness::Case;

pub(crate) fn cases() -> Vec<Case> {
    use clients::*;
    use datagrams::*;
    use layers::*;
    use reload::*;
    let mut all = cases![
        a_reload_under_load_loses_nobody,
        a_wrong_file_is_told_and_the_old_one_stays,
        a_watched_file_is_read_when_it_changes,
        a_stop_waits_for_connections_and_takes_no_more,
        one_forwarder_runs_in_a_folder,
        nonsense_to_its_own_sockets_is_answered_or_dropped,
        who_may_not_is_reset_and_counted,
        targets_share_connections_and_dead_ones_are_left_out,
        proxy_headers_say_who_the_client_is,
        who_the_client_is_goes_through_a_flow,
        datagrams_are_forwarded_from_socket_to_socket,
        datagrams_are_forwarded_over_a_flow,
        a_thousand_players_lose_nothing,
    ];
    all.extend(cases!(programs ["nginx", "curl"]: two_web_servers_behind_one_forwarder));
    all.extend(cases!(programs ["nginx", "curl", "iperf3", "redis-server", "redis-benchmark", "redis-cli", "git"]:
        the_usual_clients_work_over_a_flow));
    all.extend(cases!(programs ["openssl"]: tls_is_begun_and_ended));
    all
}
