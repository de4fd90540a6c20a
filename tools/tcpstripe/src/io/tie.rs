//! A running group: one task that owns its machine, its local side and its tracks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::adapting::Adapting;
use super::carrier::Carrier;
use super::dial::{Dialed, Dialer};
use super::local::Local;
use super::track::{Failed, Moved, Track};
use crate::machine::{Group, State, TrackId, View};
use crate::said::frame::Abort;
use crate::said::tracks::MAX_TRACKS;

/// Turns of the loop before other tasks have theirs.
const TURNS: usize = 64;
/// How often paths are looked at while something is under way.
const PATHS: Duration = Duration::from_millis(20);
/// How long last words may take once a group is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What others ask of a running group.
pub(super) enum Command {
    /// One more track. These bytes go out on it before all frames.
    Track(Carrier, u16, Bytes),
    /// What it has come to so far.
    View(oneshot::Sender<(View, Vec<String>)>),
    /// The program stops.
    Stop,
}

/// A group, tied to what it runs over.
pub(super) struct Tie {
    pub(super) group: Box<dyn Group>,
    pub(super) local: Option<Local>,
    pub(super) tracks: Vec<Track>,
    commands: Option<mpsc::Receiver<Command>>,
    pub(super) dialer: Option<Dialer>,
    pub(super) adapting: Option<Adapting>,
    pub(super) dials: JoinSet<Dialed>,
    /// Tracks whose first try failed before any other was there.
    missing: Vec<(u16, u32)>,
    next_id: u32,
    turn: usize,
    timer: Pin<Box<Sleep>>,
    paths_at: Instant,
    over_at: Option<Instant>,
    /// Carriers that are being ended.
    pub(super) closing: JoinSet<()>,
    /// What went wrong, in words.
    pub(super) why: Option<String>,
    /// Any track was ever there.
    had_track: bool,
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) view: View,
    pub(super) why: Option<String>,
}

/// A group that is over, and what it ran over.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    commands: Option<mpsc::Receiver<Command>>,
    closing: JoinSet<()>,
}

impl Ended {
    /// Ends what it ran over, tracks that came too late among it. Whoever gives it tracks knows by now that it is over.
    pub(super) async fn close(mut self) -> Outcome {
        if let Some(commands) = &mut self.commands {
            commands.close();
            while let Some(command) = commands.recv().await {
                if let Command::Track(carrier, ..) = command {
                    self.closing.spawn(carrier.reset());
                }
            }
        }
        while self.closing.join_next().await.is_some() {}
        self.outcome
    }
}

impl Tie {
    pub(super) fn new(group: Box<dyn Group>, local: Option<Local>, commands: mpsc::Receiver<Command>) -> Self {
        let now = Instant::now();
        Self {
            group,
            local,
            tracks: Vec::new(),
            commands: Some(commands),
            dialer: None,
            adapting: None,
            dials: JoinSet::new(),
            missing: Vec::new(),
            next_id: 1,
            turn: 0,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            paths_at: now,
            over_at: None,
            closing: JoinSet::new(),
            why: None,
            had_track: false,
        }
    }

    /// Opens its tracks itself, and replaces those that die.
    pub(super) fn with_dialer(mut self, dialer: Dialer, adapting: Adapting) -> Self {
        for index in 0..adapting.adapt.wanted() {
            self.dials.spawn(dialer.clone().dial(index, 0));
        }
        (self.dialer, self.adapting) = (Some(dialer), Some(adapting));
        self
    }

