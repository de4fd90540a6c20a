use std::time::{Duration, Instant};

use proto::FlowId;

use super::*;
use crate::machine::flow::{Counts, Facts};
use crate::machine::key::Key;

fn screen(now: Instant) -> Screen {
    let sort = Sort { by: Column::Id, reversed: false };
    Screen::new(now, Start { interval: Duration::from_secs(1), filter: String::new(), sort, pane: Pane::List })
}

fn counts(ids: impl IntoIterator<Item = u64>) -> Told {
    let counts = ids.into_iter().map(|id| Counts { id: FlowId(id), sent_bytes: id, ..Counts::default() }).collect();
    Told::Counts(Box::new(Host { pid: 1, ..Host::default() }), counts)
}

fn asked(screen: &mut Screen) -> Vec<Ask> {
    std::iter::from_fn(|| screen.poll_ask()).collect()
}

fn rows(screen: &Screen) -> Vec<u64> {
    screen.rows.iter().map(|at| screen.flows.all()[*at].counts.id.0).collect()
}

fn press(screen: &mut Screen, now: Instant, keys: &[Key]) {
    keys.iter().for_each(|key| screen.handle_key(now, *key));
}

/// A screen of five flows, all known, three of which fit.
fn stage() -> (Screen, Instant) {
    let now = Instant::now();
    let mut screen = screen(now);
    screen.handle_page(3);
    screen.handle_timeout(now);
    screen.handle_told(now, counts(1..=5));
    let facts = |id| Facts { name: format!("name{id}"), ..Facts::unknown(FlowId(id), now) }.finished();
    screen.handle_told(now, Told::Rows((1..=5).map(facts).collect()));
    asked(&mut screen);
    (screen, now)
}

#[test]
fn counts_are_asked_for_once_per_interval_and_not_while_an_answer_is_out() {
    let now = Instant::now();
    let mut screen = screen(now);
    screen.handle_timeout(now);
    screen.handle_timeout(now);
    assert_eq!(asked(&mut screen), [Ask::Counts]);
    let later = now + Duration::from_secs(1);
    screen.handle_timeout(later);
    assert_eq!(asked(&mut screen), [], "irmd has not answered yet");
    screen.handle_told(later, counts([]));
    assert_eq!(screen.poll_timeout(), later + Duration::from_secs(1));
    screen.handle_timeout(later + Duration::from_secs(1));
    assert_eq!(asked(&mut screen), [Ask::Counts]);
    screen.handle_told(later, Told::Lost("gone".into()));
    screen.handle_timeout(later + Duration::from_secs(2));
    assert_eq!(asked(&mut screen), [Ask::Counts], "a lost irmd is asked again");
}

#[test]
fn few_unknown_flows_are_shown_many_are_listed_and_not_again_at_once() {
    let now = Instant::now();
    let mut screen = screen(now);
    screen.handle_page(3);
    screen.handle_told(now, counts(1..=3));
    assert_eq!(asked(&mut screen), [Ask::Show([1, 2, 3].map(FlowId).to_vec())]);
    screen.handle_told(now, counts(1..=1000));
    assert_eq!(asked(&mut screen), [Ask::List]);
    let soon = now + Duration::from_secs(1);
    screen.handle_told(soon, counts(1001..=2000));
    assert_eq!(asked(&mut screen), [Ask::Show([1001, 1002, 1003].map(FlowId).to_vec())], "only what is seen");
    let later = now + Duration::from_secs(6);
    screen.handle_told(later, counts(2001..=3000));
    assert_eq!(asked(&mut screen), [Ask::List]);
}

#[test]
fn what_is_seen_is_asked_again_when_it_is_old_or_has_another_state() {
    let (mut screen, now) = stage();
    screen.handle_told(now + Duration::from_secs(1), counts(1..=5));
    assert_eq!(asked(&mut screen), []);
    screen.handle_told(now + Duration::from_secs(5), counts(1..=5));
    assert_eq!(asked(&mut screen), [Ask::Show([1, 2, 3].map(FlowId).to_vec())]);
}

#[test]
fn the_cursor_stays_on_its_flow() {
    let (mut screen, now) = stage();
    press(&mut screen, now, &[Key::Down, Key::Down, Key::Down]);
    assert_eq!((screen.chosen(), screen.top), (Some(FlowId(4)), 1));
    press(&mut screen, now, &[Key::Char('I')]);
    assert_eq!((screen.chosen(), screen.cursor, rows(&screen)), (Some(FlowId(4)), 1, vec![5, 4, 3, 2, 1]));
    screen.handle_told(now, counts([1, 2, 4]));
    assert_eq!((screen.chosen(), screen.cursor), (Some(FlowId(4)), 0));
    screen.handle_told(now, counts([1, 2, 3]));
    assert_eq!(screen.chosen(), Some(FlowId(3)), "its flow is gone: who is in its place");
    press(&mut screen, now, &[Key::End]);
    assert_eq!(screen.chosen(), Some(FlowId(1)));
    press(&mut screen, now, &[Key::Home]);
    screen.handle_told(now, counts(1..=9));
    assert_eq!(screen.chosen(), Some(FlowId(9)), "after Home it is the first, whoever that is");
    screen.handle_told(now, counts([]));
    assert_eq!(screen.chosen(), None);
    press(&mut screen, now, &[Key::Enter, Key::Char('k'), Key::End, Key::PageDown, Key::Up]);
    assert_eq!((screen.pane, screen.dialog.clone()), (Pane::List, None));
}

