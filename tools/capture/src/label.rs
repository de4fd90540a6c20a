//! What a capture says of the flow it is about.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The flow that a capture is about, as the comment of its section says it in one line:
///
/// ```text
/// Flowring flow 12 raw 10.0.0.1:40000 <-> 10.0.0.2:41000 layer net name echo
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its id at the host where it was captured.
    pub flow: u64,
    /// `raw`, `message` or `stream`.
    pub cube: String,
    /// This host's end.
    pub local: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
    /// The layer.
    pub layer: String,
    /// The name it was allocated to.
    pub name: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, cube, local, peer, layer, name } = self;
        write!(f, "Flowring flow {flow} {cube} {local} <-> {peer} layer {layer} name {name}")
    }
}

/// Not the comment of a flow's capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no label of a flow")]
pub struct NoLabel;

impl FromStr for Label {
    type Err = NoLabel;

    fn from_str(text: &str) -> Result<Self, NoLabel> {
        let text = text.strip_prefix("Flowring flow ").ok_or(NoLabel)?;
        let mut words = text.splitn(5, ' ');
        let mut word = || words.next().ok_or(NoLabel);
        let flow = word()?.parse().map_err(|_| NoLabel)?;
        let cube = word()?.to_owned();
        let local = word()?.parse().map_err(|_| NoLabel)?;
        let _arrow = word()?;
        let (peer, rest) = word()?.split_once(" layer ").ok_or(NoLabel)?;
        let (layer, name) = rest.split_once(" name ").ok_or(NoLabel)?;
        let peer = peer.parse().map_err(|_| NoLabel)?;
        Ok(Self { flow, cube, local, peer, layer: layer.to_owned(), name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let label = Label {
            flow: 12,
            cube: "stream".into(),
            local: "[fd00::1]:40000".parse().unwrap(),
            peer: "[fd00::2]:3359".parse().unwrap(),
            layer: "net".into(),
            name: "a name of words".into(),
        };
        assert_eq!(label.to_string().parse(), Ok(label));
        for other in ["", "Flowring flow x", "Flowring flow 1 raw 10.0.0.1:1 <-> 10.0.0.2:2", "a comment"] {
            assert_eq!(other.parse::<Label>(), Err(NoLabel));
        }
    }
}
