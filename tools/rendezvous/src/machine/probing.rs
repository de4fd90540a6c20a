//! Who finds out what NAT it is behind asks from where it is seen, at both ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::rendezvous::Said;

use super::counts::Reason;
use super::server::{Asker, Role, Server, Via};

impl Server {
    /// Who asks where it comes from, and whether the other port reaches it.
    pub(super) fn probe(&mut self, now: Instant, asker: &Asker, said: &Said) -> Result<(), Reason> {
        let (alternate, to) = match *said {
            Said::NatProbe { alternate } => (alternate, asker.from),
            // Only ever to the address that asks: whoever spoofs that may as well send there itself.
            Said::NatReach { port } => (false, SocketAddr::new(asker.from.ip(), port)),
            _ => return Err(Reason::Unasked),
        };
        self.admit_stranger(now, asker)?;
        let place = &self.places[asker.via.place];
        let other = match asker.via.role {
            Role::Other => Some(place.main),
            Role::Main | Role::Relay => place.other,
        };
        let ip = self.reached_at(asker);
        let seen = Said::NatSeen {
            public: asker.from,
            alternate: other.map(|other| SocketAddr::new(ip, other.port())).filter(|at| !at.ip().is_unspecified()),
        };
        let role = match (alternate, asker.via.role) {
            (false, role) => role,
            (true, Role::Main) if other.is_some() => Role::Other,
            (true, Role::Other) => Role::Main,
            // There is no other port: no answer is the truth.
            (true, _) => return Err(Reason::Unasked),
        };
        self.counts.probes += 1;
        self.send(Via { role, ..asker.via }, to, asker.back().encode_bare(&seen));
        Ok(())
    }

    /// Under which address the asker reaches this server.
    fn reached_at(&self, asker: &Asker) -> IpAddr {
        let advertised = self.rules.advertise.iter().find(|ip| ip.is_ipv4() == asker.from.is_ipv4());
        let main = self.places[asker.via.place].main.ip();
        advertised.copied().unwrap_or(if main.is_unspecified() { asker.via.local.unwrap_or(main) } else { main })
    }
}
