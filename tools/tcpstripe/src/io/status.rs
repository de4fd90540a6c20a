//! `tcpstripe status`: every running program answers on a socket in the run directory. And metrics.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use proto::RunDir;
use scrape::Page;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::registry::{GroupStatus, Registry, Totals};
use super::{FAILED, Failure, print};
use crate::machine::adapt::Change;

/// Who asks may be slow, but not for ever.
const ASKED: Duration = Duration::from_secs(5);
/// Scrapers that are served at a time.
const SCRAPERS: usize = 16;
/// What the metrics are written in.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The longest answer of a program that is read: some ten thousand groups.
const ANSWER: u64 = 64 << 20;

/// What one program says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
    /// What came of those that are over.
    pub totals: Totals,
}

/// The socket that answers; removed when dropped.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    registries: Arc<[Arc<Registry>]>,
}

/// Listens for who asks.
pub(super) fn listen(run_dir: Option<&Path>, registries: Arc<[Arc<Registry>]>) -> Result<Control, String> {
    let folder = folder(run_dir)?;
    let path = folder.join(format!("tcpstripe-{}.sock", std::process::id()));
    let listening = || {
        std::fs::create_dir_all(&folder)?;
        // Of a process that had this number before.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener =
        listening().map_err(|error: std::io::Error| format!("cannot listen on {}: {error}", path.display()))?;
    Ok(Control { listener, path, registries })
}

fn folder(run_dir: Option<&Path>) -> Result<PathBuf, String> {
    RunDir::find(run_dir).map(|dir| dir.path().to_owned()).map_err(|error| error.to_string())
}

impl Control {
    /// Answers until it is dropped: one at a time is enough.
    pub(super) async fn serve(self) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let answer = async {
                let status = gather(&self.registries).await;
                let text = serde_json::to_string(&status).unwrap_or_default();
                // Who asked may be gone.
                let _ = stream.write_all(text.as_bytes()).await;
            };
            let _ = tokio::time::timeout(ASKED, answer).await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may be gone with its folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn gather(registries: &[Arc<Registry>]) -> Status {
    let mut status = Status { pid: std::process::id(), groups: Vec::new(), totals: Totals::default() };
    for registry in registries {
        status.groups.extend(registry.status().await);
        let totals = registry.totals();
        status.totals.complete += totals.complete;
        status.totals.broken += totals.broken;
        status.totals.refused += totals.refused;
        status.totals.strangers += totals.strangers;
        status.totals.bytes_out += totals.bytes_out;
        status.totals.bytes_in += totals.bytes_in;
    }
    status
}

/// Asks all programs and shows what they say.
pub(super) async fn show(run_dir: Option<&Path>, json: bool) -> Result<(), Failure> {
    let folder = folder(run_dir).map_err(|why| Failure(FAILED, why))?;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("tcpstripe-")
            && name.ends_with(".sock")
            && let Some(status) = ask(&entry.path()).await
        {
            all.push(status);
        }
    }
    if all.is_empty() {
        return Err(Failure(
            FAILED,
            format!("no tcpstripe of yours runs in {}; start a proxy or a relay", folder.display()),
        ));
    }
    all.sort_by_key(|status| status.pid);
    let text = if json { tool::json(&all) } else { table(&all) };
    if print::line(text.trim_end()) { Ok(()) } else { Err(Failure(FAILED, String::new())) }
}

/// What the program behind a socket says; `None` if it is none, or of somebody else.
async fn ask(path: &Path) -> Option<Status> {
    let asking = async {
        let stream = UnixStream::connect(path).await.ok()?;
        let mut text = String::new();
        stream.take(ANSWER).read_to_string(&mut text).await.ok()?;
        serde_json::from_str(&text).ok()
    };
    tokio::time::timeout(ASKED, asking).await.ok().flatten()
}

fn table(all: &[Status]) -> String {
    let mut text = String::new();
    for status in all {
        let totals = &status.totals;
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "process {}: {} open, {} complete, {} broken, {} refused, {} strangers",
            status.pid,
            status.groups.len(),
            totals.complete,
            totals.broken,
            totals.refused,
            totals.strangers
        );
        for group in &status.groups {
            let view = &group.view;
            let _ = writeln!(
                text,
                "\n{}  {}  {:.0} s  out {}  in {}  held {}  out of order {}  blocked {:.1} s  sent again {}",
                print::printable(&group.client),
                group.rule,
                group.seconds,
                bytes(view.bytes_out),
                bytes(view.bytes_in),
                bytes(view.held),
                view.out_of_order,
                view.blocked_seconds,
                bytes(view.sent_again)
            );
            if let Some(Change { tracks, why }) = &view.adapted {
                let _ = writeln!(text, "{tracks} tracks, because {}", print::printable(why));
            }
            if !view.tracks.is_empty() {
                let _ = writeln!(text, "{}", tracks(group));
            }
        }
    }
    text
}

