//! What a refresh costs where there are 10,000 flows: `cargo test --release -p flowtop --test speed -- --ignored --nocapture`.
#![expect(clippy::disallowed_methods, reason = "a clock to begin with")]

use std::time::{Duration, Instant};

use flowtop::machine::flow::{Facts, Holder};
use flowtop::machine::order::{Column, Sort};
use flowtop::machine::screen::{Pane, Screen, Start};
use flowtop::machine::told::{self, Told};
use flowtop::machine::view::{self, Theme};
use prost::Message as _;
use proto::{FlowId, v1};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

const FLOWS: u64 = 10_000;
const PAGE: u64 = 1_000;
const ROUNDS: u32 = 50;

/// irmd's pages as they come from the wire.
fn pages(second: u64) -> Vec<Vec<u8>> {
    let column = |first: u64, factor: u64| (first..first + PAGE).map(move |id| id * factor * second).collect();
    let page = |first: u64| v1::FlowCountsReply {
        flow_id: (first..first + PAGE).collect(),
        sdus_sent: column(first, 3),
        bytes_sent: column(first, 4_200),
        sdus_received: column(first, 2),
        bytes_received: column(first, 2_800),
        errors: vec![0; PAGE as usize],
        idle_ms: column(first, 1),
        rtt_us: vec![250; PAGE as usize],
        lost_packets: column(first, 1),
        congestion_window: vec![250_000; PAGE as usize],
        state: vec![v1::FlowState::Allocated.into(); PAGE as usize],
        ..Default::default()
    };
    (0..FLOWS / PAGE).map(|n| page(1 + n * PAGE).encode_to_vec()).collect()
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
#[ignore = "prints times, which are those of an idle machine and a release build"]
fn a_refresh_of_10000_flows() {
    for sort in [Column::Graph, Column::Name, Column::Id] {
        let begin = Instant::now();
        let start = Start {
            interval: Duration::from_secs(1),
            filter: String::new(),
            sort: Sort { by: sort, reversed: false },
            pane: Pane::List,
        };
        let mut screen = Screen::new(begin, start);
        let facts = |id| {
            let holder = Holder { command: format!("program{}", id % 97), pid: 1_000 + id as u32 };
            Facts { name: format!("name.{}", id * 7919 % 10_007), holder, ..Facts::unknown(FlowId(id), begin) }
                .finished()
        };
        let mut spent = Duration::ZERO;
        for round in 0..ROUNDS {
            let pages = pages(u64::from(round) + 1);
            let now = begin + Duration::from_secs(round.into());
            let from = cpu();
            let mut counts = Vec::new();
            for page in &pages {
                told::add_page(&v1::FlowCountsReply::decode(page.as_slice()).unwrap(), &mut counts);
            }
            screen.handle_page(view::page(24));
            screen.handle_told(now, Told::Counts(Box::default(), counts));
            let mut cells = Buffer::empty(Rect::new(0, 0, 80, 24));
            view::draw(&screen, now, &Theme { colours: true, unicode: true }, &mut cells);
            if round == 0 {
                screen.handle_told(now, Told::Rows((1..=FLOWS).map(facts).collect()));
            } else {
                spent += cpu() - from;
            }
            while screen.poll_ask().is_some() {}
        }
        assert_eq!(screen.count() as u64, FLOWS);
        println!("{FLOWS} flows sorted by {}: {:?} of CPU per refresh", sort.shape().word, spent / (ROUNDS - 1));
    }
}
