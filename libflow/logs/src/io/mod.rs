//! The process' subscriber: made once, with a filter that is changed in place.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the timer of a passing filter")]

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use proto::v1::{self, Failure, FailureKind};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

mod late;
pub use late::note_late;

use crate::machine::escape;
use crate::machine::filter::{Filter, FilterError, State};

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// journald where systemd's journal reads, human on a terminal, else json
    Auto,
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
    /// Entries of systemd's journal, with fields
    Journald,
}

impl Format {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    state: Mutex<State>,
}

/// A process has one log.
static LOG: OnceLock<Log> = OnceLock::new();

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, state: &State) -> Result<(), FilterError> {
        let filter = env_filter(state.current())?;
        // Fails only where the subscriber is gone: then nothing is logged anyway.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// Logs from now on to standard error, or the journal. To be called once, at the start. Errors say what to do.
pub fn start(filter: &str, format: Format) -> Result<(), String> {
    let filter = Filter::new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let (reloaded, handle) = reload::Layer::new(env_filter(&filter).map_err(|error| error.to_string())?);
    let layer = layer(format)?;
    tracing_subscriber::registry().with(reloaded).with(layer).try_init().map_err(|error| error.to_string())?;
    let _ = LOG.set(Log { filter: handle, state: Mutex::new(State::new(filter)) });
    Ok(())
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Formatted = Box<dyn Layer<Filtered> + Send + Sync>;

fn layer(format: Format) -> Result<Formatted, String> {
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match format {
        Format::Auto if is_journal() => layer(Format::Journald)?,
        Format::Auto if terminal => layer(Format::Human)?,
        Format::Auto => layer(Format::Json)?,
        Format::Human => lines.with_ansi(terminal).fmt_fields(debug_fn(field).delimited(" ")).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Journald => match tracing_journald::layer() {
            Ok(journal) => journal.with_field_prefix(Some("FLOWRING".to_owned())).boxed(),
            Err(error) => {
                return Err(format!("systemd's journal cannot be reached ({error}); choose another --log-format"));
            }
        },
    })
}

/// One field of a line for people. The text was chosen by whoever.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    if field.name() != "message" {
        write!(to, "{}=", field.name())?;
    }
    escape::write(to, &text)
}

/// Whether standard error is systemd's journal, as it says itself (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| said == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn env_filter(filter: &Filter) -> Result<EnvFilter, FilterError> {
    let made = EnvFilter::try_new(filter.as_str());
    made.map_err(|error| FilterError::of(&error))
}

/// Does what a tool asks: says what is logged, and changes it before if a filter is given. To be called from the daemon's
/// runtime. A wrong filter leaves the old one.
pub fn answer(request: &v1::LogRequest) -> Result<v1::LogState, Failure> {
    if request.filter.is_empty() && request.for_s != 0 {
        return Err(Failure::new(FailureKind::Invalid, "a time was given and no filter; say what to log"));
    }
    if !request.filter.is_empty() {
        let within = Some(Duration::from_secs(request.for_s.into())).filter(|within| !within.is_zero());
        set(&request.filter, within).map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
    }
    let Some(log) = LOG.get() else { return Ok(v1::LogState::default()) };
    let state = log.lock();
    let filter = state.current().to_string();
    Ok(match state.then(Instant::now()) {
        Some((then, left)) => v1::LogState {
            filter,
            then: then.to_string(),
            // Rounded up: it is not over yet.
            left_s: u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX),
            ..v1::LogState::default()
        },
        None => v1::LogState { filter, ..v1::LogState::default() },
    })
}

fn set(filter: &str, within: Option<Duration>) -> Result<(), FilterError> {
    let filter = Filter::new(filter)?;
    env_filter(&filter)?;
    let Some(log) = LOG.get() else { return Ok(()) };
    let mut state = log.lock();
    state.set(filter, within.map(|within| Instant::now() + within));
    log.load(&state)?;
    tracing::info!("the log's filter is {} from now on", state.current());
    if let Some(until) = state.poll_timeout() {
        // Detached on purpose: it ends with the filter's time, and there are as many as an administrator sets.
        tokio::spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            let mut state = log.lock();
            if state.handle_timeout(Instant::now()) {
                let _ = log.load(&state);
            }
        });
    }
    Ok(())
}

/// The filter that lasts, for processes that are started.
pub fn lasting() -> Option<String> {
    Some(LOG.get()?.lock().lasting().to_string())
}