fn tracks(group: &GroupStatus) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["  TRACK", "OVER", "OUT", "IN", "RTT", "LOST", "IN FLIGHT", "WINDOW", "CHUNK", ""]);
    let unknown = || "-".to_owned();
    for (track, carrier) in group.view.tracks.iter().zip(&group.carriers) {
        table.add_row([
            format!("  {}", track.track),
            print::printable(carrier),
            bytes(track.bytes_out),
            bytes(track.bytes_in),
            track.rtt_ms.map_or_else(unknown, |rtt| format!("{rtt:.1} ms")),
            track.lost.to_string(),
            track.in_flight.map_or_else(unknown, bytes),
            track.window.map_or_else(unknown, bytes),
            bytes(track.chunk),
            match (track.stalled, track.retired) {
                (true, _) => "stalled".to_owned(),
                (false, true) => "ending".to_owned(),
                (false, false) => String::new(),
            },
        ]);
    }
    table
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count}"),
        10_000..10_000_000 => format!("{:.1}k", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

/// Serves for ever.
pub(super) async fn serve_metrics(listener: TcpListener, registries: Arc<[Arc<Registry>]>) {
    let page = move |_| {
        let registries = registries.clone();
        async move { Some(Page { text: metrics(&gather(&registries).await).into(), content_type: CONTENT_TYPE }) }
    };
    scrape::serve(listener, "tcpstripe", SCRAPERS, page).await;
}

/// Prometheus' text format 0.0.4. Numbers only, and no label: nothing a peer says is in it.
fn metrics(status: &Status) -> String {
    let totals = &status.totals;
    let open = |of: fn(&GroupStatus) -> f64| status.groups.iter().map(of).sum::<f64>();
    let rows: [(&str, &str, &str, f64); 11] = [
        ("groups_open", "gauge", "clients carried now", status.groups.len() as f64),
        ("tracks_open", "gauge", "tracks of open groups", open(|group| group.view.tracks.len() as f64)),
        (
            "tracks_stalled",
            "gauge",
            "of them stalled",
            open(|group| group.view.tracks.iter().filter(|track| track.stalled).count() as f64),
        ),
        (
            "held_bytes",
            "gauge",
            "bytes of open groups that wait for those before them",
            open(|group| group.view.held as f64),
        ),
        ("groups_complete_total", "counter", "groups that ended in order", totals.complete as f64),
        ("groups_broken_total", "counter", "groups that were cut short", totals.broken as f64),
        ("clients_refused_total", "counter", "clients or groups beyond the most", totals.refused as f64),
        ("strangers_total", "counter", "tracks that were none", totals.strangers as f64),
        (
            "ended_out_bytes_total",
            "counter",
            "bytes taken from local sides by groups that are over",
            totals.bytes_out as f64,
        ),
        (
            "ended_in_bytes_total",
            "counter",
            "bytes delivered to local sides by groups that are over",
            totals.bytes_in as f64,
        ),
        (
            "open_bytes",
            "gauge",
            "bytes that open groups have carried, both ways",
            open(|group| (group.view.bytes_out + group.view.bytes_in) as f64),
        ),
    ];
    rows.iter().fold(String::new(), |mut text, (name, kind, help, value)| {
        // Writing to a String does not fail.
        let _ =
            write!(text, "# HELP tcpstripe_{name} {help}\n# TYPE tcpstripe_{name} {kind}\ntcpstripe_{name} {value}\n");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let table = [(0, "0"), (9_999, "9999"), (10_000, "10.0k"), (12_345_678, "12.3M"), (20_000_000_000, "20.0G")];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let status = Status { pid: 1, groups: Vec::new(), totals: Totals { complete: 3, ..Totals::default() } };
        let text = metrics(&status);
        assert!(
            text.contains("# TYPE tcpstripe_groups_complete_total counter\ntcpstripe_groups_complete_total 3\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 33);
    }
}
