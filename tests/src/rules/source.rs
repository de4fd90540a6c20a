//! The rules that a single file keeps.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::tokens::{Token, flat};
use super::{MAX_FILE, MAX_FUNCTION, MAX_MAIN, Offence};

/// What a file is, which says which rules it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Decides: under a `machine/` folder, or in `proto`. No clock, socket, lock, task or thread.
    Pure,
    /// A `main.rs`: short.
    Main,
    /// Any other.
    Plain,
}

/// Sequences of tokens that a pure file does not contain. A word that starts a sequence stands alone: `std::fs` is
/// found in `use std::fs;`, not in `std::fsx`.
const IMPURE: [(&str, &str); 28] = [
    ("async", "a machine does not wait; it gives outputs and a timeout"),
    ("await", "a machine does not wait; it gives outputs and a timeout"),
    ("tokio", "tasks and timers live in io/"),
    ("Instant :: now", "time is an input: take `now: Instant`"),
    ("SystemTime", "time is an input: take `now: Instant`"),
    (". elapsed (", "it reads the clock: subtract two inputs"),
    ("UdpSocket", "sockets live in io/"),
    ("TcpStream", "sockets live in io/"),
    ("TcpListener", "sockets live in io/"),
    ("UnixStream", "sockets live in io/"),
    ("UnixDatagram", "sockets live in io/"),
    ("UnixListener", "sockets live in io/"),
    ("socket2", "sockets live in io/"),
    ("AsyncFd", "sockets live in io/"),
    ("Mutex", "one task owns a machine; nothing in it is shared"),
    ("RwLock", "one task owns a machine; nothing in it is shared"),
    ("Condvar", "one task owns a machine; nothing in it is shared"),
    ("thread ::", "threads live in io/"),
    ("std :: fs", "files live in io/"),
    ("File ::", "files live in io/"),
    ("process :: Command", "processes are started by io/"),
    ("Command :: new", "processes are started by io/"),
    ("getrandom", "randomness is an input: take a seed"),
    ("OsRng", "randomness is an input: take a seed"),
    ("SysRng", "randomness is an input: take a seed"),
    ("thread_rng", "randomness is an input: take a seed"),
    ("from_os_rng", "randomness is an input: take a seed"),
    ("println", "output is done by io/"),
];

const BANNED_MODULES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];
const BANNED_ENDINGS: [&str; 2] = ["Manager", "Helper"];

/// Everything in `source` that breaks a rule of its kind. Tests inside a pure file may use clocks and sockets.
pub fn check_source(file: &str, kind: Kind, source: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut offend = |line: usize, what: String| offences.push(Offence { file: file.to_owned(), line, what });
    let lines = source.lines().count();
    if lines > MAX_FILE {
        offend(0, format!("{lines} lines; a file has at most {MAX_FILE}: give its parts files of their own"));
    }
    if kind == Kind::Main && lines > MAX_MAIN {
        offend(0, format!("{lines} lines; a main.rs has at most {MAX_MAIN}: move the work into the library"));
    }
    let (parsed, tokens) = match (syn::parse_file(source), flat(source)) {
        (Ok(parsed), Ok(tokens)) => (parsed, tokens),
        (Err(error), _) => return vec![unreadable(file, error.span().start().line, &error.to_string())],
        (_, Err(error)) => return vec![unreadable(file, 0, &error)],
    };
    let mut seen = Seen::default();
    seen.visit_file(&parsed);
    for (line, what) in seen.offences {
        offend(line, what);
    }
    for (line, what) in missing_reasons(&tokens) {
        offend(line, what);
    }
    if kind == Kind::Pure {
        let decides: Vec<&Token> = tokens.iter().filter(|t| !seen.tests.iter().any(|r| r.contains(&t.line))).collect();
        for (line, what) in impurities(&decides) {
            offend(line, what);
        }
    }
    offences
}

fn unreadable(file: &str, line: usize, error: &str) -> Offence {
    Offence { file: file.to_owned(), line, what: format!("does not parse: {error}") }
}

fn impurities(tokens: &[&Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (words, reason) in IMPURE {
        let words: Vec<&str> = words.split(' ').collect();
        for window in tokens.windows(words.len()) {
            if window.iter().map(|t| t.text.as_str()).eq(words.iter().copied()) {
                found.push((window[0].line, format!("`{}` in a machine: {reason}", words.concat())));
            }
        }
    }
    found
}

/// `allow` and `expect` attributes without a reason.
fn missing_reasons(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let attribute = matches!(token.text.as_str(), "allow" | "expect")
            && at > 0
            && tokens[at - 1].text == "["
            && tokens.get(at + 1).is_some_and(|t| t.text == "(");
        if !attribute {
            continue;
        }
        let inside = tokens[at + 1..].iter().take_while(|t| t.text != "]");
        if !inside.into_iter().any(|t| t.text == "reason") {
            found.push((token.line, format!("#[{}] without a reason: add `reason = \"…\"`", token.text)));
        }
    }
    found
}

