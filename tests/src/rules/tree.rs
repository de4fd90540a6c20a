//! All files of the workspace, each under its rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::is_test;
use super::{Kind, LONG_FILE, Offence, check_source};

/// What a walk over the workspace found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files read.
    pub files: usize,
    /// Pure files among them.
    pub pure: usize,
    /// Places that break a rule.
    pub offences: Vec<Offence>,
    /// Files on their way to being too long: (file, lines).
    pub long: Vec<(String, usize)>,
}

/// Checks every `.rs` file under `root` but those of `target/` folders and of hidden ones.
pub fn check_tree(root: &Path) -> std::io::Result<Found> {
    let mut files = Vec::new();
    walk(root, &mut files)?;
    files.sort();
    let mut sources = Vec::new();
    let mut test_files = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        test_files.extend(test_modules(&path, &text));
        sources.push((path, text));
    }
    let mut found = Found::default();
    for (path, text) in sources {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let kind = kind(&name, test_files.contains(&path));
        found.files += 1;
        found.pure += usize::from(kind == Kind::Pure);
        found.offences.extend(check_source(&name, kind, &text));
        let lines = text.lines().count();
        if lines > LONG_FILE {
            found.long.push((name, lines));
        }
    }
    Ok(found)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name == "target" || name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() && !hidden {
            walk(&entry.path(), files)?;
        } else if name.to_string_lossy().ends_with(".rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn kind(name: &str, is_test_file: bool) -> Kind {
    let folders: Vec<&str> = name.split('/').collect();
    // The `src` of a crate below `tests/` is source like any other.
    let in_tests = folders.iter().rev().take_while(|f| **f != "src").any(|f| ["tests", "benches"].contains(f));
    if folders.last() == Some(&"main.rs") {
        Kind::Main
    } else if is_test_file || in_tests {
        Kind::Plain
    } else if folders.contains(&"machine") || name.ends_with("/machine.rs") || name.starts_with("proto/src/") {
        Kind::Pure
    } else {
        Kind::Plain
    }
}

/// The files of modules that are declared under `#[cfg(test)]`: tests in a file of their own.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let Ok(parsed) = syn::parse_file(text) else { return Vec::new() };
    let folder = match path.file_name().and_then(|n| n.to_str()) {
        Some("mod.rs" | "lib.rs" | "main.rs") => path.parent().map(Path::to_path_buf),
        _ => Some(path.with_extension("")),
    };
    let mut out = Vec::new();
    for item in parsed.items {
        if let (syn::Item::Mod(item), Some(folder)) = (item, &folder)
            && item.content.is_none()
            && item.attrs.iter().any(is_test)
        {
            if let Some(other) = item.attrs.iter().find_map(path_of) {
                out.push(path.with_file_name(other));
            }
            out.push(folder.join(format!("{}.rs", item.ident)));
            out.push(folder.join(item.ident.to_string()).join("mod.rs"));
        }
    }
    out
}

/// The file of a `#[path = "…"]`, relative to the file it stands in.
fn path_of(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) if pair.path.is_ident("path") => {
            Some(text.value())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Found {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        check_tree(folder.path()).unwrap()
    }

    #[test]
    fn a_folder_named_machine_is_pure() {
        let impure = "async fn f() {}";
        let found = tree(&[
            ("irmd/src/machine/flow.rs", impure),
            ("irmd/src/machine.rs", impure),
            ("proto/src/id.rs", impure),
            ("irmd/src/io/flow.rs", impure),
            ("irmd/tests/machine/flow.rs", impure),
            ("tests/lab/src/machine/lane.rs", impure),
            ("target/debug/machine/flow.rs", impure),
        ]);
        let files: Vec<_> = found.offences.iter().map(|o| o.file.as_str()).collect();
        let impure =
            ["irmd/src/machine/flow.rs", "irmd/src/machine.rs", "proto/src/id.rs", "tests/lab/src/machine/lane.rs"];
        assert_eq!(files, impure);
        assert_eq!((found.files, found.pure), (6, 4));
    }

    #[test]
    fn a_file_of_tests_beside_a_machine_may_read_the_clock() {
        let clock = "fn now() { Instant::now(); }";
        let found = tree(&[
            ("a/src/machine/mod.rs", "#[cfg(test)]\nmod props;\nmod flow;"),
            ("a/src/machine/props.rs", clock),
            ("a/src/machine/flow.rs", "#[cfg(test)]\nmod tests;\n"),
            ("a/src/machine/flow/tests.rs", clock),
            ("a/src/machine/ping.rs", "#[cfg(test)]\n#[path = \"ping_tests.rs\"]\nmod tests;\n"),
            ("a/src/machine/ping_tests.rs", clock),
        ]);
        assert_eq!(found.offences, []);
        let found = tree(&[("a/src/machine/mod.rs", "mod props;"), ("a/src/machine/props.rs", clock)]);
        assert_eq!(found.offences.len(), 1);
    }

    #[test]
    fn long_files_are_named_before_they_are_too_long() {
        let found = tree(&[("a/src/x.rs", &"const _: () = ();\n".repeat(LONG_FILE + 1))]);
        assert_eq!(found.offences, []);
        assert_eq!(found.long, [("a/src/x.rs".to_owned(), LONG_FILE + 1)]);
    }
}
