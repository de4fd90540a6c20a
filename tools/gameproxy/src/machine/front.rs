//! What a client side does: who may send, and to which ports.

use std::net::{IpAddr, SocketAddr};

use super::matching;
use super::names::Names;
use super::offer::Offer;
use crate::said::rule::{Access, Rules};

/// Access list and ports of a client side; no names are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Who may send. The first that matches decides; where none does, nobody may.
    pub access: Vec<Access>,
    /// Where players send to; an unspecified address is all of the machine's.
    pub ports: Vec<SocketAddr>,
}

impl Front {
    /// That of the machine whose own addresses these are, where the rules are read: what is for a place that it does not have is
    /// its too, so that opening it says what is wrong.
    pub fn here(rules: &Rules, names: &Names, own: &[IpAddr]) -> Self {
        let plain = rules.redirects.iter().filter(|redirect| redirect.on.is_none());
        let mut machine = own.to_vec();
        machine.extend(plain.flat_map(|redirect| names.addresses(&redirect.from.host)));
        Offer::of(rules, names).front(&machine)
    }

    /// What of rules concerns a client side that has a file of its own: not where the datagrams go, nor the names that only that
    /// needs.
    pub fn part(mut rules: Rules) -> Rules {
        for redirect in &mut rules.redirects {
            redirect.to.clear();
            redirect.access.clear();
        }
        rules
    }

    /// Whether a player may send.
    pub fn lets(&self, player: SocketAddr) -> bool {
        matching::lets(&self.access, &Names::default(), player)
    }
}