    pub(super) fn add(&mut self, carrier: Carrier, index: u16, first: Bytes) {
        let id = TrackId(self.next_id);
        self.next_id += 1;
        self.had_track = true;
        let mut track = Track::new(id, index, carrier, first);
        self.group.track_up(Instant::now(), id);
        self.group.set_path(id, track.look_at_path());
        self.tracks.push(track);
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll(cx)).await;
        let state = self.group.state();
        let view = self.group.view(Instant::now());
        if let Some(local) = self.local.take() {
            match state {
                State::Done => local.close(),
                _ => local.reset(),
            }
        }
        let in_order = state == State::Done;
        let mut closing = self.closing;
        for track in self.tracks {
            // A flow's last words were finished; a broken TCP group is reset, as its protocol has no words.
            let close = track.finished && (in_order || matches!(track.carrier, Carrier::Flow { .. }));
            closing.spawn(async move { if close { track.carrier.close().await } else { track.carrier.reset().await } });
        }
        Ended { outcome: Outcome { state, view, why: self.why }, commands: self.commands, closing }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let now = Instant::now();
            let mut moved = self.poll_commands(cx) | self.poll_dials(cx);
            moved |= self.poll_tracks(cx, now, Track::poll_in);
            moved |= self.poll_local(cx, now);
            moved |= self.poll_tracks(cx, now, Track::poll_out);
            self.keep_time(now);
            moved |= self.part();
            if self.is_over(now) {
                return Poll::Ready(());
            }
            if !moved {
                return self.wait(cx, now);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let state = self.group.state();
        if state == State::Open {
            return false;
        }
        if !matches!(state, State::Done) {
            // The client, or the target, is told at once.
            if let Some(local) = self.local.take() {
                local.reset();
            }
        }
        let told = self.local.as_ref().is_none_or(|local| local.shut && local.is_written());
        let over_at = *self.over_at.get_or_insert(now);
        // In order: until the other end has said its last word, too. It closes what it still reads otherwise.
        let said = |track: &Track| match state {
            State::Done => track.finished && track.is_read_out(),
            _ => track.finished || matches!(track.carrier, Carrier::Tcp(_)),
        };
        told && self.tracks.iter().all(said) || now >= over_at + LAST_WORDS
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(commands) = &mut self.commands else { return false };
        match commands.poll_recv(cx) {
            Poll::Pending => return false,
            Poll::Ready(None) => self.commands = None,
            Poll::Ready(Some(Command::Track(carrier, index, first))) => {
                if self.tracks.len() < usize::from(MAX_TRACKS) && self.group.may_join() {
                    self.add(carrier, index, first);
                } else {
                    self.closing.spawn(carrier.reset());
                }
            }
            Poll::Ready(Some(Command::Stop)) => {
                self.give_up(Abort::Stopped, "this program was told to stop".to_owned())
            }
            Poll::Ready(Some(Command::View(reply))) => {
                let names = self.tracks.iter().map(|track| track.carrier.describe()).collect();
                let mut view = self.group.view(Instant::now());
                view.adapted = self.adapting.as_ref().and_then(Adapting::told);
                // Who asked may be gone.
                let _ = reply.send((view, names));
            }
        }
        true
    }

