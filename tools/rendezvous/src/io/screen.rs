//! Standard output, written by a thread of its own: a terminal that is stopped, or a pipe that is full, holds up nobody else.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::machine::backlog::Backlog;

/// Where lines are shown, in time.
#[derive(Clone)]
pub(super) struct Screen(Arc<Shared>);

/// What shows them.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// What became of the thread, until that was heard.
    over: Option<oneshot::Receiver<std::io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    backlog: Backlog,
    /// Nothing more comes.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next text; waits for it. `None`: that was all.
    fn next(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            match state.backlog.pop() {
                None if !state.closed => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                next => return next,
            }
        }
    }
}

/// Shows on `out` what a screen is given.
pub(super) fn on(mut out: impl Write + Send + 'static) -> anyhow::Result<(Screen, Writer)> {
    let shared = Arc::new(Shared::default());
    let (tell, over) = oneshot::channel();
    let of = shared.clone();
    let write = move || {
        let mut texts = std::iter::from_fn(|| of.next());
        let _ = tell.send(texts.try_for_each(|text| out.write_all(text.as_bytes()).and_then(|()| out.flush())));
    };
    std::thread::Builder::new().name("output".into()).spawn(write).context("there is no thread")?;
    Ok((Screen(shared.clone()), Writer { shared, over: Some(over) }))
}

impl Screen {
    /// Shows whole lines, after all that came before. Never waits.
    pub(super) fn show(&self, text: String) {
        self.0.lock().backlog.push(text);
        self.0.changed.notify_one();
    }
}

impl Writer {
    /// Waits until nothing can be shown any more. A reader that has gone away, as `head` does, had enough.
    pub(super) async fn over(&mut self) -> anyhow::Result<()> {
        let Some(over) = &mut self.over else { return Ok(()) };
        let written = over.await;
        self.over = None;
        match written {
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
            _ => Ok(()),
        }
    }

    /// Waits until all is shown, so long at most.
    pub(super) async fn finish(mut self, within: Duration) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        let _ = tokio::time::timeout(within, self.over()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Nobody reads for a while: nobody waits, the newest lines are there in the end, and how many went.
    #[tokio::test]
    async fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (screen, written) = on(writer).unwrap();
        for n in 0..20_000 {
            screen.show(format!("{n:0100}\n"));
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        written.finish(SOON).await;
        let text = read.await.unwrap();
        let lost: usize =
            text.lines().filter_map(|line| line.strip_prefix("* ")?.split(' ').next()?.parse::<usize>().ok()).sum();
        let shown = text.lines().filter(|line| !line.starts_with('*')).count();
        assert!(lost > 10_000 && lost + shown == 20_000, "{lost} lost, {shown} shown");
        assert!(text.ends_with(&format!("{:0100}\n", 19_999)));
    }

    #[tokio::test]
    async fn a_reader_that_left_is_heard_of() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (screen, mut written) = on(writer).unwrap();
        drop(reader);
        screen.show("nobody reads\n".into());
        tokio::time::timeout(SOON, written.over()).await.expect("in time").unwrap();
    }
}
