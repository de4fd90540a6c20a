//! Where a flow to a name would go, as far as this host knows.

use proto::MOST_NAMES;
use proto::v1::{self, ResolveOutcome};

use super::{Answer, Irm, Reply, check_version, parse_name};

impl Irm {
    /// Names that begin so and that something on this host serves.
    pub(super) fn names_below(&self, request: &v1::NamesRequest) -> Answer {
        check_version(request.version)?;
        let prefix = parse_name(&request.prefix)?;
        let layer = request.layer.as_str();
        if !layer.is_empty() {
            self.check_known_layer(layer)?;
        }
        let served = self.names.below(&prefix).filter(|(name, entry)| **name != prefix && entry.is_bound());
        let wanted = served.filter(|(_, entry)| layer.is_empty() || entry.layers.contains(layer));
        let names = wanted.map(|(name, entry)| (name.to_string(), entry.processes().next().is_none()));
        let names = names.take(MOST_NAMES + 1).collect();
        Ok(Some(Reply::NamesHere(names)))
    }

    /// Changes when such names may be others.
    pub fn serving(&self) -> u64 {
        self.names.serving()
    }

    pub(super) fn name_resolve(&self, request: &v1::NameResolveRequest) -> Answer {
        let name = parse_name(&request.name)?;
        let layer = request.layer.as_str();
        if !layer.is_empty() {
            self.check_known_layer(layer)?;
        }
        let entry = self.names.get(name.as_str());
        let (outcome, won, said) = match entry {
            None => (ResolveOutcome::Unknown, false, "the name does not exist on this host".to_owned()),
            Some(entry) => {
                let serving = match (entry.processes().count(), entry.starts()) {
                    (0, false) => "nobody serves it".to_owned(),
                    (0, true) => "a program is started for it when a flow arrives".to_owned(),
                    (1, _) => "one process serves it".to_owned(),
                    (n, _) => format!("{n} processes serve it"),
                };
                let layers = entry.layers.to_texts();
                let where_to = if layers.is_empty() {
                    "registered in no layer".to_owned()
                } else {
                    format!("registered in {}", layers.join(", "))
                };
                // As a flow goes: see `route`.
                let won = if layer.is_empty() {
                    entry.is_bound() || !entry.layers.is_empty()
                } else {
                    entry.layers.contains(layer)
                };
                let outcome = if won { ResolveOutcome::Found } else { ResolveOutcome::Unknown };
                (outcome, won, format!("the name exists on this host: {serving}, {where_to}"))
            }
        };
        let step = v1::ResolveStep { source: "bound".into(), outcome: outcome.into(), won, said, ..Default::default() };
        let asked = |ipcp: &&super::ipcp::Ipcp| !ipcp.layer().is_empty() && (layer.is_empty() || layer == ipcp.layer());
        let ipcps = self.ipcps.iter().filter(asked).map(|ipcp| (ipcp.name.clone(), ipcp.layer().to_owned()));
        Ok(Some(Reply::Resolving(step, ipcps.collect())))
    }
}
