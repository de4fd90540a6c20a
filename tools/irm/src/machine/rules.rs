//! Rules of names and patterns, and judgements by them, as listings.

use proto::v1;
use serde::Serialize;

use super::table::{Column, render, words};
use super::text::printable;

/// Who may use a name; `None` leaves it to a pattern or the default, an empty list is nobody.
#[derive(Debug, Default, Serialize)]
pub struct RuleSet {
    serve: Option<Vec<String>>,
    allow_local: Option<Vec<String>>,
    allow_remote: Option<Vec<String>>,
    deny_remote: Option<Vec<String>>,
    identities: Option<Vec<String>>,
}

/// The rules of one pattern in `irm name rules --json`.
#[derive(Debug, Serialize)]
pub struct RuleRow {
    pattern: String,
    rules: RuleSet,
}

/// One judgement in `irm name may --json`.
#[derive(Debug, Serialize)]
pub struct RulingRow {
    verb: String,
    allowed: bool,
    why: String,
}

impl From<v1::NameRules> for RuleSet {
    fn from(rules: v1::NameRules) -> Self {
        let list = |words: Vec<String>| match words.as_slice() {
            [] => None,
            [word] if word == "none" => Some(Vec::new()),
            _ => Some(words),
        };
        Self {
            serve: list(rules.serve),
            allow_local: list(rules.allow_local),
            allow_remote: list(rules.allow_remote),
            deny_remote: list(rules.deny_remote),
            identities: list(rules.identities),
        }
    }
}

impl From<v1::RuleInfo> for RuleRow {
    fn from(info: v1::RuleInfo) -> Self {
        Self { pattern: info.pattern, rules: info.rules.unwrap_or_default().into() }
    }
}

impl From<v1::Ruling> for RulingRow {
    fn from(ruling: v1::Ruling) -> Self {
        Self { verb: ruling.verb, allowed: ruling.allowed, why: ruling.why }
    }
}

const COLUMNS: [Column; 6] = [
    words("PATTERN"),
    words("SERVE"),
    words("ALLOW-LOCAL"),
    words("ALLOW-REMOTE"),
    words("DENY-REMOTE"),
    words("IDENTITIES"),
];

/// The rules of patterns as a table.
pub fn table(rows: &[RuleRow]) -> String {
    let cell = |list: &Option<Vec<String>>| match list {
        None => "-".to_owned(),
        Some(list) if list.is_empty() => "none".to_owned(),
        Some(list) => printable(&list.join(",")),
    };
    let cells = |row: &RuleRow| {
        let RuleSet { serve, allow_local, allow_remote, deny_remote, identities } = &row.rules;
        let lists = [serve, allow_local, allow_remote, deny_remote, identities];
        std::iter::once(printable(&row.pattern)).chain(lists.map(cell)).collect()
    };
    render(&COLUMNS, rows.iter().map(cells))
}

/// Judgements, a line each.
pub fn rulings(rows: &[RulingRow]) -> String {
    let line = |row: &RulingRow| {
        let answer = if row.allowed { "yes" } else { "no" };
        format!("{}: {answer}: {}\n", printable(&row.verb), printable(&row.why))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_a_table_and_as_json() {
        let rules = v1::NameRules {
            serve: vec!["@games".into(), "alice".into()],
            allow_remote: vec!["none".into()],
            identities: vec!["any".into()],
            ..v1::NameRules::default()
        };
        let rows = [RuleRow::from(v1::RuleInfo { pattern: "game.*".into(), rules: Some(rules) })];
        let want = "\
PATTERN  SERVE         ALLOW-LOCAL  ALLOW-REMOTE  DENY-REMOTE  IDENTITIES
game.*   @games,alice  -            none          -            any
";
        assert_eq!(table(&rows), want);
        let want = r#"[{"pattern":"game.*","rules":{"serve":["@games","alice"],"allow_local":null,"allow_remote":[],"deny_remote":null,"identities":["any"]}}]"#;
        assert_eq!(serde_json::to_string(&rows).unwrap(), want);
    }

    #[test]
    fn judgements_are_one_line_each() {
        let ruling = |verb: &str, allowed| v1::Ruling { verb: verb.into(), allowed, why: "so it\u{1b} is".into() };
        let rows: Vec<_> = [ruling("serve", false), ruling("allocate", true)].map(RulingRow::from).into();
        assert_eq!(rulings(&rows), "serve: no: so it\\u{1b} is\nallocate: yes: so it\\u{1b} is\n");
    }
}
