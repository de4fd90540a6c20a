//! More tracks of a running group, or fewer, as its machine decides.

use std::time::Instant;

use super::print;
use super::tie::Tie;
use crate::machine::State;
use crate::machine::adapt::{Adapt, Change};

/// How many tracks there are to be, and for whom.
pub(super) struct Adapting {
    pub(super) adapt: Adapt,
    pub(super) client: String,
}

impl Adapting {
    /// How many tracks there are to be, and why; nothing where their number is given.
    pub(super) fn told(&self) -> Option<Change> {
        let (tracks, why) = (self.adapt.wanted(), self.adapt.why().to_owned());
        self.adapt.adapts().then_some(Change { tracks, why })
    }
}

impl Tie {
    /// Whether there is to be a track with this number.
    pub(super) fn is_wanted(&self, index: u16) -> bool {
        self.adapting.as_ref().is_none_or(|adapting| index < adapting.adapt.wanted())
    }

    /// Looks whether another number of tracks is better by now.
    pub(super) fn adapt(&mut self, now: Instant) {
        let (Some(adapting), Some(dialer)) = (&mut self.adapting, &self.dialer) else { return };
        if !adapting.adapt.adapts() || self.group.state() != State::Open {
            return;
        }
        let before = adapting.adapt.wanted();
        let Some(change) = adapting.adapt.look(now, self.group.reading()) else { return };
        if change.tracks != before {
            let tracks = if change.tracks == 1 { "1 track".to_owned() } else { format!("{} tracks", change.tracks) };
            print::log(&format!("{}: {tracks}, because {}", adapting.client, change.why));
        }
        for index in before..change.tracks {
            self.dials.spawn(dialer.clone().dial_more(index));
        }
        self.retire();
    }

    /// Tracks that are not wanted any more take nothing new.
    pub(super) fn retire(&mut self) {
        let Some(adapting) = &self.adapting else { return };
        let wanted = adapting.adapt.wanted();
        for track in self.tracks.iter_mut().filter(|track| track.index >= wanted && !track.retired) {
            track.retired = true;
            self.group.retire(track.id);
        }
    }

    /// Closes tracks that have ended both ways before their group.
    pub(super) fn part(&mut self) -> bool {
        if self.group.state() != State::Open || !self.group.may_part() {
            return false;
        }
        while self.closing.try_join_next().is_some() {}
        let Some(at) = self.tracks.iter().position(|track| track.finished && track.is_read_out()) else { return false };
        let track = self.tracks.swap_remove(at);
        // Over flows, losing a track breaks nothing.
        let _ = self.group.track_lost(Instant::now(), track.id);
        self.closing.spawn(track.carrier.close());
        if let Some(dialer) = &self.dialer
            && !track.retired
        {
            // It was the other end that wanted to be rid of it; nobody of ours does that.
            self.dials.spawn(dialer.clone().dial(track.index, 1));
        }
        true
    }
}
