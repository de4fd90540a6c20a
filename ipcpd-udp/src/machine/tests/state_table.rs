//! The transition table: as it stands in the documentation, and as it is lived.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::table::{self, Cause, Phase};
use super::*;

const BEGIN: &str = "<!-- state table: generated, UPDATE_SNAPSHOTS=1 cargo test -p ipcpd-udp -->\n";
const END: &str = "<!-- end of state table -->\n";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn update() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

#[test]
fn the_table_is_the_one_under_review() {
    let path = root("src/machine/tests/states.txt");
    let text: String = table::TABLE
        .iter()
        .map(|(from, cause, to)| format!("{:<10} --{}--> {}\n", from.as_str(), cause.as_str(), to.as_str()))
        .collect();
    if update() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE_SNAPSHOTS=1 rewrites it");
}

#[test]
fn the_documentation_has_the_table() {
    let path = root("../docs/shim-udp.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let span = |text: &str| {
        let begin = text.find(BEGIN).expect("the marker of the table's begin") + BEGIN.len();
        begin..begin + text[begin..].find(END).expect("the marker of its end")
    };
    if update() {
        text.replace_range(span(&text), &table::text());
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text[span(&text)], table::text(), "UPDATE_SNAPSHOTS=1 rewrites it");
}

#[test]
fn no_transition_stands_twice() {
    let once: BTreeSet<_> = table::TABLE.iter().collect();
    assert_eq!(once.len(), table::TABLE.len());
}

/// Transitions that need more than a bad network.
fn directed() -> BTreeSet<(Phase, Cause, Phase)> {
    let mut seen = BTreeSet::new();
    let mut note = |bench: &Bench| seen.extend(bench.shim.visited.iter().copied());
    let ours_and_accepted = |bench: &mut Bench| {
        let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
        bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
        bench.outputs();
        (key, extension.client)
    };
    // Cancelled before the socket was open; between the answer and the connect.
    let mut bench = Bench::new();
    bench.shim.flow_alloc(bench.now, bench.ask(1, "echo")).unwrap();
    bench.shim.cancel(bench.now, FlowId(1));
    bench.outputs();
    ours_and_accepted(&mut bench);
    bench.shim.cancel(bench.now, FlowId(1));
    note(&bench);
    let mut bench = Bench::new();
    let (key, ..) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B_FLOW, b"echo");
    bench.shim.cancel(bench.now, FlowId(1));
    bench.outputs();
    let (key, ..) = bench.asking(bench.ask(2, "echo"));
    bench.answer(key, B_FLOW, b"echo");
    bench.shim.connected(bench.now, key, Err("no".into()));
    bench.outputs();
    bench.shim.connected(bench.now, key, Err("no".into()));
    let (key, extension, _) = bench.asking(bench.ask(9, "echo"));
    bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    bench.shim.connected(bench.now, key, Err("no".into()));
    bench.outputs();
    // Classic flows, each way to end.
    for (flow, end) in [(3, 0), (4, 1), (5, 2), (6, 3), (7, 4), (8, 5)] {
        let (key, ..) = bench.asking(bench.ask(flow, "echo"));
        bench.answer(key, B_FLOW, b"echo");
        bench.shim.connected(bench.now, key, Ok(1472));
        match end {
            0 => bench.shim.not_taken(bench.now, FlowId(flow)),
            1 => bench.shim.released(bench.now, FlowId(flow)),
            2 => drop(bench.shim.dealloc(bench.now, FlowId(flow))),
            _ => bench.shim.taken(bench.now, FlowId(flow)),
        }
        match end {
            3 => bench.shim.released(bench.now, FlowId(flow)),
            4 => drop(bench.shim.dealloc(bench.now, FlowId(flow))),
            _ => bench.shim.suspect(bench.now, FlowId(flow)),
        }
        bench.outputs();
    }
    note(&bench);
    // The program, the peer and irmd, in orders a simulated program does not choose.
    for end in 0..9 {
        let mut bench = Bench::new();
        let (key, client) = ours_and_accepted(&mut bench);
        bench.shim.connected(bench.now, key, Ok(1472));
        if end > 3 {
            bench.shim.taken(bench.now, FlowId(1));
        }
        if matches!(end, 2 | 3 | 4 | 6) {
            bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), client);
        }
        if end == 5 || end > 6 {
            bench.shim.suspect(bench.now, FlowId(1));
        }
        match end {
            0 | 4 => bench.shim.released(bench.now, FlowId(1)),
            3 => bench.shim.not_taken(bench.now, FlowId(1)),
            5 | 6 | 1 => drop(bench.shim.dealloc(bench.now, FlowId(1))),
            7 => bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), client),
            8 => bench.shim.released(bench.now, FlowId(1)),
            _ => bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), client),
        }
        if end == 0 {
            bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), client);
        }
        note(&bench);
    }
    seen.extend(accepting());
    seen
}

