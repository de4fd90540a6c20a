//! All stories: a new file of them gets a line here and in `main.rs`.

use flowring_tests::harness::Case;

use crate::{
    alloc, capture, classic, daemons, dns, doctor, faces, failure, flood, flowcat, flowtop, forward, forward_ops, game,
    game_rules, hostile, identity, links, load, logs, metrics, middlebox, on_path, outlive, programs, rendezvous,
    rendezvous_server, rules, see, service, streams, stripe, truth, vanish, versions, who, wire,
};

/// The cases of every file.
pub(crate) fn all() -> Vec<Case> {
    let cases = [
        alloc::cases(),
        capture::cases(),
        classic::cases(),
        daemons::cases(),
        dns::cases(),
        doctor::cases(),
        faces::cases(),
        failure::cases(),
        flood::cases(),
        flowcat::cases(),
        flowtop::cases(),
        forward::cases(),
        forward_ops::cases(),
        game::cases(),
        game_rules::cases(),
        hostile::cases(),
        identity::cases(),
        links::cases(),
        load::cases(),
        logs::cases(),
        metrics::cases(),
        middlebox::cases(),
        on_path::cases(),
        outlive::cases(),
        programs::cases(),
        rendezvous::cases(),
        rendezvous_server::cases(),
        rules::cases(),
        see::cases(),
        service::cases(),
        streams::cases(),
        stripe::cases(),
        truth::cases(),
        vanish::cases(),
        versions::cases(),
        who::cases(),
        wire::cases(),
    ];
    cases.into_iter().flatten().collect()
}
