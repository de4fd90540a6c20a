//! What can go wrong with a name server, and how it is said.

use std::fmt;

/// Why a name server gave no answer that can be used, or did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing came back in time.
    NoAnswer,
    /// The network or the system said no, in its words.
    Unreachable(String),
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NOTAUTH without a word about the key: the server is not the zone's.
    NotAuth,
    /// NOTIMP.
    NotImplemented,
    /// FORMERR.
    FormErr,
    /// NOTZONE.
    NotZone,
    /// Another response code.
    Code(u16),
    /// BADKEY: the server has no key of this name, or of another algorithm.
    BadKey(String),
    /// BADSIG: the server has another secret under the key's name.
    BadSig(String),
    /// BADTIME: the clocks differ; the server's, seconds since 1970, where it says.
    BadTime(Option<u64>),
    /// The answer is not signed, or not with the key.
    NotSigned,
    /// What came back cannot be read, in the decoder's words.
    Malformed(String),
    /// Others changed the record each time in between.
    Contended,
    /// More records stand at the name than anybody should have.
    TooMany,
    /// The key's file cannot be used, and why.
    Key(String),
    /// No name server is known, and why.
    NoServer(String),
}

impl fmt::Display for Trouble {
    /// What happened; the sentence around it says to what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("did not answer in time"),
            Self::Unreachable(words) => write!(f, "cannot be reached ({words})"),
            Self::ServFail => f.write_str("has failed to find out (SERVFAIL)"),
            Self::Refused => f.write_str("refused to do it (REFUSED)"),
            Self::NotAuth => f.write_str("does not answer for the zone (NOTAUTH)"),
            Self::NotImplemented => f.write_str("cannot do it (NOTIMP)"),
            Self::FormErr => f.write_str("did not understand the question (FORMERR)"),
            Self::NotZone => f.write_str("says that the name is not in the zone (NOTZONE)"),
            Self::Code(code) => write!(f, "answered with the error {code}"),
            Self::BadKey(key) => write!(f, "does not know the key {key} (NOTAUTH, BADKEY)"),
            Self::BadSig(key) => write!(f, "has another secret for the key {key} (NOTAUTH, BADSIG)"),
            Self::BadTime(_) => f.write_str("has another time than this host (NOTAUTH, BADTIME)"),
            Self::NotSigned => f.write_str("gave an answer that is not signed with the key"),
            Self::Malformed(words) => write!(f, "gave an answer that cannot be read ({words})"),
            Self::Contended => f.write_str("has had the record changed by others each time in between"),
            Self::TooMany => f.write_str("has more records for the name than can be true"),
            Self::Key(words) | Self::NoServer(words) => f.write_str(words),
        }
    }
}

impl Trouble {
    /// What to do next.
    fn advice(&self, registering: bool) -> &'static str {
        match self {
            Self::NoAnswer | Self::Unreachable(_) => "check that it runs and that nothing on the way drops DNS",
            Self::ServFail => "its log says why",
            Self::Refused if registering => "let the key update the zone there (allow-update, update-policy, acl)",
            Self::Refused => "let this host ask it, or give another --dns-server",
            Self::NotAuth => "give the zone's primary with --dns-server, or correct --dns-zone",
            Self::NotImplemented => "give a server that takes dynamic updates with --dns-server",
            Self::NotZone => "correct --dns-zone",
            Self::BadKey(_) => "give the key that the server has with --dns-key, or add it there",
            Self::BadSig(_) => "copy the key's file from the server again",
            Self::BadTime(_) => "set the clocks, as by NTP",
            Self::NotSigned => "something on the way changes answers, or it is another server",
            Self::TooMany => "remove what does not belong there",
            Self::FormErr | Self::Code(_) | Self::Malformed(_) | Self::Contended => "its log may say more",
            Self::Key(_) => "correct --dns-key",
            Self::NoServer(_) => "give one with --dns-server",
        }
    }

    /// The sentence about a look-up.
    pub fn of_lookup(&self, name: &str, domain: &str, server: &str) -> String {
        let clock = self.clock();
        match self {
            Self::Key(_) | Self::NoServer(_) => {
                format!("{name} could not be looked up as {domain}: {self}; {}", self.advice(false))
            }
            _ => format!(
                "{name} could not be looked up as {domain}: name server {server} {self}{clock}; {}",
                self.advice(false)
            ),
        }
    }

    /// The sentence about an update.
    pub fn of_update(&self, name: &str, domain: &str, server: &str) -> String {
        let clock = self.clock();
        match self {
            Self::Key(_) | Self::NoServer(_) => {
                format!("{name} could not be written to DNS as {domain}: {self}; {}", self.advice(true))
            }
            _ => format!(
                "{name} could not be written to DNS as {domain}: name server {server} {self}{clock}; {}",
                self.advice(true)
            ),
        }
    }

    fn clock(&self) -> String {
        match self {
            Self::BadTime(Some(theirs)) => format!(": it is {theirs} there, in seconds since 1970"),
            _ => String::new(),
        }
    }

    /// Whether an answer that was kept from before may still be used: the server did not deny anything.
    pub fn is_outage(&self) -> bool {
        !matches!(self, Self::Refused | Self::NotAuth | Self::NotZone)
    }
}
