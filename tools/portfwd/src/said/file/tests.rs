use std::num::NonZeroU32;

use proptest::prelude::*;

use super::super::rule::{Accept, Balance, ProxyVersion, TlsClient, TlsServer};
use super::*;

fn read(text: &str) -> Result<File, Fault> {
    File::parse(Path::new("rules"), text)
}

fn fault(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn lines_and_toml_are_told_apart_by_what_is_in_them() {
    let lines = ["7005 -> 80", "# a\n\n[::1]:7005 -> 80", "unix:/a=b -> 80", "7005 -> unix:/a=b", "\u{feff}7005 -> 80"];
    for text in lines {
        assert_eq!(read(text).unwrap().rules.len(), 1, "{text}");
    }
    for text in [
        "[[rule]]\nlisten='7005'\ntarget='80'",
        "# x -> y\n[options]\n[[rule]]\nlisten='1'\ntarget='2'",
        "rule = [{listen='1', target='2'}]",
    ] {
        assert_eq!(read(text).unwrap().rules.len(), 1, "{text}");
    }
    assert!(fault("7005 80").contains("write LISTEN -> TARGET"));
    assert!(File::parse(Path::new("a.toml"), "7005 -> 80").is_err());
    for empty in ["", "# nothing\n", "[options]\nworkers = 2"] {
        assert!(fault(empty).contains("there is no rule"), "{empty}");
    }
}

const EVERYTHING: &str = r#"
[options]
workers = 2
metrics = "127.0.0.1:9100"
drain = "1m"

[defaults]
idle-timeout = "1h"
max-connections = 100
health = { fails = 5 }

[[rule]]
name = "web"
listen = "7005"
targets = ["10.0.0.1:80", "web.example:80"]
accept = "after-target"
balance = "least-connections"
allow = ["10.0.0.0/8", "fd00::1"]
deny = ["10.9.0.0/16"]
rate = 50
connect-timeout = 2.5
keepalive = "30s"
backlog = 128
proxy-in = true
proxy-out = 2
health = { retry = "250ms", check = "2s" }
tls = { cert = "c.pem", key = "k.pem" }
target-tls = { ca = "/ca.pem", sni = "web.example" }
resolve = "10s"
layers = ["net"]

[[rule]]
listen = "udp:8000-8001"
target = "udp:10.0.0.1:53"
idle-timeout = "never"
max-connections = "none"
"#;

#[test]
fn every_option_is_read() {
    let file = read(EVERYTHING).unwrap();
    let options = Options {
        workers: NonZeroU16::new(2),
        metrics: Some("127.0.0.1:9100".parse().unwrap()),
        drain: Some(Duration::from_secs(60)),
    };
    assert_eq!(file.options, options);
    assert_eq!(file.rules.len(), 3);
    let Rule { name, listen, targets, options } = &file.rules[0];
    assert_eq!((name.as_str(), listen.to_string().as_str(), targets.len()), ("web", "7005", 2));
    assert_eq!((options.accept, options.balance), (Accept::AfterTarget, Balance::LeastConnections));
    assert_eq!(options.allow, ["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
    assert_eq!(options.deny, ["10.9.0.0/16".parse().unwrap()]);
    assert_eq!((options.max_connections, options.rate), (NonZeroU32::new(100), NonZeroU32::new(50)));
    assert_eq!(options.connect_timeout, Duration::from_millis(2500));
    assert_eq!(
        (options.idle_timeout, options.keepalive),
        (Some(Duration::from_secs(3600)), Some(Duration::from_secs(30)))
    );
    assert_eq!((options.backlog.get(), options.proxy_in, options.proxy_out), (128, true, Some(ProxyVersion::V2)));
    let health = &options.health;
    assert_eq!((health.fails.get(), health.retry.as_millis(), health.check), (5, 250, Some(Duration::from_secs(2))));
    assert_eq!(options.tls_in, Some(TlsServer { cert: "c.pem".into(), key: "k.pem".into(), client_ca: None }));
    let tls = TlsClient { verify: true, ca: Some("/ca.pem".into()), sni: Some("web.example".into()) };
    assert_eq!(options.tls_out, Some(tls));
    assert_eq!((options.resolve.as_secs(), options.layers.as_slice()), (10, &["net".to_owned()][..]));
    let udp = &file.rules[2];
    assert_eq!(udp.to_string(), "udp:8001 -> udp:10.0.0.1:53");
    assert_eq!((udp.options.idle_timeout, udp.options.max_connections), (None, None));
}

#[test]
fn what_is_wrong_is_told_with_line_column_and_one_sentence() {
    let rule = "[[rule]]\nlisten = '7005'\ntarget = '80'\n";
    let table = [
        (format!("{rule}ballance = 'x'"), "4:1: unknown field `ballance`"),
        (format!("{rule}balance = 'x'"), "4:11: balance is \"round-robin\","),
        (format!("{rule}allow = ['10.0.0.0/33']"), "4:9: \"10.0.0.0/33\" is no prefix"),
        (format!("{rule}connect-timeout = '5'"), "4:19: \"5\" is no time"),
        (format!("{rule}connect-timeout = 'never'"), "4:19: \"never\" has no place here"),
        (format!("{rule}connect-timeout = 0"), "4:19: 0 seconds are too few"),
        (format!("{rule}idle-timeout = '400d'"), "4:16: \"400d\" is too short or too long"),
        (format!("{rule}max-connections = 0"), "4:19: invalid value: integer `0`"),
        (format!("{rule}proxy-out = 3"), "4:13: invalid value: integer `3`, expected version 1 or 2"),
        (format!("{rule}proxy-in = 1"), "4:12: invalid type: integer `1`"),
        (format!("{rule}tls = {{ cert = 'x' }}"), "4:7: missing field `key`"),
        (format!("{rule}backlog = "), "4:11: "),
        ("[[rule]]\nlisten = '7005'\n".to_owned(), "1:1: the rule of 7005 has no target"),
        ("[[rule]]\ntarget = '7005'\n".to_owned(), "1:1: this rule does not say where it listens"),
        ("[[rule]]\nlisten = '7005'\ntargets = ['80', 'x']\n".to_owned(), "3:18: 'x' has no port"),
        ("[defaults]\nlisten = '7005'\n".to_owned(), "1:1: [defaults] is of all rules"),
        ("[options]\nworkers = 0\n".to_owned(), "2:11: invalid value"),
        (format!("{rule}{rule}"), "4:1: 7005 is listened at by line 1 already"),
        (
            format!("{rule}proxy-out = 2\n\n[[rule]]\nlisten='udp:1'\ntarget='udp:2'\nproxy-out = 1"),
            "6:1: proxy-out does not go with udp:1",
        ),
    ];
    for (text, want) in table {
        let said = fault(&text);
        assert!(said.starts_with(want), "{text}\n{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn no_two_rules_listen_at_the_same() {
    let table = [
        ("7005 -> 1\n7005 -> 2", true),
        ("7005 -> 1\nudp:7005 -> udp:2", false),
        ("7005 -> 1\n10.0.0.1:7005 -> 2", true),
        ("10.0.0.1:7005 -> 1\n*:7005 -> 2", true),
        ("10.0.0.1:7005 -> 1\n10.0.0.2:7005 -> 2", false),
        ("0.0.0.0:7005 -> 1\n10.0.0.2:7005 -> 2", true),
        ("0.0.0.0:7005 -> 1\n[fd00::1]:7005 -> 2", false),
        ("[::]:7005 -> 1\n10.0.0.2:7005 -> 2", true),
        ("8000-8010 -> 1\n8010 -> 2", true),
        ("8000-8010 -> 1\n8011-8012 -> 2", false),
        ("unix:/a -> 1\nunix:/a -> 2", true),
        ("flow:a -> 1\nflow:b -> 2", false),
        ("flow:a -> 1\nflow:a -> 2", true),
    ];
    for (text, wrong) in table {
        assert_eq!(read(text).is_err(), wrong, "{text}");
    }
    assert_eq!(
        fault("# x\n8000-8010 -> 1\n127.0.0.1:8010 -> 2"),
        "3:1: 127.0.0.1:8010 is listened at as 8010 by line 2 already; leave one of them"
    );
}

#[test]
fn a_file_has_so_many_rules_and_no_more() {
    assert_eq!(read("1-9999 -> 10.0.0.1:80\n10000 -> 80").unwrap().rules.len(), 10_000);
    assert!(fault("1-9999 -> 10.0.0.1:80\n10000-10001 -> 80").starts_with("2:1: these are more than 10000 rules"));
    assert!(fault("1-65535 -> 10.0.0.1:80").contains("more than"));
}

proptest! {
    #[test]
    fn no_text_makes_it_fall(text in "(\\[\\[rule\\]\\]|listen|target|=|'7005'|\"|->|[0-9a-z.:\\-# \n]|\\PC){0,60}") {
        if let Err(fault) = read(&text) {
            prop_assert!(fault.line >= 1 && fault.column >= 1 && fault.line <= text.matches('\n').count() + 1);
        }
        let _ = File::parse(Path::new("x.toml"), &text);
    }
}
