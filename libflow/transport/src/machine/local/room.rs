//! How much each side may send and open: a window, moved on as the receiver gets rid of what came.

use super::MESSAGE_COST;

/// What a message of `len` bytes takes of the window.
pub(super) fn cost(len: usize) -> u64 {
    len as u64 + MESSAGE_COST
}

/// How much this side may use, as the other one says.
#[derive(Debug, Default)]
pub(super) struct Budget {
    used: u64,
    /// Beyond the first window.
    raised: u64,
}

impl Budget {
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn has(&self, more: u64, window: u64) -> bool {
        self.used.saturating_add(more) <= self.raised.saturating_add(window)
    }

    pub(super) fn take(&mut self, more: u64, window: u64) -> bool {
        let fits = self.has(more, window);
        if fits {
            self.used += more;
        }
        fits
    }

    #[cfg(test)]
    pub(super) fn left(&self, window: u64) -> u64 {
        self.raised + window - self.used
    }

    pub(super) fn untake(&mut self, what: u64) {
        self.used = self.used.saturating_sub(what);
    }

    /// The other side said its limit; false if it is lower than before.
    pub(super) fn raise(&mut self, limit: u64, window: u64) -> bool {
        let raised = limit.checked_sub(window).filter(|raised| *raised >= self.raised);
        self.raised = raised.unwrap_or(self.raised);
        raised.is_some()
    }
}

/// How much the other side may use, as this one says.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    used: u64,
    given_back: u64,
    /// Of what was given back, what the other side has been told.
    told: u64,
}

impl Allowance {
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// The other side used so much; false if it had not that much.
    pub(super) fn take(&mut self, more: u64, window: u64) -> bool {
        let fits = self.used.saturating_add(more) <= self.told.saturating_add(window);
        if fits {
            self.used += more;
        }
        fits
    }

    /// True: the other side is to be told, since much came back or little is left.
    pub(super) fn give_back(&mut self, what: u64, window: u64) -> bool {
        self.given_back += what;
        self.given_back - self.told >= window / 4 || self.used + window / 4 >= self.told + window
    }

    /// True: little is left of what the other side was told, and it may have more. Who holds all it opens gives nothing back,
    /// so using is when it is to be told, too.
    pub(super) fn is_short(&self, window: u64) -> bool {
        self.given_back > self.told && self.used + window / 4 >= self.told + window
    }

    /// The limit to tell.
    pub(super) fn limit(&self, window: u64) -> u64 {
        self.given_back.saturating_add(window)
    }

    /// It was told.
    pub(super) fn tell(&mut self) {
        self.told = self.given_back;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many came and went before, a whole window can be used by who gives nothing back.
    #[test]
    fn a_window_is_a_window_whatever_was_before() {
        const WINDOW: u64 = 1024;
        for before in [0, 1, 100, 255, 256, 700, 1023, 5000] {
            let (mut there, mut here) = (Budget::default(), Allowance::default());
            let tell = |here: &mut Allowance, there: &mut Budget| {
                assert!(there.raise(here.limit(WINDOW), WINDOW));
                here.tell();
            };
            for _ in 0..before {
                assert!(there.take(1, WINDOW) && here.take(1, WINDOW));
                if here.is_short(WINDOW) | here.give_back(1, WINDOW) {
                    tell(&mut here, &mut there);
                }
            }
            for at_once in 0..WINDOW {
                assert!(there.take(1, WINDOW), "{at_once} at once after {before}");
                assert!(here.take(1, WINDOW));
                if here.is_short(WINDOW) {
                    tell(&mut here, &mut there);
                }
            }
            assert!(!there.take(1, WINDOW), "more than a window after {before}");
        }
    }
}
