//! A log that nobody waits for: lines are written by a thread of their own, so that a terminal, pipe or disk that takes nothing
//! stops the log and not the program.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait for a log that takes nothing; more are lost, and counted.
const MOST: usize = 4 << 20;
/// How long a process that ends waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are put; each call of `write` is one line.
#[derive(Clone, Debug)]
pub(crate) struct Behind(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is a line.
    there: Condvar,
    /// There is none any more.
    empty: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// A line is being written.
    writing: bool,
}

impl Behind {
    /// Starts the thread that writes to `log`.
    pub(crate) fn start(log: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = shared.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || theirs.run(log))?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written, but not for ever.
    pub(crate) fn flush_within(&self, patience: Duration) {
        let waiting = self.0.lock();
        let behind = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let _ = self.0.empty.wait_timeout_while(waiting, patience, behind);
    }

    /// The same with the patience of a process that ends.
    pub(crate) fn flush(&self) {
        self.flush_within(PATIENCE);
    }
}

impl Write for Behind {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes + line.len() > MOST {
            waiting.lost += 1;
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_vec());
            self.0.there.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for ever. An error is of a reader that is gone, or of a disk that is full: the line is lost.
    fn run(&self, mut log: impl Write) {
        loop {
            let (line, lost) = self.next();
            let _ = log.write_all(&line);
            if lost > 0 {
                let _ = writeln!(log, "{lost} lines were lost here: the log could not be written as fast");
            }
        }
    }

    /// The next line, and how many are missing behind it.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = true;
                // Those that were lost came behind all that waited.
                let lost = if waiting.lines.is_empty() { std::mem::take(&mut waiting.lost) } else { 0 };
                return (line, lost);
            }
            self.empty.notify_all();
            waiting = self.there.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    #[test]
    fn who_writes_waits_for_nobody_and_what_is_lost_is_told() {
        let (read, write) = io::pipe().unwrap();
        let mut log = Behind::start(write).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        // Far more than a pipe holds, and nobody reads.
        let count = 2 * MOST / line.len();
        for _ in 0..count {
            log.write_all(&line).unwrap();
        }
        log.flush_within(Duration::from_millis(10));
        let mut lines = 0;
        for said in BufReader::new(read).lines() {
            let said = said.unwrap();
            if let Some((lost, _)) = said.split_once(" lines were lost here") {
                assert_eq!(lines + lost.parse::<usize>().unwrap(), count);
                break;
            }
            assert_eq!(said.len(), 1023);
            lines += 1;
        }
        assert!(lines >= MOST / line.len(), "{lines}");
        log.flush();
        assert!(log.0.lock().lines.is_empty());
    }
}
