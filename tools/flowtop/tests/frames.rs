//! What the user sees, as files beside this one. `BLESS=1 cargo test -p flowtop --test frames` writes them anew: look at the
//! difference before it is committed.
#![expect(clippy::disallowed_methods, reason = "a clock to begin with")]

#[path = "frames/stage.rs"]
mod stage;

use std::path::Path;

use flowtop::machine::key::Key;
use flowtop::machine::screen::Pane;
use flowtop::machine::told::Told;
use flowtop::machine::view::Theme;
use proto::FlowId;
use ratatui::style::Color;
use stage::{PLAIN, Stage};

fn check(name: &str, frame: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, frame).unwrap();
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(want == frame, "{name} looks otherwise now:\n{frame}\nand was:\n{want}");
}

fn list() -> Stage {
    let mut stage = Stage::new(Pane::List);
    stage.watch(20);
    stage
}

#[test]
fn the_list() {
    check("list-80x24", &list().frame(80, 24, PLAIN));
    check("list-120x40", &list().frame(120, 40, PLAIN));
    check("list-40x10", &list().frame(40, 10, PLAIN));
}

#[test]
fn the_list_in_ascii() {
    let frame = list().frame(80, 24, Theme { colours: false, unicode: false });
    assert!(frame.is_ascii());
    check("list-ascii-80x24", &frame);
}

#[test]
fn without_colours_no_cell_has_one() {
    let mut stage = list();
    stage.refuse();
    for key in
        [None, Some(Key::Char('r')), Some(Key::Char('?')), Some(Key::Esc), Some(Key::Enter), Some(Key::Char('k'))]
    {
        key.into_iter().for_each(|key| stage.screen.handle_key(stage.now, key));
        stage.answer();
        let cells = stage.cells(120, 40, PLAIN);
        assert!(cells.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset), "{key:?}");
        let cells = stage.cells(120, 40, Theme { colours: true, unicode: true });
        assert!(cells.content().iter().any(|cell| cell.fg != Color::Reset), "{key:?}");
    }
}

#[test]
fn one_flow() {
    let mut stage = Stage::new(Pane::Flow(FlowId(3)));
    stage.watch(20);
    check("flow-80x24", &stage.frame(80, 24, PLAIN));
    check("flow-120x40", &stage.frame(120, 40, PLAIN));
    // When it has ended, what was known of it stays to be read.
    stage.ended.push(3);
    stage.watch(1);
    stage.screen.handle_told(stage.now, Told::Detail(FlowId(3), Box::new(None)));
    let frame = stage.frame(80, 24, PLAIN);
    assert!(frame.contains("flow 3 backup.bulk is over: irmd knows it no longer"), "{frame}");
    assert!(frame.contains("peer asked again  no answer within 500 ms"), "{frame}");
}

#[test]
fn refusals() {
    let mut stage = Stage::new(Pane::Refusals);
    stage.watch(5);
    check("no-refusals-80x24", &stage.frame(80, 24, PLAIN));
    stage.refuse();
    check("refusals-80x24", &stage.frame(80, 24, PLAIN));
    check("refusals-120x40", &stage.frame(120, 40, PLAIN));
}

#[test]
fn help_and_dialogs() {
    let mut stage = list();
    stage.screen.handle_key(stage.now, Key::Char('?'));
    check("help-80x24", &stage.frame(80, 24, PLAIN));
    stage.screen.handle_key(stage.now, Key::Char('?'));
    stage.screen.handle_key(stage.now, Key::Char('s'));
    check("sort-80x24", &stage.frame(80, 24, PLAIN));
    stage.screen.handle_key(stage.now, Key::Esc);
    "/game".chars().for_each(|c| stage.screen.handle_key(stage.now, Key::Char(c)));
    check("filter-80x24", &stage.frame(80, 24, PLAIN));
    stage.screen.handle_key(stage.now, Key::Enter);
    stage.screen.handle_key(stage.now, Key::Char('k'));
    let last = stage.frame(80, 24, PLAIN).lines().last().unwrap().to_owned();
    assert_eq!(last, "end flow 2 accepted for game.q2 held by quake2-server (pid 4712)?  y/n");
}

#[test]
fn an_irmd_that_is_gone_is_said_and_its_flows_stay() {
    let mut stage = list();
    stage.screen.handle_told(stage.now, Told::Lost("irmd is not reachable at /run/x (no such socket)".into()));
    let frame = stage.frame(80, 24, PLAIN);
    assert!(frame.starts_with("flowtop alpha  irmd cannot be asked; trying again"), "{frame}");
    assert!(frame.contains("\nirmd is not reachable at /run/x (no such socket)\n"), "{frame}");
    let row = frame.lines().find(|line| line.contains("backup.bulk")).unwrap();
    assert!(row.contains(" -      - "), "rates of before are none of now: {row}");
    stage.watch(1);
    assert!(stage.frame(80, 24, PLAIN).lines().next().unwrap().contains("irmd 0.1.0 (pid 4242), up 2h"));
}

#[test]
fn a_window_too_small_says_so() {
    for (width, height) in [(39, 24), (80, 9), (20, 5), (3, 1), (1, 1)] {
        let frame = list().frame(width, height, PLAIN);
        assert!(
            "window too small".starts_with(frame.lines().next().unwrap().trim_end_matches('…').get(..3).unwrap_or("")),
            "{frame}"
        );
    }
    assert!(list().frame(39, 24, PLAIN).starts_with("window too small: 39x24, flowtop needs"));
}