    fn poll_dials(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some(joined)) = self.dials.poll_join_next(cx) else { return false };
        let Ok(dialed) = joined else { return true };
        match (dialed.result, &self.dialer) {
            (Ok(carrier), dialer) => {
                // One is there: now it is worth while to try the others again.
                if let Some(dialer) = dialer {
                    for (index, attempt) in self.missing.drain(..) {
                        self.dials.spawn(dialer.clone().dial(index, attempt));
                    }
                }
                self.add(carrier, dialed.index, Bytes::new());
                self.retire();
            }
            (Err(_), Some(_)) if !self.is_wanted(dialed.index) => {}
            (Err(why), Some(dialer)) if self.group.state() == State::Open => {
                // The first tries have all failed: there is nothing to be patient about.
                if !self.had_track && self.dials.is_empty() {
                    self.give_up(Abort::NoTrack, why);
                } else {
                    match self.had_track {
                        true => drop(self.dials.spawn(dialer.clone().dial(dialed.index, dialed.attempt + 1))),
                        false => self.missing.push((dialed.index, dialed.attempt + 1)),
                    }
                    self.why.get_or_insert(why);
                }
            }
            (Err(_), _) => {}
        }
        true
    }

    /// Moves bytes on every track, beginning with another one each time.
    fn poll_tracks(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        move_bytes: fn(&mut Track, &mut Context<'_>, Instant, &mut dyn Group) -> Result<Moved, Failed>,
    ) -> bool {
        let mut moved = false;
        self.turn = self.turn.wrapping_add(1);
        let count = self.tracks.len();
        let mut failed = Vec::new();
        for at in 0..count {
            let at = (at + self.turn) % count;
            match move_bytes(&mut self.tracks[at], cx, now, &mut *self.group) {
                Ok(Moved::Some) => moved = true,
                Ok(Moved::None) => {}
                Err(why) => failed.push((self.tracks[at].id, why)),
            }
        }
        for (id, why) in failed {
            self.failed(now, id, why);
            moved = true;
        }
        moved
    }

    /// A track does not go on, perhaps its group neither.
    fn failed(&mut self, now: Instant, id: TrackId, why: Failed) {
        let words = match why {
            Failed::Lost(words) => match self.group.track_lost(now, id) {
                Ok(()) => words,
                Err(broken) => {
                    self.give_up(Abort::NoTrack, format!("{broken} ({words})"));
                    words
                }
            },
            Failed::Broken(broken) => {
                self.give_up(Abort::Protocol, format!("the peer broke the protocol: {broken}"));
                return;
            }
        };
        self.replace(id, &words);
    }

    /// Resets a track and, where this end opens them, opens another one.
    fn replace(&mut self, id: TrackId, words: &str) {
        let Some(at) = self.tracks.iter().position(|track| track.id == id) else { return };
        let track = self.tracks.swap_remove(at);
        let index = track.index;
        let replaced = self.is_wanted(index) && !track.retired;
        self.closing.spawn(track.carrier.reset());
        if self.group.state() != State::Open || !replaced && self.dialer.is_some() {
            return;
        }
        self.why = Some(format!("track {} was lost: {words}", id.0));
        if let Some(dialer) = &self.dialer {
            self.dials.spawn(dialer.clone().dial(index, 1));
        }
    }

    fn give_up(&mut self, abort: Abort, why: String) {
        if self.group.state() == State::Open {
            self.why = Some(why);
            self.group.abort(abort);
        }
    }

    fn poll_local(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(local) = &mut self.local else { return false };
        match move_local(local, &mut *self.group, cx, now) {
            Ok(moved) => moved,
            Err(error) => {
                // All was said both ways, or else it matters.
                self.give_up(Abort::Reset, format!("the connection at this end broke: {error}"));
                if let Some(local) = self.local.take() {
                    local.reset();
                }
                true
            }
        }
    }

    fn keep_time(&mut self, now: Instant) {
        if self.group.poll_timeout().is_some_and(|at| now >= at) {
            self.group.handle_timeout(now);
            while let Some(id) = self.group.poll_hopeless(now) {
                self.replace(id, "nothing moved on it any more");
            }
        }
        if now >= self.paths_at {
            self.paths_at = now + PATHS;
            for track in &mut self.tracks {
                self.group.set_path(track.id, track.look_at_path());
            }
            self.adapt(now);
        }
    }

    /// Nothing moves: until something happens, or some time has come.
    fn wait(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let adapts =
            self.adapting.as_ref().and_then(|adapting| adapting.adapt.poll_timeout()).map(|at| at.max(self.paths_at));
        let over = self.over_at.map(|at| at + LAST_WORDS);
        let timeout = self.group.poll_timeout().into_iter().chain(over).chain(adapts).min();
        let Some(at) = timeout else { return Poll::Pending };
        self.timer.as_mut().reset(at.max(now).into());
        match self.timer.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(()) => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

fn move_local(local: &mut Local, group: &mut dyn Group, cx: &mut Context<'_>, now: Instant) -> std::io::Result<bool> {
    let mut moved = false;
    while local.wants()
        && let Some(piece) = group.deliver()
    {
        local.push(piece);
    }
    if !local.is_written()
        && let Poll::Ready(written) = local.poll_write(cx)
    {
        group.delivered(now, written?);
        moved = true;
    }
    if !local.shut && group.is_delivered() {
        local.shut_down()?;
        moved = true;
    }
    let room = group.room();
    if !local.read_ended
        && room > 0
        && let Poll::Ready(read) = local.poll_read(cx, room)
    {
        let bytes = read?;
        match bytes.is_empty() {
            true => group.take_end(now),
            false => group.take(now, bytes),
        }
        moved = true;
    }
    match local.poll_broke(cx) {
        Some(error) => Err(error),
        None => Ok(moved),
    }
}