/// What a walk through a parsed file finds.
#[derive(Default)]
struct Seen {
    offences: Vec<(usize, String)>,
    /// Lines of `#[cfg(test)]` items.
    tests: Vec<std::ops::RangeInclusive<usize>>,
}

impl Seen {
    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let span = block.brace_token.span;
        let (first, last) = (span.open().start().line, span.close().end().line);
        let lines = last.saturating_sub(first + 1);
        if lines > MAX_FUNCTION {
            self.offences.push((
                first,
                format!("fn {name} has {lines} lines; a function has at most {MAX_FUNCTION}: name its steps"),
            ));
        }
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let text = name.to_string();
        if BANNED_ENDINGS.iter().any(|end| text.ends_with(end)) {
            self.offences
                .push((name.span().start().line, format!("{text}: name it after what it is, not *Manager, *Helper")));
        }
    }

    fn note_test(&mut self, attributes: &[syn::Attribute], item: &impl syn::spanned::Spanned) {
        if attributes.iter().any(is_test) {
            let span = item.span();
            self.tests.push(span.start().line..=span.end().line);
        }
    }
}

/// `#[cfg(test)]`, alone or among other conditions, and `#[test]`.
pub(super) fn is_test(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && list.tokens.clone().into_iter().any(|t| t.to_string() == "test")
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note_test(&item.attrs, item);
        self.function(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note_test(&item.attrs, item);
        self.function(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.note_test(&item.attrs, item);
        let name = item.ident.to_string();
        if BANNED_MODULES.contains(&name.as_str()) {
            self.offences.push((item.span().start().line, format!("mod {name}: say what is in it")));
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_test(&item.attrs, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.note_test(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note_test(&item.attrs, item);
        self.type_name(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note_test(&item.attrs, item);
        self.type_name(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.type_name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.type_name(&item.ident);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, source: &str) -> Vec<(usize, String)> {
        check_source("x.rs", kind, source).into_iter().map(|o| (o.line, o.what)).collect()
    }

    #[test]
    fn each_impurity_is_found_in_a_machine_and_nowhere_else() {
        for (words, _) in IMPURE {
            let source = match words {
                "async" => "async fn f() {}".to_owned(),
                "await" => "fn f() { g().await }".to_owned(),
                "tokio" => "use tokio::time;".to_owned(),
                ". elapsed (" => "fn f(t: Instant) { t.elapsed() }".to_owned(),
                "println" => "fn f() { println!(\"\") }".to_owned(),
                words if words.ends_with("::") => format!("fn f() {{ {}spawn() }}", words.replace(' ', "")),
                words => format!("fn f() {{ {}() }}", words.replace(' ', "")),
            };
            assert_eq!(found(Kind::Pure, &source).len(), 1, "{source}: {:?}", found(Kind::Pure, &source));
            assert_eq!(found(Kind::Plain, &source), [], "{source}");
        }
    }

    #[test]
    fn words_in_comments_texts_and_tests_are_free() {
        let source = "//! no tokio, no await\nconst A: &str = \"Mutex\";\nuse std::net::{IpAddr, SocketAddr};\n\
                      #[cfg(test)]\nmod tests {\n use std::sync::Mutex;\n fn now() { Instant::now(); }\n}\n";
        assert_eq!(found(Kind::Pure, source), []);
        assert_eq!(found(Kind::Pure, &source.replace("#[cfg(test)]\n", "")).len(), 2);
    }

    #[test]
    fn sizes_are_counted() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines));
        assert_eq!(found(Kind::Plain, &function(MAX_FUNCTION)), []);
        assert_eq!(found(Kind::Plain, &function(MAX_FUNCTION + 1)).len(), 1);
        let method = format!("impl A {{ {} }}", function(MAX_FUNCTION + 1));
        assert_eq!(found(Kind::Plain, &method).len(), 1);
        let file = |lines: usize| "const _: () = ();\n".repeat(lines);
        assert_eq!(found(Kind::Plain, &file(MAX_FILE)), []);
        assert_eq!(found(Kind::Plain, &file(MAX_FILE + 1)).len(), 1);
        assert_eq!(found(Kind::Main, &file(MAX_MAIN)), []);
        assert_eq!(found(Kind::Main, &file(MAX_MAIN + 1)).len(), 1);
    }

    #[test]
    fn empty_names_are_found() {
        for source in ["mod utils {}", "mod common;", "struct FlowManager;", "enum NameHelper {}", "trait XHelper {}"] {
            assert_eq!(found(Kind::Plain, source).len(), 1, "{source}");
        }
        assert_eq!(found(Kind::Plain, "struct Managers; mod registry {}"), []);
    }

    #[test]
    fn an_exception_needs_its_reason() {
        assert_eq!(found(Kind::Plain, "#![allow(dead_code)]").len(), 1);
        assert_eq!(found(Kind::Plain, "#[expect(dead_code)] fn f() {}").len(), 1);
        assert_eq!(found(Kind::Plain, "#[expect(dead_code, reason = \"later\")] fn f() { x.expect(\"y\") }"), []);
    }

    #[test]
    fn no_rust_is_an_offence() {
        assert_eq!(found(Kind::Plain, "fn {").len(), 1);
    }
}
