//! One-time tokens: expected, offered, expired.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use proto::shim::{Binding, Unwanted};
use proto::{FlowId, Token};

use super::LeaseId;
use crate::server::Owner;

/// Redeems that may wait for one expected token. More than one means that a token leaked.
const WAITING_PER_TOKEN: usize = 4;

/// A flow's end that waits to be taken.
#[derive(Debug)]
pub(crate) struct Offered<S> {
    pub(crate) flow: FlowId,
    pub(crate) owner: Owner,
    pub(crate) socket: S,
    pub(crate) sdu_limit: u32,
    pub(crate) ticket: Vec<u8>,
    pub(crate) unwanted: Option<Unwanted>,
    pub(crate) binding: Option<Binding>,
    pub(crate) fixed: bool,
    pub(crate) movable: bool,
}

#[derive(Debug)]
enum Entry<S> {
    /// The flow is pending; these leases wait for its end.
    Expected { waiting: Vec<LeaseId> },
    /// The flow can be taken until the deadline.
    Offered { offered: Offered<S>, until: Instant },
}

/// What a redeem finds.
#[derive(Debug, PartialEq)]
pub(crate) enum Redeemed<S> {
    /// It is the caller's; the token is used up.
    Yours(S),
    /// The flow is pending: the answer comes later.
    Wait,
    /// Too many wait for it.
    Full,
    /// Somebody else's; it stays valid for its owner.
    NotYours,
    /// Never heard of, used, withdrawn or expired.
    Unknown,
}

/// All tokens of a server.
#[derive(Debug)]
pub(crate) struct Tokens<S> {
    entries: HashMap<Token, Entry<S>>,
    /// In order of deadline, since all live equally long. Rows of tokens already used stay until their deadline.
    expiry: VecDeque<(Instant, Token)>,
}

impl<S> Tokens<S> {
    pub(crate) fn new() -> Self {
        Self { entries: HashMap::new(), expiry: VecDeque::new() }
    }

    pub(crate) fn expect(&mut self, token: Token) {
        self.entries.entry(token).or_insert(Entry::Expected { waiting: Vec::new() });
    }

    /// Makes the flow takeable until `until`; the leases that waited for it, in order.
    pub(crate) fn offer(&mut self, token: Token, offered: Offered<S>, until: Instant) -> Vec<LeaseId> {
        self.expiry.push_back((until, token));
        match self.entries.insert(token, Entry::Offered { offered, until }) {
            Some(Entry::Expected { waiting }) => waiting,
            _ => Vec::new(),
        }
    }

    /// Voids the token; the leases that waited for it.
    pub(crate) fn withdraw(&mut self, token: Token) -> (Option<FlowId>, Vec<LeaseId>) {
        match self.entries.remove(&token) {
            Some(Entry::Expected { waiting }) => (None, waiting),
            Some(Entry::Offered { offered, .. }) => (Some(offered.flow), Vec::new()),
            None => (None, Vec::new()),
        }
    }

    /// `caller` wants what the token stands for.
    pub(crate) fn redeem(&mut self, token: Token, lease: LeaseId, caller: Owner) -> Redeemed<Offered<S>> {
        match self.entries.get_mut(&token) {
            None => Redeemed::Unknown,
            Some(Entry::Expected { waiting }) if waiting.len() < WAITING_PER_TOKEN => {
                waiting.push(lease);
                Redeemed::Wait
            }
            Some(Entry::Expected { .. }) => Redeemed::Full,
            Some(Entry::Offered { offered, .. }) if offered.owner != caller => Redeemed::NotYours,
            Some(Entry::Offered { .. }) => match self.entries.remove(&token) {
                Some(Entry::Offered { offered, .. }) => Redeemed::Yours(offered),
                _ => Redeemed::Unknown,
            },
        }
    }

    /// Forgets that a lease waits. Called with the tokens it waits for.
    pub(crate) fn stop_waiting(&mut self, token: Token, lease: LeaseId) {
        if let Some(Entry::Expected { waiting }) = self.entries.get_mut(&token) {
            waiting.retain(|l| *l != lease);
        }
    }

    /// A flow whose token's time is over at `now`; call until `None`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<FlowId> {
        while self.expiry.front().is_some_and(|(until, _)| *until <= now) {
            let (_, token) = self.expiry.pop_front()?;
            // A token may have been offered anew with a later deadline.
            let over = matches!(self.entries.get(&token), Some(Entry::Offered { until, .. }) if *until <= now);
            if over && let (Some(flow), _) = self.withdraw(token) {
                return Some(flow);
            }
        }
        None
    }

    /// When `expire` has something to do next. Used tokens make it early, never late.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.expiry.front().map(|(until, _)| *until)
    }
}
