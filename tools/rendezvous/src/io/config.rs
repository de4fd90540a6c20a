//! The configuration with its keys, from a file or the command line.

use anyhow::bail;
use service::source::Source;

use super::key;
use crate::cli::{self, Serve};
use crate::machine::{Limits, RelayRules, Rules, SessionRules};
use crate::said::file::{self, File, Options, SessionFile};

/// What was said, and where it can be read again.
pub(super) struct Given {
    pub(super) source: Option<Source>,
    serve: Serve,
}

impl Given {
    /// From a command line.
    pub(super) fn new(serve: &Serve) -> anyhow::Result<Self> {
        let source = serve.config.as_deref().map(Source::file).transpose()?;
        if source.is_none() && serve.session.is_none() {
            bail!("there is no session; give --config FILE, or --session NAME and --key-file FILE");
        }
        Ok(Self { source, serve: serve.clone() })
    }

    /// Reads it, and the key files. What the command line says comes before the file.
    pub(super) fn read(&self) -> anyhow::Result<(Options, Rules)> {
        let serve = &self.serve;
        let (mut options, mut rules) = match &self.source {
            Some(source) => read(source)?,
            None => self.words()?,
        };
        if !serve.listen.is_empty() {
            options.listen.clone_from(&serve.listen);
        }
        if options.listen.is_empty() {
            options.listen.push(cli::LISTEN);
        }
        options.metrics = serve.run.metrics.or(options.metrics);
        options.drain = serve.run.drain.or(options.drain);
        rules.hide_local |= serve.hide_local;
        if !serve.advertise.is_empty() {
            rules.advertise.clone_from(&serve.advertise);
        }
        if serve.relay && rules.relay.is_none() {
            rules.relay = Some(RelayRules::default());
        }
        Ok((options, rules))
    }

    /// The one session of a command line.
    fn words(&self) -> anyhow::Result<(Options, Rules)> {
        let (Some(name), Some(key_file)) = (&self.serve.session, &self.serve.key_file) else {
            bail!("there is no session; give --config FILE, or --session NAME and --key-file FILE");
        };
        file::check_name(name).map_err(|what| anyhow::anyhow!("--session: {what}"))?;
        let session = SessionFile { name: name.clone(), key_file: key_file.clone(), members: None, relay: true };
        Ok((Options::default(), rules(File { sessions: vec![session], limits: Limits::default(), ..File::default() })?))
    }
}

/// A file of configuration.
pub(super) fn read(source: &Source) -> anyhow::Result<(Options, Rules)> {
    let file = source.read(File::parse)?;
    Ok((file.options.clone(), rules(file)?))
}

fn rules(file: File) -> anyhow::Result<Rules> {
    let sessions = file.sessions.into_iter().map(|session| {
        let key = key::read(&session.name, &session.key_file)?;
        Ok(SessionRules { name: session.name.into(), key, members: session.members, relay: session.relay })
    });
    Ok(Rules {
        hide_local: file.options.hide_local,
        advertise: file.options.advertise,
        limits: file.limits,
        relay: file.relay,
        sessions: sessions.collect::<anyhow::Result<_>>()?,
    })
}
