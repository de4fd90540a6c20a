//! Which crate may depend on which.

use super::Offence;

/// The crates of the workspace and those of the workspace that each may use.
pub type Allowed<'a> = &'a [(&'a str, &'a [&'a str])];

/// Checks one member's manifest against the table. Dev-dependencies are free: tests may reach further.
pub fn check_dependencies(file: &str, manifest: &str, allowed: Allowed<'_>) -> Vec<Offence> {
    let offence = |what: String| Offence { file: file.to_owned(), line: 0, what };
    let table: toml::Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => return vec![offence(format!("does not parse: {error}"))],
    };
    let name = table.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str).unwrap_or_default();
    let Some((_, may_use)) = allowed.iter().find(|(known, _)| *known == name) else {
        return vec![offence(format!("{name} is not in the table of crates: add it there and in ARCHITECTURE.md"))];
    };
    let mut offences = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        let Some(dependencies) = table.get(section).and_then(toml::Value::as_table) else { continue };
        for (key, value) in dependencies {
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
            let ours = allowed.iter().map(|(known, _)| *known).find(|known| is(known, package));
            if let Some(ours) = ours
                && !may_use.contains(&ours)
            {
                offences.push(offence(format!("{name} may not depend on {ours}; see the table in ARCHITECTURE.md")));
            }
        }
    }
    offences
}

/// The workspace's short names stand for packages whose names begin with "flowring-".
fn is(known: &str, package: &str) -> bool {
    known == package || known.strip_prefix("flowring-") == Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Allowed<'static> =
        &[("flowring-proto", &[]), ("libflow", &["flowring-proto"]), ("irmd", &["flowring-proto"])];

    fn check(manifest: &str) -> usize {
        check_dependencies("Cargo.toml", manifest, TABLE).len()
    }

    #[test]
    fn the_table_is_kept() {
        assert_eq!(check("[package]\nname = 'irmd'\n[dependencies]\nproto.workspace = true\ntokio = '1'"), 0);
        assert_eq!(check("[package]\nname = 'irmd'\n[dependencies]\nlibflow.workspace = true"), 1);
        assert_eq!(check("[package]\nname = 'irmd'\n[build-dependencies]\nx = { package = 'libflow' }"), 1);
        assert_eq!(check("[package]\nname = 'irmd'\n[dev-dependencies]\nlibflow.workspace = true"), 0);
        assert_eq!(check("[package]\nname = 'flowring-proto'\n[dependencies]\nirmd.workspace = true"), 1);
    }

    #[test]
    fn a_new_crate_must_enter_the_table() {
        assert_eq!(check("[package]\nname = 'novel'"), 1);
        assert_eq!(check("nonsense"), 1);
    }
}
