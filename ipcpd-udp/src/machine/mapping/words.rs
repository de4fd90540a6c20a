//! How it stands with the router, for people.

use gateway::Gateway;

use super::{Mapper, Router};

impl Mapper {
    /// By which protocol the router maps ports that others reach; empty where it does not.
    pub(in crate::machine) fn protocol(&self) -> &'static str {
        match &self.router {
            Router::Maps { gateway, useful: true, .. } => gateway.by.as_str(),
            _ => "",
        }
    }

    /// How it stands, in words that go behind others.
    pub(in crate::machine) fn words(&self) -> String {
        match &self.router {
            Router::Unknown | Router::Sought { .. } => "the router has not said yet whether it maps ports".to_owned(),
            Router::Maps { gateway, useful: true, .. } => {
                format!("the router {} maps ports ({})", gateway.at, gateway.by)
            }
            Router::Maps { gateway: Gateway { at, by, outside }, .. } => format!(
                "the router {at} maps ports ({by}) at {outside}, where the rendezvous does not see this host: another NAT is before it"
            ),
            Router::Not { why, .. } => why.to_string(),
        }
    }

    /// The same for a flow that found no path.
    pub(in crate::machine) fn hint(&self) -> String {
        match (&self.router, &self.refused) {
            (Router::Maps { gateway, useful: true, .. }, Some(why)) => {
                format!("the router {} was asked to map a port ({}) and did not: {why}", gateway.at, gateway.by)
            }
            (Router::Not { .. }, _) => format!("{}; switch one of them on there", self.words()),
            _ => self.words(),
        }
    }
}
