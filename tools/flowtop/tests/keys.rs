//! Whatever is pressed and whatever irmd says: no panic, the cursor on a row, the rows on the screen.
#![expect(clippy::disallowed_methods, reason = "a clock to begin with")]

use std::time::{Duration, Instant};

use flowtop::machine::flow::{Counts, Facts, State};
use flowtop::machine::key::Key;
use flowtop::machine::order::{Column, Sort};
use flowtop::machine::screen::{Pane, Screen, Start};
use flowtop::machine::told::Told;
use flowtop::machine::view::{self, Theme};
use proptest::prelude::*;
use proto::FlowId;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

#[derive(Clone, Debug)]
enum Step {
    Press(Key),
    Counts(Vec<Counts>),
    Rows(Vec<(u64, String)>),
    Gone(u64),
    Lost,
    Wait(u64),
    Draw(u16, u16, bool),
}

fn key() -> impl Strategy<Value = Key> {
    let known = "q/s<>IrkpynhPx?+-".chars().map(Key::Char);
    let known: Vec<Key> = known
        .chain([Key::Up, Key::Down, Key::Left, Key::Right, Key::PageUp, Key::PageDown, Key::Home, Key::End])
        .chain([Key::Enter, Key::Esc, Key::Backspace, Key::F(1), Key::F(9), Key::Ctrl('u')])
        .collect();
    prop_oneof![8 => proptest::sample::select(known), 1 => any::<char>().prop_map(Key::Char)]
}

fn counts() -> impl Strategy<Value = Counts> {
    let state = prop_oneof![Just(State::Pending), Just(State::Allocated), Just(State::Ending), Just(State::Ended)];
    (0..40_u64, state, any::<[u64; 5]>(), any::<u32>()).prop_map(|(id, state, [a, b, c, d, e], rtt_us)| Counts {
        id: FlowId(id),
        state,
        sent_sdus: a,
        sent_bytes: b,
        received_sdus: c,
        received_bytes: d,
        errors: e,
        rtt_us,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => key().prop_map(Step::Press),
        3 => proptest::collection::vec(counts(), 0..40).prop_map(Step::Counts),
        2 => proptest::collection::vec((0..40_u64, any::<String>()), 0..10).prop_map(Step::Rows),
        1 => (0..40_u64).prop_map(Step::Gone),
        1 => Just(Step::Lost),
        2 => prop_oneof![0..3_000_u64, 0..10_000_000_u64].prop_map(Step::Wait),
        3 => (1..200_u16, 1..60_u16, any::<bool>()).prop_map(|(w, h, unicode)| Step::Draw(w, h, unicode)),
    ]
}

fn take(screen: &mut Screen, now: &mut Instant, step: Step) {
    match step {
        Step::Press(key) => screen.handle_key(*now, key),
        Step::Counts(counts) => screen.handle_told(*now, Told::Counts(Box::default(), counts)),
        Step::Rows(rows) => {
            let facts = |(id, name)| Facts { name, ..Facts::unknown(FlowId(id), *now) }.finished();
            screen.handle_told(*now, Told::Rows(rows.into_iter().map(facts).collect()));
        }
        Step::Gone(id) => screen.handle_told(*now, Told::Detail(FlowId(id), Box::new(None))),
        Step::Lost => screen.handle_told(*now, Told::Lost("gone".into())),
        Step::Wait(ms) => {
            *now += Duration::from_millis(ms);
            screen.handle_timeout(*now);
        }
        Step::Draw(width, height, unicode) => {
            screen.handle_page(view::page(height));
            let mut cells = Buffer::empty(Rect::new(0, 0, width, height));
            view::draw(screen, *now, &Theme { colours: unicode, unicode }, &mut cells);
            let text = view::text(&cells);
            assert_eq!(text.lines().count(), usize::from(height));
            assert!(unicode || text.is_ascii(), "{text}");
            flowtop::machine::svg::picture(&cells);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_screen(steps in proptest::collection::vec(step(), 1..80)) {
        let mut now = Instant::now();
        let sort = Sort { by: Column::Graph, reversed: false };
        let start = Start { interval: Duration::from_secs(1), filter: String::new(), sort, pane: Pane::List };
        let mut screen = Screen::new(now, start);
        for step in steps {
            take(&mut screen, &mut now, step);
            let (cursor, seen) = (screen.cursor(), screen.seen_rows());
            prop_assert!(cursor < screen.count().max(1), "cursor {cursor} of {}", screen.count());
            prop_assert!(screen.count() == 0 || seen.contains(&cursor), "{cursor} is not in {seen:?}");
            prop_assert!(seen.end <= screen.count());
            let asks = std::iter::from_fn(|| screen.poll_ask()).count();
            prop_assert!(asks <= 32);
        }
    }
}