#[test]
fn a_flow_is_ended_only_after_yes() {
    let (mut screen, now) = stage();
    press(&mut screen, now, &[Key::Down, Key::Char('k'), Key::Enter, Key::Char('x'), Key::Down]);
    assert!(matches!(screen.dialog, Some(Dialog::End(FlowId(2), _))), "only y and n answer");
    press(&mut screen, now, &[Key::Char('n')]);
    assert_eq!((asked(&mut screen), screen.sentence()), (vec![], Some("flow 2 goes on")));
    press(&mut screen, now, &[Key::Char('k')]);
    // The flow that was asked about is meant, whatever is in its place by now.
    screen.handle_told(now, counts([1, 3, 4]));
    press(&mut screen, now, &[Key::Char('y')]);
    assert_eq!(asked(&mut screen), [Ask::End(FlowId(2))]);
    screen.handle_told(now, Told::Ended(FlowId(2), Err("there is no flow 2\u{1b}".into())));
    assert_eq!(screen.sentence(), Some("flow 2 is not ended: there is no flow 2\\u{1b}"));
    screen.handle_timeout(now + SENTENCE);
    assert_eq!(screen.sentence(), None);
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let (mut screen, now) = stage();
    "/NAME4x".chars().for_each(|c| screen.handle_key(now, Key::Char(c)));
    assert_eq!(rows(&screen), [0; 0]);
    press(&mut screen, now, &[Key::Backspace]);
    assert_eq!(rows(&screen), [4]);
    press(&mut screen, now, &[Key::Enter, Key::Char('/'), Key::Ctrl('u')]);
    assert_eq!(rows(&screen).len(), 5);
    press(&mut screen, now, &[Key::Esc]);
    assert_eq!((rows(&screen), screen.filter.as_str()), (vec![4], "NAME4"));
    press(&mut screen, now, &[Key::Esc]);
    assert_eq!((rows(&screen).len(), screen.is_over()), (5, false));
    press(&mut screen, now, &[Key::Esc]);
    assert!(screen.is_over());
}

#[test]
fn what_to_sort_by_is_chosen() {
    let (mut screen, now) = stage();
    press(&mut screen, now, &[Key::Char('>')]);
    assert_eq!(screen.sort.by, Column::Name);
    press(&mut screen, now, &[Key::Char('I'), Key::Char('s'), Key::Down, Key::Enter]);
    assert_eq!(screen.sort, Sort { by: Column::Qos, reversed: false });
    press(&mut screen, now, &[Key::Char('<'), Key::Char('<'), Key::Char('<')]);
    assert_eq!(screen.sort.by, Column::Id);
    press(&mut screen, now, &[Key::F(6), Key::End, Key::Esc]);
    assert_eq!((screen.sort.by, screen.is_over()), (Column::Id, false));
}

#[test]
fn one_flows_pane_asks_for_it_and_goes_back() {
    let (mut screen, now) = stage();
    press(&mut screen, now, &[Key::Down, Key::Enter]);
    assert_eq!((screen.pane, asked(&mut screen)), (Pane::Flow(FlowId(2)), vec![Ask::Detail(FlowId(2))]));
    press(&mut screen, now, &[Key::Down, Key::Down]);
    assert_eq!((screen.pane, asked(&mut screen)), (Pane::Flow(FlowId(4)), vec![Ask::Detail(FlowId(4))]));
    // An answer about another flow is too late.
    screen.handle_told(now, Told::Detail(FlowId(2), Box::new(None)));
    assert_eq!(screen.pane, Pane::Flow(FlowId(4)));
    screen.handle_told(now, Told::Detail(FlowId(4), Box::new(None)));
    assert_eq!((screen.pane, screen.sentence()), (Pane::List, Some("there is no flow 4")));
    press(&mut screen, now, &[Key::Char('r'), Key::End, Key::Char('q')]);
    assert_eq!((screen.pane, screen.is_over()), (Pane::List, false));
    press(&mut screen, now, &[Key::F(1), Key::Char('?'), Key::Char('q')]);
    assert!(screen.is_over());
}

#[test]
fn a_pause_asks_nothing_and_the_interval_has_steps() {
    let (mut screen, now) = stage();
    press(&mut screen, now, &[Key::Char('p')]);
    let later = now + Duration::from_secs(9);
    screen.handle_timeout(later);
    screen.handle_told(later, counts([]));
    assert_eq!((asked(&mut screen), rows(&screen).len()), (vec![], 5), "an answer that was on its way changes nothing");
    press(&mut screen, later, &[Key::Char('p')]);
    screen.handle_timeout(later);
    assert_eq!(asked(&mut screen), [Ask::Counts]);
    press(&mut screen, later, &[Key::Char('+'), Key::Char('+')]);
    assert_eq!(screen.interval, Duration::from_secs(5));
    press(&mut screen, later, &[Key::Char('-'); 20]);
    assert_eq!(screen.interval, Duration::from_millis(100));
    assert!(screen.poll_timeout() <= later + Duration::from_millis(100));
    press(&mut screen, later, &[Key::Char('+'); 20]);
    assert_eq!(screen.interval, Duration::from_secs(60));
}

#[test]
fn questions_that_nobody_answers_are_bounded() {
    let (mut screen, now) = stage();
    for _ in 0..200 {
        press(&mut screen, now, &[Key::Enter, Key::Down, Key::Esc]);
    }
    for id in 0..200 {
        screen.handle_told(now, counts([id, id + 1]));
        press(&mut screen, now, &[Key::Char('k'), Key::Char('y')]);
    }
    assert!(asked(&mut screen).len() <= MAX_ASKS);
}
