//! Commands about who hosts are, on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Listing;
use crate::machine::argument::name;

const SHOW_EXAMPLES: &str = "\
Examples:
  irm identity show                          the fingerprint others know this host by
  irm identity show --request > host.csr     for a CA to sign; then irm identity install
  irm identity show --cert > host.pem        the certificate as it is shown to others";

const TRUST_EXAMPLES: &str = "\
Only those that are named are trusted with the name from then on. Of a whole name and the patterns that match it the one
decides that says most. Whoever is no administrator trusts single hosts, for flows of its own.

Examples:
  irm identity trust backup SHA256:LHDhK3oGRvkie/Qnx7OOczTY5Tg5m0Xb3Sg9mYhYqcE
  irm identity trust 'game.*' --ca /etc/flowring/ca.pem";

const ALLOW_EXAMPLES: &str = "\
Only those that are named may allocate flows to the name from then on, of the hosts that --allow-remote lets in; raw
flows from other hosts, which show no identity, are refused. Within this host the rule --allow-local decides.

Examples:
  irm identity allow backup SHA256:LHDhK3oGRvkie/Qnx7OOczTY5Tg5m0Xb3Sg9mYhYqcE
  irm identity allow 'game.*' any            whoever shows an identity
  irm identity disallow backup               nobody has to show one any more";

/// `irm identity …`
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Which host this is to others
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Print the host's certificate, and those that vouch for it, as PEM
        #[arg(long, conflicts_with_all = ["request", "json"])]
        cert: bool,
        /// Print a request that a CA signs the host's certificate, as PEM (PKCS #10)
        #[arg(long, conflicts_with = "json")]
        request: bool,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
    /// Show the certificate that a CA made for this host's key
    Install {
        /// PEM: the host's certificate, then those that lead to the CA
        #[arg(required_unless_present = "self_signed")]
        file: Option<PathBuf>,
        /// Go back to the one that the host signs itself
        #[arg(long, conflicts_with = "file")]
        self_signed: bool,
    },
    /// Trust a host, or the hosts of a CA, with a name
    #[command(after_help = TRUST_EXAMPLES)]
    Trust {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name)]
        name: String,
        /// Who
        #[command(flatten)]
        who: Who,
    },
    /// Trust a host, or all that were named or remembered, with a name no longer
    Forget {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name)]
        name: String,
        /// Who
        #[command(flatten)]
        who: Whom,
    },
    /// List who is trusted with which name
    List(Listing),
    /// Let a host, or the hosts of a CA, allocate flows to a name, and only such
    #[command(after_help = ALLOW_EXAMPLES)]
    Allow {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name)]
        name: String,
        /// Who; or `any`, whoever shows an identity
        #[command(flatten)]
        who: Who,
    },
    /// Let it no longer; without saying whom, nobody has to show an identity
    Disallow {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name)]
        name: String,
        /// Who
        #[command(flatten)]
        who: Whom,
    },
}

/// An identity, which must be given.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[group(id = "who", required = true, multiple = false)]
pub struct Who {
    /// A host: SHA256: and 43 characters, as irm identity show prints it there
    pub fingerprint: Option<String>,
    /// A file of CAs, as PEM; irmd reads it now and when it starts
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// An identity, or all there are.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[group(id = "whom", multiple = false)]
pub struct Whom {
    /// A host: SHA256: and 43 characters
    pub fingerprint: Option<String>,
    /// A file of CAs
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
