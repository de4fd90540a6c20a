//! One part of a bench instead of all.

use anyhow::{Result, ensure};

/// What of a bench is wanted.
pub(crate) struct Part<'a>(Option<&'a str>);

impl<'a> Part<'a> {
    /// `part` is one of `all`; none: all of them.
    pub(crate) fn of(all: &[&str], part: Option<&'a str>) -> Result<Self> {
        ensure!(
            part.is_none_or(|part| all.contains(&part)),
            "there is no part {:?} of it; there are {}",
            part.unwrap_or_default(),
            all.join(", ")
        );
        Ok(Self(part))
    }

    /// Whether it is to be measured.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.is_none_or(|part| part == name)
    }

    /// Whether all is, so that it may be written down.
    pub(crate) fn is_all(&self) -> bool {
        self.0.is_none()
    }
}
