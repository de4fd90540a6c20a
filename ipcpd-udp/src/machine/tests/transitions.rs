//! Transitions that need more than a bad network, one short life each.

use std::collections::BTreeSet;

use super::table::{Cause, Phase};
use super::*;

type Seen = BTreeSet<(Phase, Cause, Phase)>;

impl Bench {
    /// Up to where the socket is to be connected to an extended peer, whose id is 7.
    fn joining(&mut self, flow: u64) -> (Key, WireId) {
        let (key, extension, _) = self.asking(self.ask(flow, "echo"));
        let accepted = answer(extension.client, WireId(7), Verdict::Accepted);
        self.answer(key, B_FLOW, &accepted.encode(&name("echo")));
        self.outputs();
        (key, extension.client)
    }

    /// The same with a classic peer.
    fn joining_classic(&mut self, flow: u64) -> Key {
        let (key, ..) = self.asking(self.ask(flow, "echo"));
        self.answer(key, B_FLOW, b"echo");
        self.outputs();
        key
    }

    fn peer_deallocates(&mut self, ours: WireId) {
        self.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), ours);
    }

    fn drop_outputs(&mut self) {
        self.outputs();
    }
}

pub(super) fn directed() -> Seen {
    let mut seen = Seen::new();
    for lives in [
        asking(),
        classic(),
        extended_ends(),
        accepting(),
        early_echo(),
        unreachable(),
        adopted(),
        open::directed(),
        liveness::directed(),
    ] {
        for bench in lives {
            seen.extend(bench.shim.visited.iter().copied());
        }
    }
    seen.extend(meeting::directed());
    seen
}

/// Cancelled, or without a socket, between two steps that the kernel answers at once.
fn asking() -> Vec<Bench> {
    let mut bench = Bench::new();
    bench.shim.flow_alloc(bench.now, bench.ask(1, "echo")).unwrap();
    bench.shim.cancel(bench.now, FlowId(1));
    bench.drop_outputs();
    bench.joining(2);
    bench.shim.cancel(bench.now, FlowId(2));
    bench.drop_outputs();
    bench.joining_classic(3);
    bench.shim.cancel(bench.now, FlowId(3));
    bench.drop_outputs();
    let key = bench.joining_classic(4);
    bench.shim.connected(bench.now, key, Err("no".into()));
    bench.drop_outputs();
    let (key, _) = bench.joining(5);
    bench.shim.connected(bench.now, key, Err("no".into()));
    vec![bench]
}

type End = fn(&mut Shim, Instant, FlowId);

/// Classic flows, each way to end.
fn classic() -> Vec<Bench> {
    let mut bench = Bench::new();
    let before: [End; 3] = [Shim::not_taken, Shim::released, |shim, now, flow| assert!(shim.dealloc(now, flow))];
    let after: [End; 3] = [Shim::suspect, Shim::released, |shim, now, flow| assert!(shim.dealloc(now, flow))];
    let ends = before.map(|end| (false, end)).into_iter().chain(after.map(|end| (true, end)));
    for ((taken, end), flow) in ends.zip(1..) {
        let key = bench.joining_classic(flow);
        bench.shim.connected(bench.now, key, Ok(1472));
        if taken {
            bench.shim.taken(bench.now, FlowId(flow));
        }
        end(&mut bench.shim, bench.now, FlowId(flow));
        bench.drop_outputs();
    }
    vec![bench]
}

/// What happens to an extended flow that is offered, in this order.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Taken,
    NotTaken,
    Released,
    Admin,
    Suspect,
    PeerDealloc,
}

fn extended_ends() -> Vec<Bench> {
    use Step::{Admin, NotTaken, PeerDealloc, Released, Suspect, Taken};
    let lives: [&[Step]; 10] = [
        &[Released, PeerDealloc],
        &[Admin],
        &[NotTaken],
        &[PeerDealloc, NotTaken],
        &[PeerDealloc, Taken, Released],
        &[PeerDealloc, Taken, Admin],
        &[Taken, Suspect, Admin],
        &[Taken, Suspect, PeerDealloc],
        &[Taken, Suspect, Released],
        &[Taken, PeerDealloc, Released],
    ];
    lives.into_iter().map(extended_life).collect()
}

fn extended_life(steps: &[Step]) -> Bench {
    let mut bench = Bench::new();
    let (key, ours) = bench.joining(1);
    bench.shim.connected(bench.now, key, Ok(1472));
    for step in steps {
        match step {
            Step::Taken => bench.shim.taken(bench.now, FlowId(1)),
            Step::NotTaken => bench.shim.not_taken(bench.now, FlowId(1)),
            Step::Released => bench.shim.released(bench.now, FlowId(1)),
            Step::Admin => assert!(bench.shim.dealloc(bench.now, FlowId(1))),
            Step::Suspect => bench.shim.suspect(bench.now, FlowId(1)),
            Step::PeerDealloc => bench.peer_deallocates(ours),
        }
    }
    bench
}

fn accepted() -> Result<Accept, Failure> {
    Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] })
}

/// Ends while the accepting side's socket is being opened.
fn accepting() -> Vec<Bench> {
    let ends: [fn(&mut Bench); 2] = [
        |bench| assert!(bench.shim.dealloc(bench.now, FlowId(9))),
        |bench| bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(5), WireId(0)),
    ];
    ends.into_iter()
        .map(|end| {
            let mut bench = Bench::new();
            bench.request(B_FLOW, &extended("here", 5));
            let key = bench.shim.rows(bench.now, Key(0), 1)[0].key;
            bench.shim.answered(bench.now, key, accepted());
            end(&mut bench);
            bench
        })
        .collect()
}

/// Echo on arrival, with and without a socket.
fn early_echo() -> Vec<Bench> {
    [true, false]
        .into_iter()
        .map(|opens| {
            let mut bench = Bench::with(Settings { echo: Echo::OnArrival, ..settings(A) });
            bench.opens = opens;
            bench.request(B_FLOW, b"here");
            let key = bench.shim.rows(bench.now, Key(0), 1)[0].key;
            if opens {
                bench.shim.connected(bench.now, key, Ok(1472));
                bench.shim.answered(bench.now, key, accepted());
            } else {
                bench.shim.opened(bench.now, key, Err(OpenError::Exhausted));
            }
            bench
        })
        .collect()
}

/// ICMP twice in a row, before and after PENDING.
fn unreachable() -> Vec<Bench> {
    let mut bench = Bench::new();
    for (flow, promised) in [(1, false), (2, true)] {
        let (key, extension, _) = bench.asking(bench.ask(flow, "echo"));
        if promised {
            bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Pending).encode(&name("echo")));
        }
        bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
        bench.shim.handle_unreachable(bench.now, key, Unreachable::Host);
        bench.drop_outputs();
    }
    vec![bench]
}

fn adopted() -> Vec<Bench> {
    let mut bench = Bench::new();
    let (key, _) = bench.joining(1);
    bench.shim.connected(bench.now, key, Ok(1472));
    let offered = bench.outputs().into_iter().find_map(|output| match output {
        Output::Offer { ticket, .. } => Some(ticket),
        _ => None,
    });
    let ticket = offered.unwrap();
    let said = ticket::open(&[3; 32], &ticket).unwrap();
    let mut restarted = Bench::new();
    restarted.shim.adopt(restarted.now, &ticket, owner(), said.local, said.peer).unwrap();
    vec![restarted]
}
