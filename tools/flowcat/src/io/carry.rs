//! One flow's conversation, from its allocation to its end.

use std::future::{pending, ready};
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use libflow::{Cube, Flow};

use super::pipes::{self, Pipes};
use super::print;
use super::pump::{self, Datagrams, Inlet, Outlet, Tally};
use crate::cli::Cli;
use crate::machine::conversation::{Conversation, End, Kind, Side, Verdict};
use crate::machine::text;

/// How often the progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// Carries one flow to its end and deallocates it.
pub(super) async fn carry(flow: Flow, side: Side, pipes: Pipes, cli: &Cli) -> Verdict {
    let progress = Progress::new(cli.progress);
    let verdict = match flow.qos().cube {
        Cube::Stream => {
            let stream = match side {
                Side::Asking => flow.open_stream().await,
                Side::Accepting => flow.accept_stream().await,
            };
            match stream {
                Ok(stream) => {
                    let (send, recv) = stream.into_split();
                    let talk = Conversation::new(Kind::Stream, side, cli.linger);
                    converse(talk, pipes, (send, recv), gone(&flow), &progress).await
                }
                Err(error) => Verdict { whole: false, words: vec![text::printable(&error.to_string())] },
            }
        }
        Cube::Message | Cube::Raw => {
            let talk = Conversation::new(Kind::Datagrams, side, cli.linger);
            converse(talk, pipes, (Datagrams(&flow), Datagrams(&flow)), pending(), &progress).await
        }
    };
    // What was finished is delivered before the flow ends.
    flow.dealloc().await;
    progress.end();
    verdict
}

/// Waits for the end of a stream flow: its messages, if there are any, are not for us.
async fn gone(flow: &Flow) {
    while flow.recv_message().await.is_ok() {}
}

/// Moves bytes both ways until nothing more is to be expected.
async fn converse(
    mut talk: Conversation,
    pipes: Pipes,
    halves: (impl Outlet, impl Inlet),
    gone: impl Future<Output = ()>,
    progress: &Progress,
) -> Verdict {
    let (mut outlet, mut inlet) = halves;
    let Pipes { input, output, child } = pipes;
    let mut output = Some(output);
    let runs = child.is_some();
    // Dropped first: a command whose input is incomplete is killed before its pipe closes.
    let inward = pump::inward(&mut inlet, &mut output, &progress.tally);
    let outward = pump::outward(input, &mut outlet, pipes::ended(child), &progress.tally);
    tokio::pin!(inward, outward, gone);
    let (mut sends, mut receives, mut lives) = (true, true, true);
    loop {
        let due = talk.poll_timeout();
        tokio::select! {
            end = &mut outward, if sends => {
                sends = false;
                // A command that has ended wants no more, whatever the peer has to say.
                if runs && end == End::Clean {
                    talk.received(End::Clean);
                }
                talk.sent(Instant::now(), end);
            }
            end = &mut inward, if receives => {
                receives = false;
                // Many commands do not read all their input.
                talk.received(if runs && end == End::Unread { End::Clean } else { end });
            }
            () = &mut gone, if lives => {
                lives = false;
                talk.gone();
            }
            () = until(due) => talk.handle_timeout(Instant::now()),
            () = progress.turn() => {}
        }
        if let Some(verdict) = talk.verdict() {
            return verdict;
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// A line on standard error, redrawn on a terminal, and once at the end elsewhere.
struct Progress {
    tally: Tally,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(wanted: bool) -> Self {
        let bar = wanted.then(|| {
            // The template is a constant: it has no fault to report.
            let style =
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Self { tally: Tally::default(), start: Instant::now(), bar }
    }

    fn line(&self) -> String {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        text::progress(load(&self.tally.sent), load(&self.tally.received), self.start.elapsed())
    }

    /// Waits until it is to be drawn again, and draws it.
    async fn turn(&self) {
        match &self.bar {
            Some(bar) if std::io::stderr().is_terminal() => {
                tokio::time::sleep(SHOWN).await;
                bar.set_message(self.line());
                bar.tick();
            }
            _ => pending().await,
        }
        ready(()).await;
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            print::progress(&self.line());
        }
    }
}
