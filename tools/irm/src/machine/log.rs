//! What daemons log, as a listing.

use proto::v1;
use serde::Serialize;

use super::table::{Column, render, words};
use super::text::printable;

const COLUMNS: [Column; 3] = [words("DAEMON"), words("FILTER"), words("THEN")];

/// One daemon in `irm log --json`.
#[derive(Debug, PartialEq, Serialize)]
pub struct LogRow {
    daemon: String,
    filter: String,
    /// The filter that holds again after `left_seconds`.
    #[serde(rename = "then")]
    back_to: Option<String>,
    left_seconds: Option<u32>,
    /// Why the daemon could not be asked, or did not change it.
    failure: Option<String>,
}

impl LogRow {
    /// Whether the daemon said no.
    pub fn failed(&self) -> bool {
        self.failure.is_some()
    }
}

impl From<v1::LogState> for LogRow {
    fn from(state: v1::LogState) -> Self {
        let v1::LogState { daemon, filter, then, left_s, failure } = state;
        let passing = !then.is_empty();
        Self {
            daemon,
            filter,
            back_to: passing.then_some(then),
            left_seconds: passing.then_some(left_s),
            failure: Some(failure).filter(|why| !why.is_empty()),
        }
    }
}

/// The listing as a table.
pub fn table(rows: &[LogRow]) -> String {
    let cells = rows.iter().map(|row| {
        let then = match (&row.failure, &row.back_to) {
            (Some(why), _) => printable(why),
            (None, Some(then)) => format!("{} in {} s", printable(then), row.left_seconds.unwrap_or(0)),
            (None, None) => "-".to_owned(),
        };
        vec![printable(&row.daemon), printable(&row.filter), then]
    });
    render(&COLUMNS, cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_daemon_is_a_row() {
        let state = |daemon: &str, filter: &str, then: &str, failure: &str| v1::LogState {
            daemon: daemon.into(),
            filter: filter.into(),
            then: then.into(),
            left_s: 42,
            failure: failure.into(),
        };
        let rows: Vec<LogRow> = [
            state("irmd", "info", "", ""),
            state("udp0", "debug", "info", ""),
            state("udp1", "", "", "it did not answer"),
        ]
        .map(LogRow::from)
        .into();
        let text = "DAEMON  FILTER  THEN\nirmd    info    -\nudp0    debug   info in 42 s\nudp1            it did not answer\n";
        assert_eq!(table(&rows), text);
        assert!(rows[2].failed() && !rows[1].failed());
        let json = serde_json::to_value(&rows[1]).unwrap();
        assert_eq!((json["then"].as_str(), json["left_seconds"].as_u64()), (Some("info"), Some(42)));
    }
}
