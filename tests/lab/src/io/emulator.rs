//! The thread between two devices that makes a link of them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::packet::{BATCH, PacketSocket};
use crate::machine::lane::{Frame, Lane};
use crate::machine::link::{Counts, Link};

/// Frames read from a device before those that are due are sent.
const TURN: usize = 256;

/// A running link. Dropped, it ends: nothing passes any more.
pub(crate) struct Emulator {
    commands: Option<SyncSender<Command>>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    /// Up, down; answered once it holds.
    Set(Box<[Link; 2]>, SyncSender<()>),
    Cut(bool, SyncSender<()>),
    Count(SyncSender<[Counts; 2]>),
}

impl Emulator {
    /// Moves frames between two devices: `up` is what comes in at the first and leaves at the second.
    pub(crate) fn start(name: &str, devices: [PacketSocket; 2]) -> Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
        let woken = wake.try_clone()?;
        let (commands, receiver) = sync_channel(1);
        let mover = Mover {
            devices,
            lanes: [Lane::new(Link::CLEAN, 0), Lane::new(Link::CLEAN, 1)],
            commands: receiver,
            wake: woken,
        };
        let thread = std::thread::Builder::new().name(format!("link {name}")).spawn(move || mover.run())?;
        Ok(Self { commands: Some(commands), wake, thread: Some(thread) })
    }

    /// Sets both directions, up and down; holds when this returns.
    pub(crate) fn set(&self, links: [Link; 2]) -> Result<()> {
        self.ask(|answer| Command::Set(Box::new(links), answer))
    }

    /// Cuts or mends both directions; holds when this returns.
    pub(crate) fn cut(&self, cut: bool) -> Result<()> {
        self.ask(|answer| Command::Cut(cut, answer))
    }

    /// What was done so far, up and down.
    pub(crate) fn counts(&self) -> Result<[Counts; 2]> {
        self.ask(Command::Count)
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        let gone = || anyhow!("the thread of the link has ended; its last words are above");
        self.commands.as_ref().and_then(|commands| commands.send(command(answer)).ok()).ok_or_else(gone)?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).context("waking the link")?;
        answered.recv().map_err(|_| gone())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.commands = None;
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Mover {
    devices: [PacketSocket; 2],
    /// Lane `n` goes from device `n` to the other.
    lanes: [Lane; 2],
    commands: Receiver<Command>,
    wake: OwnedFd,
}

impl Mover {
    fn run(mut self) {
        // The default slack makes each delay up to 50 µs longer.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        while self.obey() {
            let mut read = 0;
            for n in 0..2 {
                read += self.read(n);
                self.send(n);
            }
            if read == 0 {
                self.wait();
            }
        }
    }

    /// Does what it is told; false once nobody can tell it anything any more.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Set(links, done)) => {
                    for (lane, link) in self.lanes.iter_mut().zip(*links) {
                        lane.set(link);
                    }
                    let _ = done.send(());
                }
                Ok(Command::Cut(cut, done)) => {
                    self.lanes.iter_mut().for_each(|lane| lane.cut(cut));
                    let _ = done.send(());
                }
                Ok(Command::Count(answer)) => {
                    self.count_missed();
                    let _ = answer.send([self.lanes[0].counts(), self.lanes[1].counts()]);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn count_missed(&mut self) {
        for (lane, device) in self.lanes.iter_mut().zip(&self.devices) {
            lane.missed(device.missed());
        }
    }

    /// Reads what came in at device `n`; how many frames, at most [`TURN`].
    fn read(&mut self, n: usize) -> usize {
        let (device, lane) = (&mut self.devices[n], &mut self.lanes[n]);
        let mut read = 0;
        let now = Instant::now();
        while read < TURN
            && device.take(|frame| match frame {
                Some(frame) => lane.offer(now, frame),
                None => lane.missed(1),
            })
        {
            read += 1;
        }
        read
    }

    /// Sends what is due on lane `n`.
    fn send(&mut self, n: usize) {
        let (device, lane) = (&self.devices[1 - n], &mut self.lanes[n]);
        let now = Instant::now();
        let mut due: Vec<Frame> = Vec::with_capacity(BATCH);
        loop {
            due.extend(std::iter::from_fn(|| lane.due(now)).take(BATCH));
            if due.is_empty() {
                return;
            }
            let frames: Vec<&[u8]> = due
                .iter()
                .flat_map(|frame| std::iter::repeat_n(&frame.bytes[..], 1 + usize::from(frame.twice)))
                .collect();
            lane.unsent(device.send(&frames));
            due.clear();
        }
    }

    /// Until a frame comes, one is due, or somebody wants something.
    fn wait(&self) {
        let due = self.lanes.iter().filter_map(Lane::next).min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut watched = [
            PollFd::from_borrowed_fd(self.devices[0].as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.devices[1].as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        // Interrupted: the loop looks again.
        let _ = poll(&mut watched, timeout.as_ref());
        for (watched, device) in watched.iter().zip(&self.devices) {
            if watched.revents().contains(PollFlags::ERR) {
                device.forget_error();
            }
        }
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
    }
}
