//! What rules come to for a player, and why: the words of `gameproxy check`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::matching::{self, Not};
use super::names::Names;
use crate::said::grammar::{write_access, write_redirect};
use crate::said::rule::{Access, Carriage, Host, Redirect, Rules, Verdict};

/// Who is asked about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The player.
    pub player: Option<SocketAddr>,
    /// Where it sends to; none: what each redirect would do.
    pub to: Option<SocketAddr>,
    /// The addresses of the client machine; none: whichever it is.
    pub machine: Option<Vec<IpAddr>>,
}

/// All rules, one to a line, in the original's words and what it has none for.
pub fn rules(rules: &Rules, names: &Names) -> String {
    let mut out = String::new();
    for entry in &rules.access {
        let _ = writeln!(out, "global {}", write_access(entry));
    }
    for redirect in &rules.redirects {
        let _ = writeln!(out, "{}", write_redirect(redirect));
        let mut more: Vec<String> =
            redirect.to.iter().skip(1).map(|target| format!("or to {}", target.place)).collect();
        more.extend(carriage(&redirect.carriage));
        if !more.is_empty() {
            let _ = writeln!(out, "    # {}", more.join(", "));
        }
    }
    for name in crate::said::file::names(rules) {
        let host = Host::Named(name.to_owned());
        let addresses: Vec<String> = names.addresses(&host).iter().map(ToString::to_string).collect();
        let _ = match addresses.is_empty() {
            true => writeln!(out, "# {name} is not found now; what needs it waits until it is"),
            false => writeln!(out, "# {name} is {}", addresses.join(", ")),
        };
    }
    out
}

/// What happens on the way, where it is not plain.
fn carriage(carriage: &Carriage) -> Vec<String> {
    let mut words = Vec::new();
    let (up, down) = (&carriage.up, &carriage.down);
    if !up.jitter.is_zero() || !down.jitter.is_zero() {
        words.push(format!("jitter {:?} + {:?}", up.jitter, down.jitter));
    }
    if up.loss > 0 || down.loss > 0 {
        let percent = |loss: u32| f64::from(loss) / 10_000.0;
        words.push(format!("loss {} % + {} %", percent(up.loss), percent(down.loss)));
    }
    if carriage.own_source {
        words.push("each player with an address of its own".to_owned());
    }
    if carriage.proxy_header {
        words.push("with headers of the PROXY protocol".to_owned());
    }
    words
}

/// The answer to a question.
pub fn answer(rules: &Rules, names: &Names, question: &Question) -> String {
    let Some(player) = question.player else { return String::new() };
    let mut out = String::new();
    let deciding = matching::deciding(&rules.access, names, player);
    let verdict = entry_words(&rules.access, deciding, "global ");
    if !matching::lets(&rules.access, names, player) {
        let _ = writeln!(out, "{player} is not let in: {verdict}");
        unknown(&mut out, &rules.access, names, deciding);
        return out;
    }
    let _ = writeln!(out, "{player} is let in: {verdict}");
    unknown(&mut out, &rules.access, names, deciding);
    match question.to {
        Some(to) => one(&mut out, rules, names, question, player, to),
        None => every(&mut out, rules, names, question, player),
    }
    out
}

/// What a datagram to one place comes to.
fn one(out: &mut String, rules: &Rules, names: &Names, question: &Question, player: SocketAddr, to: SocketAddr) {
    let _ = writeln!(out, "a datagram to {to}:");
    for (place, redirect) in rules.redirects.iter().enumerate() {
        let took = matching::takes(redirect, names, question.machine.as_deref(), to, player);
        let _ = write!(out, "  {}. {}: ", place + 1, redirect.name);
        match took {
            Ok(()) => {
                let _ = writeln!(out, "{}", goes(redirect, names));
                let later = rules.redirects.len() - place - 1;
                if later > 0 {
                    let _ = writeln!(out, "  the {later} after it are not looked at");
                }
                return;
            }
            Err(not) => {
                let _ = writeln!(out, "no, {}", why(redirect, names, not));
            }
        }
    }
    let _ = writeln!(out, "  no redirect is for it: it is dropped");
}

/// What each place that a redirect names comes to.
fn every(out: &mut String, rules: &Rules, names: &Names, question: &Question, player: SocketAddr) {
    for (place, redirect) in rules.redirects.iter().enumerate() {
        let _ = write!(out, "{}. {}: ", place + 1, redirect.name);
        let machine = question.machine.as_deref();
        let Some(ip) = names.addresses(&redirect.from.host).first() else {
            let _ = writeln!(out, "no, {}", why(redirect, names, Not::AddressUnknown));
            continue;
        };
        let to = SocketAddr::new(*ip, redirect.from.port);
        let took = matching::takes(redirect, names, machine, to, player);
        let first = matching::first(rules, names, machine, to, player);
        let _ = match (took, first) {
            (Err(not), _) => writeln!(out, "no, {}", why(redirect, names, not)),
            (Ok(()), Some(first)) if first < place => {
                writeln!(
                    out,
                    "no, redirect {} ({}) is before it and takes the same",
                    first + 1,
                    rules.redirects[first].name
                )
            }
            (Ok(()), _) => writeln!(out, "{}", goes(redirect, names)),
        };
    }
}

