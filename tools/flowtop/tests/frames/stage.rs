//! A host with five flows, for frames and keys.

use std::time::{Duration, Instant};

use flowtop::machine::event::Refusal;
use flowtop::machine::order::{Column, Sort};
use flowtop::machine::screen::{Ask, Pane, Screen, Start};
use flowtop::machine::told::{self, Host, Told};
use flowtop::machine::view::{self, Theme};
use proto::{FlowId, v1};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// A screen, its clock, and an irmd that answers at once.
pub(crate) struct Stage {
    pub(crate) screen: Screen,
    pub(crate) now: Instant,
    begin: Instant,
    /// Flows that were ended.
    pub(crate) ended: Vec<u64>,
}

pub(crate) const PLAIN: Theme = Theme { colours: false, unicode: true };

fn process(pid: u32, command: &str) -> Option<v1::Process> {
    Some(v1::Process { pid, uid: 1000, gid: 1000, command: command.into() })
}

fn flow(id: u64) -> v1::FlowInfo {
    let cube = |cube: v1::Cube| Some(v1::QosSpec { cube: cube.into(), ..Default::default() });
    let remote = v1::FlowInfo {
        flow_id: id,
        layer: "net".into(),
        ipcp: "udp0".into(),
        state: v1::FlowState::Allocated.into(),
        source_name: "operf".into(),
        local_address: format!("10.0.0.1:{}", 40_000 + id),
        peer_address: format!("10.0.0.2:{}", 50_000 + id),
        age_ms: 65_000 - id * 1_000,
        sdu_limit: 1_472,
        ..Default::default()
    };
    match id {
        1 => v1::FlowInfo { name: "echo".into(), process: process(4711, "oping"), ..remote },
        2 => v1::FlowInfo {
            name: "game.q2".into(),
            process: process(4712, "quake2-server"),
            accepting: true,
            qos: cube(v1::Cube::Message),
            encrypted: true,
            ..remote
        },
        3 => stream(cube(v1::Cube::Stream), remote),
        4 => v1::FlowInfo {
            name: "db".into(),
            layer: "local".into(),
            ipcp: String::new(),
            process: process(4714, "psql"),
            peer_process: process(99, "db"),
            qos: cube(v1::Cube::Stream),
            local_address: String::new(),
            peer_address: String::new(),
            ..remote
        },
        _ => v1::FlowInfo {
            name: "slow\u{1b}[2J".into(),
            process: process(4715, "oping"),
            state: v1::FlowState::Pending.into(),
            local_address: String::new(),
            peer_address: "10.0.0.9:3359".into(),
            ..remote
        },
    }
}

/// One with all there is to know.
fn stream(qos: Option<v1::QosSpec>, remote: v1::FlowInfo) -> v1::FlowInfo {
    v1::FlowInfo {
        name: "backup.bulk".into(),
        process: process(4713, "flowcat"),
        qos,
        encrypted: true,
        peer_identity: "SHA256:LHDhK3oGRvkie/Qnx7OOczTY5TgQnx7OOczTY5Tg".into(),
        peer_certified: "backup".into(),
        trusted_by: "first use".into(),
        idle_ms: Some(20),
        socket: Some(v1::SocketInfo { receive_queue: 4_608, send_queue: 0, drops: 3, ..Default::default() }),
        path: Some(v1::PathInfo {
            rtt_us: 20_400,
            congestion_window: 250_000,
            sent_packets: 120_000,
            lost_packets: 1_234,
            ..Default::default()
        }),
        history: [
            (v1::EventKind::Requested, 62_010, "asked for by flowcat (4713)", ""),
            (v1::EventKind::Asked, 62_009, "udp0 asked", ""),
            (v1::EventKind::AskedAgain, 61_500, "peer asked again", "no answer within 500 ms"),
            (v1::EventKind::Allocated, 61_480, "allocated", ""),
            (v1::EventKind::HandedOver, 61_479, "handed over to flowcat (4713)", ""),
        ]
        .map(|(kind, ms_ago, what, why)| v1::FlowStep { kind: kind.into(), ms_ago, what: what.into(), why: why.into() })
        .to_vec(),
        ..remote
    }
}

