//! Who may use a name, on the command line.

use clap::Args;

/// Rules of a name or pattern. What is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(id = "rule-set", multiple = true, requires = "name")]
pub struct Rules {
    /// Who may serve it: users and @groups by name or number, `owner`, `any`; or `none`, or `default`
    #[arg(long, value_name = "WHO,…", value_delimiter = ',')]
    pub serve: Vec<String>,
    /// Which users of this host may allocate flows to it; written like --serve [default: any]
    #[arg(long, value_name = "WHO,…", value_delimiter = ',')]
    pub allow_local: Vec<String>,
    /// Which other hosts may: addresses, prefixes like 10.0.0.0/8, `any`; or `none`, or `default` [default: any]
    #[arg(long, value_name = "NET,…", value_delimiter = ',')]
    pub allow_remote: Vec<String>,
    /// Which other hosts may not; the longest prefix of both lists decides
    #[arg(long, value_name = "NET,…", value_delimiter = ',')]
    pub deny_remote: Vec<String>,
    /// Of the hosts that may, those that show one of these: fingerprints, `ca:/FILE`, `any`; or `none`, or `default`
    #[arg(long, value_name = "WHO,…", value_delimiter = ',')]
    pub identities: Vec<String>,
}

/// Whom `irm name may` asks about; the caller itself if nobody is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Asker {
    /// A user of this host, by name or number [default: whoever runs irm]
    #[arg(long, value_name = "USER", conflicts_with = "from")]
    pub user: Option<String>,
    /// Another host, by its address
    #[arg(long, value_name = "ADDR", value_parser = crate::machine::argument::ip_address)]
    pub from: Option<String>,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  irm name rules web --serve alice,@www --allow-remote 10.0.0.0/8 --deny-remote 10.9.0.0/16
  irm name rules 'game.*' --serve @games     names that begin so belong to a group
  irm name rules web --serve default         what was said is taken back
  irm name rules                             the rules of all patterns

Of the rules about a name its own decides, else that of the pattern which says most of the name, else the default:
its owner serves it, everybody may allocate to it. Rules judge what is asked from now on; open flows stay.";
