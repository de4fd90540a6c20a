//! Who comes in, and where to: asked once for each new player, never for a datagram of one that is there.

use std::net::SocketAddr;
use std::time::Instant;

pub use crate::said::frame::Player;
use crate::said::rule::{Carriage, Dropped, Host, Place, Rules, TokenAt};

/// Which client side a player comes through: the flow's number in this process, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What a new player's route is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The redirect's place in the rules of now.
    pub redirect: usize,
    /// The server's place in the redirect.
    pub target: usize,
    /// Its address.
    pub server: SocketAddr,
    /// How the datagrams are carried.
    pub carriage: Carriage,
    /// What is taken out of each datagram.
    pub strip: Option<TokenAt>,
    /// Datagrams a second, a second's worth at once.
    pub rate: Option<u32>,
}

/// Lets players in.
#[derive(Debug, Default)]
pub struct Door {
    rules: Rules,
}

impl Door {
    /// By these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// The rules of now.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A player's first datagram: where it goes. Each that is let in [leaves](Self::leave) once.
    pub fn enter(
        &mut self,
        _now: Instant,
        _through: ClientId,
        player: Player,
        _first: &[u8],
    ) -> Result<Choice, Dropped> {
        let fits = |from: &Place| match from.host {
            Host::Address(ip) => from.port == player.orig.port() && (ip.is_unspecified() || ip == player.orig.ip()),
            Host::Named(_) => false,
        };
        let mut found = self.rules.redirects.iter().enumerate().filter(|(_, redirect)| fits(&redirect.from));
        let (redirect, rule) = found.next().ok_or(Dropped::NoRedirect)?;
        let server = rule.to.first().and_then(|target| target.place.address()).ok_or(Dropped::NoServer)?;
        Ok(Choice { redirect, target: 0, server, carriage: rule.carriage, strip: None, rate: None })
    }

    /// A player that was let in is gone.
    pub fn leave(&mut self, _through: ClientId, _player: Player, _choice: &Choice) {}
}
