//! The rules of ARCHITECTURE.md and CONTRIBUTING.md that no compiler reads. What each rule finds is tested beside it,
//! in `src/rules/`.

use std::path::{Path, PathBuf};

use flowring_tests::rules::{self, Allowed};

/// The table of ARCHITECTURE.md.
const CRATES: Allowed<'static> = &[
    ("flowring-proto", &[]),
    ("flowring-handoff", &["flowring-proto"]),
    ("flowring-identity", &["flowring-proto"]),
    ("flowring-transport", &["flowring-proto", "flowring-identity"]),
    ("libflow", &["flowring-proto", "flowring-handoff", "flowring-identity", "flowring-transport"]),
    ("libflow-capi", &["libflow"]),
    ("flowring-logs", &["flowring-proto"]),
    ("flowring-scrape", &[]),
    ("irmd", &["flowring-proto", "flowring-handoff", "flowring-identity", "flowring-logs", "flowring-scrape"]),
    ("flowring-pace", &[]),
    ("flowring-gateway", &[]),
    ("ipcpd-udp", &["flowring-proto", "flowring-handoff", "flowring-logs", "flowring-pace", "flowring-gateway"]),
    ("irm", &["flowring-proto", "flowring-gateway", "flowring-tool", "libflow", "flowring-capture"]),
    ("oping", &["flowring-proto", "flowring-tool", "libflow"]),
    ("operf", &["flowring-proto", "flowring-tool", "libflow"]),
    ("flowcat", &["flowring-proto", "flowring-tool", "libflow"]),
    ("flowtop", &["flowring-proto", "flowring-tool"]),
    ("flowdump", &["flowring-proto", "flowring-tool", "flowring-capture"]),
    ("portfwd", &["flowring-proto", "flowring-service", "flowring-tool", "flowring-datagrams", "libflow"]),
    ("tcpstripe", &["flowring-proto", "flowring-scrape", "flowring-tool", "libflow"]),
    ("gameproxy", &["flowring-proto", "flowring-service", "flowring-tool", "flowring-datagrams", "libflow"]),
    (
        "rendezvous",
        &["flowring-proto", "flowring-service", "flowring-tool", "flowring-datagrams", "flowring-pace", "libflow"],
    ),
    ("flowring-datagrams", &[]),
    ("flowring-capture", &[]),
    ("flowring-tool", &["flowring-proto"]),
    ("flowring-service", &["flowring-proto", "flowring-scrape"]),
    ("flowring-lab", &[]),
    ("flowring-sim", &[]),
    (
        "flowring-tests",
        &["flowring-proto", "flowring-handoff", "libflow", "flowring-lab", "flowring-capture", "irmd", "ipcpd-udp"],
    ),
    (
        "xtask",
        &[
            "flowring-lab",
            "irmd",
            "ipcpd-udp",
            "irm",
            "oping",
            "operf",
            "flowcat",
            "flowtop",
            "flowdump",
            "portfwd",
            "tcpstripe",
            "gameproxy",
            "rendezvous",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

#[test]
fn the_source_keeps_its_rules() {
    let found = rules::check_tree(&root()).unwrap();
    for (file, lines) in &found.long {
        eprintln!("{file}: {lines} lines, more than {}: time to split it", rules::LONG_FILE);
    }
    assert!(found.files > 20 && found.pure > 10, "the walk missed the source: {} files", found.files);
    let list: Vec<String> = found.offences.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} places break a rule:\n{}", list.len(), list.join("\n"));
}

#[test]
fn crates_depend_on_each_other_as_written_down() {
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let mut offences = Vec::new();
    for member in members {
        let file = format!("{}/Cargo.toml", member.as_str().unwrap());
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        offences.extend(rules::check_dependencies(&file, &text, CRATES));
    }
    assert_eq!(members.len(), CRATES.len(), "the table names crates that are no members");
    let list: Vec<String> = offences.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{}", list.join("\n"));
}