/// The entry that decided.
fn entry_words(access: &[Access], deciding: Option<usize>, before: &str) -> String {
    match deciding {
        Some(place) => format!("entry {}, {before}{}", place + 1, write_access(&access[place])),
        None => format!("none of the {} entries is for it, which rejects", access.len()),
    }
}

/// Entries before the deciding one that could have decided otherwise, had their names been known.
fn unknown(out: &mut String, access: &[Access], names: &Names, deciding: Option<usize>) {
    for (place, entry) in access.iter().enumerate().take(deciding.unwrap_or(access.len())) {
        if names.addresses(&entry.from.host).is_empty() {
            let _ = writeln!(out, "  (entry {} was passed over: {} is not found now)", place + 1, entry.from.host);
        }
    }
}

fn goes(redirect: &Redirect, names: &Names) -> String {
    let server = |place: &crate::said::rule::Place| match (&place.host, names.addresses(&place.host).first()) {
        (Host::Named(_), Some(ip)) => format!("{place} ({ip})"),
        (Host::Named(_), None) => format!("{place} (not found now: it waits)"),
        (Host::Address(_), _) => place.to_string(),
    };
    let servers: Vec<String> = redirect.to.iter().map(|target| server(&target.place)).collect();
    let mut words = format!("goes to {}", servers.join(" or "));
    let (up, down) = (redirect.carriage.up.delay, redirect.carriage.down.delay);
    if !up.is_zero() || !down.is_zero() {
        let _ = write!(words, ", delayed by {up:?} there and {down:?} back");
    }
    if redirect.token.is_some() {
        words += ", by its token";
    }
    words
}

fn why(redirect: &Redirect, names: &Names, not: Not) -> String {
    match not {
        Not::Machine if redirect.on.as_ref().is_some_and(|on| names.addresses(on).is_empty()) => {
            "it is for a machine whose name is not found now: it waits until it is".to_owned()
        }
        Not::Port => format!("its port is {}", redirect.from.port),
        Not::Address => format!("its address is {}", redirect.from.host),
        Not::AddressUnknown => format!("{} is not found now: it waits until it is", redirect.from.host),
        Not::Machine => match &redirect.on {
            Some(on) => format!("it is for the machine {on}"),
            None => format!("it is for the machine {}", redirect.from.host),
        },
        Not::Denied(Some(place)) if redirect.access[place].verdict == Verdict::Deny => {
            format!("its own list says {}", write_access(&redirect.access[place]))
        }
        Not::Denied(_) => format!("none of the {} entries of its own list is for it", redirect.access.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::grammar;

    #[test]
    fn it_is_told_what_matches_and_why() {
        let text = "global deny bad.example global allow 192.168.1.0/255.255.255.0 from 1024 -
            redirect 10.0.0.1 port 27910 to q2.example 27910 deny 192.168.1.7
            redirect 10.0.0.1 port 27910 to 10.0.0.9 27911 delay 30ms+20ms
            redirect 10.0.0.1 port 27910 to 10.0.0.8 27911
            on gw redirect 10.0.0.1 port 27912 to 10.0.0.9 27912";
        let rules = grammar::parse(text).unwrap().0;
        let mut names = Names::default();
        names.learn("q2.example", &["192.0.2.1".parse().unwrap()]);
        let ask = |player: &str, to: Option<&str>| {
            let to = to.map(|to| to.parse().unwrap());
            answer(&rules, &names, &Question { player: Some(player.parse().unwrap()), to, machine: Some(vec![]) })
        };
        assert_eq!(
            ask("192.168.2.1:27901", None),
            "192.168.2.1:27901 is not let in: none of the 2 entries is for it, which rejects\n  \
             (entry 1 was passed over: bad.example is not found now)\n"
        );
        let want = "\
192.168.1.7:27901 is let in: entry 2, global allow 192.168.1.0/255.255.255.0 from 1024 -
  (entry 1 was passed over: bad.example is not found now)
a datagram to 10.0.0.1:27910:
  1. 10.0.0.1:27910: no, its own list says deny 192.168.1.7
  2. 10.0.0.1:27910: goes to 10.0.0.9:27911, delayed by 30ms there and 20ms back
  the 2 after it are not looked at
";
        assert_eq!(ask("192.168.1.7:27901", Some("10.0.0.1:27910")), want);
        let want = "\
1. 10.0.0.1:27910: no, none of the 1 entries of its own list is for it
2. 10.0.0.1:27910: goes to 10.0.0.9:27911, delayed by 30ms there and 20ms back
3. 10.0.0.1:27910: no, redirect 2 (10.0.0.1:27910) is before it and takes the same
4. gw 10.0.0.1:27912: no, it is for a machine whose name is not found now: it waits until it is
";
        assert!(ask("192.168.1.8:27901", None).ends_with(want), "{}", ask("192.168.1.8:27901", None));
        let dropped = ask("192.168.1.8:27901", Some("10.0.0.1:1"));
        assert!(
            dropped.contains("4. gw 10.0.0.1:27912: no, its port is 27912\n  no redirect is for it: it is dropped"),
            "{dropped}"
        );
        assert!(super::rules(&rules, &names).ends_with("# gw is not found now; what needs it waits until it is\n"));
    }
}