/// The accepting side with early echoes, and ends while its socket is being opened.
fn accepting() -> BTreeSet<(Phase, Cause, Phase)> {
    let mut seen = BTreeSet::new();
    for end in 0..5 {
        let mut bench = Bench::with(Settings { echo: Echo::OnArrival, ..settings(A) });
        if end < 2 {
            bench.request(B_FLOW, b"here");
        } else {
            bench.request(B_FLOW, &extended("here", 5));
        }
        let key = bench.shim.rows(bench.now, Key(0), 1)[0].key;
        let accept = Accept { flow: FlowId(9), owner: owner(), data: vec![] };
        match end {
            0 => bench.shim.opened(bench.now, key, Err(OpenError::Exhausted)),
            1 => {
                bench.shim.opened(bench.now, key, Ok(addr("10.0.0.1:50000")));
                bench.shim.connected(bench.now, key, Ok(1472));
                bench.shim.answered(bench.now, key, Ok(accept));
            }
            2 => {
                bench.shim.answered(bench.now, key, Ok(accept));
                bench.shim.dealloc(bench.now, FlowId(9));
            }
            3 => {
                bench.shim.answered(bench.now, key, Ok(accept));
                bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(5), WireId(0));
            }
            _ => {
                let (key, ..) = {
                    bench.outputs();
                    bench.asking(bench.ask(3, "echo"))
                };
                bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
                bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
                let (key, extension, _) = {
                    bench.outputs();
                    bench.asking(bench.ask(1, "echo"))
                };
                bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Pending).encode(&name("echo")));
                bench.shim.handle_unreachable(bench.now, key, Unreachable::Host);
                bench.shim.handle_unreachable(bench.now, key, Unreachable::Host);
                let (key, extension, _) = {
                    bench.outputs();
                    bench.asking(bench.ask(2, "echo"))
                };
                bench.answer(
                    key,
                    B_FLOW,
                    &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")),
                );
                bench.shim.connected(bench.now, key, Ok(1472));
                let ticket = bench.outputs().into_iter().find_map(|output| match output {
                    Output::Offer { ticket, .. } => Some(ticket),
                    _ => None,
                });
                let ticket = ticket.unwrap();
                let said = ticket::open(&[3; 32], &ticket).unwrap();
                let mut restarted = Bench::new();
                restarted.shim.adopt(bench.now, &ticket, owner(), said.local, said.peer).unwrap();
                seen.extend(restarted.shim.visited.iter().copied());
            }
        }
        seen.extend(bench.shim.visited.iter().copied());
    }
    seen
}

#[test]
fn every_transition_of_the_table_happens() {
    // That no other happens, every change of a state checks.
    let mut seen = directed();
    for seed in 1000..1060 {
        seen.extend(super::sim::life(seed));
    }
    let missing: Vec<_> = table::TABLE.iter().filter(|row| !seen.contains(row)).collect();
    assert!(missing.is_empty(), "never seen: {missing:#?}");
}
