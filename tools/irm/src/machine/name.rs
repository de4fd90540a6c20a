//! Names as a listing.

use proto::v1;
use serde::Serialize;

use super::rules::RuleSet;
use super::table::{Column, number, render, words};
use super::text::{policy, printable, process};

/// One name in `irm name list --json`.
#[derive(Debug, Serialize)]
pub struct NameRow {
    name: String,
    policy: &'static str,
    layers: Vec<String>,
    programs: Vec<ProgramRow>,
    processes: Vec<ProcessRow>,
    accepting: u32,
    pending: u32,
    owner: Option<String>,
    rules: RuleSet,
    registrations: Vec<RegistrationRow>,
}

/// How a name stands in a layer's directory.
#[derive(Debug, Serialize)]
struct RegistrationRow {
    layer: String,
    state: String,
    domain: Option<String>,
    expires_s: Option<u32>,
    next_s: Option<u32>,
    failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProgramRow {
    path: String,
    args: Vec<String>,
    auto: bool,
    user: Option<String>,
}

/// A process, as the kernel told it.
#[derive(Debug, Serialize)]
pub struct ProcessRow {
    pid: u32,
    uid: u32,
    gid: u32,
    command: Option<String>,
    #[serde(skip)]
    text: String,
}

impl ProcessRow {
    /// `None` for no process.
    pub(super) fn of(info: Option<v1::Process>) -> Option<Self> {
        info.filter(|p| p.pid != 0).map(Self::from)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// `oping (4711)`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl From<v1::Process> for ProcessRow {
    fn from(info: v1::Process) -> Self {
        let text = process(Some(&info));
        Self { pid: info.pid, uid: info.uid, gid: info.gid, command: super::ipcp::given(info.command), text }
    }
}

impl From<v1::NameInfo> for NameRow {
    fn from(info: v1::NameInfo) -> Self {
        let program = |p: v1::BoundProgram| ProgramRow {
            path: p.path,
            args: p.args,
            auto: p.auto_start,
            user: super::ipcp::given(p.user),
        };
        Self {
            policy: policy(info.policy()),
            name: info.name,
            layers: info.layers,
            programs: info.programs.into_iter().map(program).collect(),
            processes: info.processes.into_iter().map(ProcessRow::from).collect(),
            accepting: info.accepting,
            pending: info.pending,
            owner: super::ipcp::given(info.owner),
            rules: info.rules.unwrap_or_default().into(),
            registrations: info.registrations.into_iter().map(RegistrationRow::from).collect(),
        }
    }
}

impl From<v1::Registration> for RegistrationRow {
    fn from(info: v1::Registration) -> Self {
        let in_dns = info.state != "local";
        let lives = matches!(info.state.as_str(), "published" | "failing" | "withdrawing");
        Self {
            layer: info.layer,
            domain: super::ipcp::given(info.domain),
            expires_s: (lives && info.expires_s != 0).then_some(info.expires_s),
            next_s: in_dns.then_some(info.next_s),
            failure: super::ipcp::given(info.failure),
            state: info.state,
        }
    }
}

const COLUMNS: [Column; 7] = [
    words("NAME"),
    words("POLICY"),
    words("LAYERS"),
    words("PROGRAMS"),
    words("PROCESSES"),
    number("ACCEPTING"),
    number("PENDING"),
];

/// The listing as a table.
pub fn table(rows: &[NameRow]) -> String {
    render(&COLUMNS, rows.iter().map(cells))
}

fn cells(row: &NameRow) -> Vec<String> {
    vec![
        printable(&row.name),
        row.policy.to_owned(),
        joined(row.layers.iter().map(|layer| layer_text(layer, &row.registrations))),
        joined(row.programs.iter().map(program_text)),
        joined(row.processes.iter().map(|p| p.text.clone())),
        row.accepting.to_string(),
        row.pending.to_string(),
    ]
}

/// The layer, and what is not as it should be in its directory.
fn layer_text(layer: &str, registrations: &[RegistrationRow]) -> String {
    let off =
        |row: &&RegistrationRow| (layer == "*" || row.layer == layer) && !["local", "published"].contains(&&*row.state);
    match registrations.iter().find(off) {
        Some(row) => format!("{} (DNS: {})", printable(layer), printable(&row.state)),
        None => printable(layer),
    }
}

fn program_text(program: &ProgramRow) -> String {
    let mut text = printable(&program.path);
    for arg in &program.args {
        text.push(' ');
        text.push_str(&printable(arg));
    }
    if program.auto {
        text.push_str(" (auto)");
    }
    text
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let text = words.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<NameRow> {
        let program = v1::BoundProgram {
            path: "/usr/bin/oping".into(),
            args: vec!["--listen".into(), "echo".into()],
            auto_start: true,
            user: "www-data".into(),
        };
        let served = v1::NameInfo {
            name: "echo".into(),
            policy: v1::LoadBalancing::Spill.into(),
            programs: vec![program],
            processes: vec![v1::Process { pid: 12, uid: 1000, gid: 1000, command: "oping".into() }],
            layers: vec!["net".into(), "net6".into()],
            accepting: 1,
            pending: 0,
            registrations: vec![v1::Registration {
                name: "echo".into(),
                layer: "net6".into(),
                state: "failing".into(),
                domain: "echo.flows.test".into(),
                next_s: 4,
                failure: "no answer".into(),
                ..Default::default()
            }],
            owner: "1000".into(),
            rules: Some(v1::NameRules { serve: vec!["alice".into(), "@www".into()], ..Default::default() }),
        };
        let bare = v1::NameInfo { name: "idle".into(), ..Default::default() };
        [served, bare].into_iter().map(NameRow::from).collect()
    }

    #[test]
    fn names_as_a_table() {
        let want = "\
NAME  POLICY       LAYERS                    PROGRAMS                             PROCESSES   ACCEPTING  PENDING
echo  spill        net, net6 (DNS: failing)  /usr/bin/oping --listen echo (auto)  oping (12)          1        0
idle  round-robin  -                         -                                    -                   0        0
";
        assert_eq!(table(&sample()), want);
    }

    #[test]
    fn names_as_json() {
        let want = r#"{"name":"echo","policy":"spill","layers":["net","net6"],"programs":[{"path":"/usr/bin/oping","args":["--listen","echo"],"auto":true,"user":"www-data"}],"processes":[{"pid":12,"uid":1000,"gid":1000,"command":"oping"}],"accepting":1,"pending":0,"owner":"1000","rules":{"serve":["alice","@www"],"allow_local":null,"allow_remote":null,"deny_remote":null,"identities":null},"registrations":[{"layer":"net6","state":"failing","domain":"echo.flows.test","expires_s":null,"next_s":4,"failure":"no answer"}]}"#;
        assert_eq!(serde_json::to_string(&sample()[0]).unwrap(), want);
    }
}
