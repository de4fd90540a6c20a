//! One frame, as text or as a picture.

use std::time::{Duration, Instant};

use proto::RunDir;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{BROKEN, Fault, OK, UNABLE, place, print, screen, source};
use crate::cli::Cli;
use crate::machine::screen::{Pane, Screen};
use crate::machine::told::Told;
use crate::machine::view::{self, Theme};
use crate::machine::{screen::Ask, svg};

/// Columns where nobody says how many.
const WIDTH: u16 = 80;
/// Lines of panes that are no list, where nobody says how many.
const HEIGHT: u16 = 40;

/// Watches as long as asked, and prints a frame.
pub(super) async fn run(cli: &Cli, run_dir: &RunDir) -> Result<u8, Fault> {
    let mut screen = screen(cli);
    let wanted = screen.pane();
    collect(&mut screen, cli.after.unwrap_or(cli.interval), run_dir).await?;
    if screen.pane() != wanted {
        return Err((BROKEN, screen.sentence().unwrap_or("there is no such flow").to_owned()));
    }
    let size = place::size();
    let width = cli.width.or(size.map(|(width, _)| width)).unwrap_or(WIDTH);
    let height = cli.height.or(size.map(|(_, height)| height)).unwrap_or_else(|| high(&screen));
    screen.handle_page(view::page(height));
    let mut cells = Buffer::empty(Rect::new(0, 0, width, height));
    let theme = place::theme();
    let theme = if cli.svg.is_some() { Theme { unicode: true, ..theme } } else { theme };
    view::draw(&screen, Instant::now(), &theme, &mut cells);
    let Some(file) = &cli.svg else {
        return Ok(if print::text(&view::text(&cells)) { OK } else { BROKEN });
    };
    std::fs::write(file, svg::picture(&cells))
        .map_err(|error| (BROKEN, format!("cannot write {}: {error}", file.display())))?;
    Ok(OK)
}

fn high(screen: &Screen) -> u16 {
    match screen.pane() {
        Pane::List => u16::try_from(screen.count()).unwrap_or(u16::MAX).saturating_add(6).clamp(view::LEAST.1, 1_000),
        _ => HEIGHT,
    }
}

/// Reads counts from now until `after` later, and all that is to be known of the flows.
async fn collect(screen: &mut Screen, after: Duration, run_dir: &RunDir) -> Result<(), Fault> {
    let mut source = source::start(run_dir, false);
    let mut end = None;
    let (mut open, mut over) = (0_usize, false);
    loop {
        if !over {
            screen.handle_timeout(Instant::now());
        }
        while let Some(ask) = screen.poll_ask() {
            // What is seen is asked again and again; the frame needs it once.
            if over && matches!(ask, Ask::Counts) {
                continue;
            }
            open += 1;
            source.asks.send(ask).await.map_err(|_| (BROKEN, "the task that asks irmd is gone".to_owned()))?;
        }
        if over && open == 0 {
            return Ok(());
        }
        let told = tokio::select! {
            told = source.told.recv() => told.ok_or_else(|| (BROKEN, "the task that asks irmd is gone".to_owned()))?,
            () = tokio::time::sleep_until(screen.poll_timeout().into()), if !over => continue,
        };
        if let Told::Lost(why) = told {
            return Err((UNABLE, why));
        }
        open -= usize::from(is_answer(&told));
        let read = matches!(told, Told::Counts(..));
        let now = Instant::now();
        screen.handle_told(now, told);
        if read {
            // The first reading begins the time, the last is at its end.
            over = now + Duration::from_millis(50) >= *end.get_or_insert(now + after);
        }
    }
}

fn is_answer(told: &Told) -> bool {
    !matches!(told, Told::Began(_) | Told::Refused(_) | Told::Missed(_))
}