/// What flow `id` has carried `second` seconds after the beginning.
fn page(second: u64) -> v1::FlowCountsReply {
    let wave = |step: u64| (1..=second).map(|s| (s * step) % 7 * 100_000).sum::<u64>();
    v1::FlowCountsReply {
        flow_id: vec![1, 2, 3, 4, 5],
        sdus_sent: vec![second, second * 30, second * 900, 0, 0],
        bytes_sent: vec![second * 64, second * 12_000, 20_000_000 + second * 1_250_000, wave(3), 0],
        sdus_received: vec![second, second * 30, second * 4, 0, 0],
        bytes_received: vec![second * 64, second * 3_000, second * 4_000, wave(5), 0],
        errors: vec![0, 0, 3, 0, 0],
        rtt_us: vec![0, 850, 20_000 + (second as u32 % 5) * 300, 0, 0],
        state: [2, 2, 2, 2, 1].to_vec(),
        ..Default::default()
    }
}

fn host(second: u64) -> Host {
    let ipcp = v1::IpcpInfo { layer: "net".into(), flows: 4, ..Default::default() };
    let status = v1::StatusReply {
        build: "0.1.0".into(),
        pid: 4242,
        uptime_ms: 7_200_000,
        flows: 5,
        ipcps: vec![ipcp],
        flows_allocated: 1_000 + second * 3,
        refusals: [("unknown_name".to_owned(), 12), ("nobody_accepts".to_owned(), second)].into(),
        ..Default::default()
    };
    Host::new("alpha", status)
}

impl Stage {
    pub(crate) fn new(pane: Pane) -> Self {
        let now = Instant::now();
        let sort = Sort { by: Column::Graph, reversed: false };
        let start = Start { interval: Duration::from_secs(1), filter: String::new(), sort, pane };
        Self { screen: Screen::new(now, start), now, begin: now, ended: Vec::new() }
    }

    /// Lets so many seconds go by, with an irmd that answers.
    pub(crate) fn watch(&mut self, seconds: u64) {
        for _ in 0..=seconds {
            self.screen.handle_timeout(self.now);
            self.answer();
            self.now += Duration::from_secs(1);
        }
        self.now -= Duration::from_secs(1);
    }

    /// Answers all that was asked.
    pub(crate) fn answer(&mut self) {
        while let Some(ask) = self.screen.poll_ask() {
            let second = self.now.duration_since(self.begin).as_secs();
            let told = match ask {
                Ask::Counts => {
                    let mut counts = Vec::new();
                    told::add_page(&page(second), &mut counts);
                    counts.retain(|counts| !self.ended.contains(&counts.id.0));
                    Told::Counts(Box::new(host(second)), counts)
                }
                Ask::List => Told::Rows((1..=5).map(|id| told::facts(self.now, flow(id))).collect()),
                Ask::Show(ids) => Told::Rows(ids.into_iter().map(|id| told::facts(self.now, flow(id.0))).collect()),
                Ask::Detail(FlowId(id)) => {
                    let known = (1..=5).contains(&id).then(|| told::detail(self.now, flow(id)));
                    Told::Detail(FlowId(id), Box::new(known))
                }
                Ask::End(id) => {
                    self.ended.push(id.0);
                    Told::Ended(id, Ok(()))
                }
            };
            self.screen.handle_told(self.now, told);
        }
    }

    pub(crate) fn refuse(&mut self) {
        self.screen.handle_told(self.now, Told::Began(4242));
        let rows = [
            ("nowhere", "oping (4720)", "unknown name", "no layer knows nowhere; register it where it is served"),
            ("chat", "10.0.0.7:51234", "nobody accepts", ""),
            ("game.q2", "10.0.0.8:50001", "refused", "the server is full\u{1b}[2J"),
        ];
        for (number, (name, asker, reason, words)) in (1..).zip(rows) {
            let refusal = Refusal {
                number,
                age: Duration::from_secs(30 - 10 * number),
                name: name.into(),
                asker: asker.into(),
                reason: reason.into(),
                words: flowtop::machine::text::printable(words),
            };
            self.screen.handle_told(self.now, Told::Refused(refusal));
        }
    }

    pub(crate) fn cells(&mut self, width: u16, height: u16, theme: Theme) -> Buffer {
        let mut cells = Buffer::empty(Rect::new(0, 0, width, height));
        self.screen.handle_page(view::page(height));
        view::draw(&self.screen, self.now, &theme, &mut cells);
        cells
    }

    pub(crate) fn frame(&mut self, width: u16, height: u16, theme: Theme) -> String {
        view::text(&self.cells(width, height, theme))
    }
}
