//! The link of a host, as tests turn its knobs.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};

use crate::io::emulator::Emulator;
use crate::switch::Switch;
use crate::{Counts, Link};

/// Where a host is attached. A plain veth pair until somebody wants a link there.
pub(crate) struct Wire {
    switch: Arc<Switch>,
    number: u8,
    emulator: Mutex<Option<Emulator>>,
}

impl Wire {
    pub(crate) fn new(switch: Arc<Switch>, number: u8) -> Self {
        Self { switch, number, emulator: Mutex::new(None) }
    }
}

/// The link between a host and what it is attached to. *Up* is from the host, *down* to it.
///
/// A host that never had its link set is attached by a plain veth pair, with nothing in between. The first call of
/// [`set`](Self::set) or [`cut`](Self::cut) puts the emulator there, where it stays: a packet under way at that moment may
/// be lost.
#[derive(Clone, Copy)]
pub struct HostLink<'a> {
    host: &'a str,
    wire: Option<&'a Wire>,
}

impl<'a> HostLink<'a> {
    pub(crate) fn new(host: &'a str, wire: Option<&'a Wire>) -> Self {
        Self { host, wire }
    }

    /// Sets both directions; a round trip has the delay twice. Holds when this returns; what is under way leaves as
    /// decided before, and the dice start anew.
    pub fn set(&self, link: Link) -> Result<()> {
        self.set_each(link, link)
    }

    /// Sets each direction.
    pub fn set_each(&self, up: Link, down: Link) -> Result<()> {
        for link in [&up, &down] {
            link.check().map_err(|what| anyhow!("host {}: {what}", self.host))?;
        }
        self.with(|emulator| emulator.set([up, down]))
    }

    /// Nothing passes from now on, and what is under way is lost. Nobody is told: there is still a carrier.
    pub fn cut(&self) -> Result<()> {
        self.with(|emulator| emulator.cut(true))
    }

    /// It passes again, as it was set.
    pub fn restore(&self) -> Result<()> {
        self.with(|emulator| emulator.cut(false))
    }

    /// What was done so far: up, down. All zero for a plain veth pair.
    pub fn counts(&self) -> Result<(Counts, Counts)> {
        let guard = self.wire()?.emulator.lock().unwrap_or_else(PoisonError::into_inner);
        let [up, down] = guard.as_ref().map(Emulator::counts).transpose()?.unwrap_or_default();
        Ok((up, down))
    }

    fn wire(&self) -> Result<&'a Wire> {
        self.wire.with_context(|| {
            format!("host {} is on loopback, where there is no link to set; make the lab with Lab::new", self.host)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Emulator) -> Result<T>) -> Result<T> {
        let wire = self.wire()?;
        let mut guard = wire.emulator.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let made = wire.switch.interpose(self.host, wire.number);
            *guard = Some(made.with_context(|| format!("a link at host {}", self.host))?);
        }
        work(guard.as_ref().context("it was just made")?)
    }
}
