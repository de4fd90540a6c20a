//! Rulesets and what becomes of a request to 10.0.0.1:3359 that comes in over eth0.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A ruleset of one base chain `input` of table `inet t` with this policy and these rules, and a chain `more`.
fn ruleset(policy: &str, rules: &[Value], more: &[Value]) -> String {
    let chain = |name: &str| json!({"family": "inet", "table": "t", "name": name});
    let mut base = chain("input");
    base["hook"] = "input".into();
    base["policy"] = policy.into();
    let mut all = vec![json!({"metainfo": {"version": "1"}}), json!({"chain": base}), json!({"chain": chain("more")})];
    let set = json!({"family": "inet", "table": "t", "name": "ports", "elem": [22, {"range": [3000, 4000]}]});
    all.push(json!({ "set": set }));
    let map =
        json!({"family": "inet", "table": "t", "name": "verdicts", "map": "verdict", "elem": [[3359, {"drop": null}]]});
    all.push(json!({ "map": map }));
    for (chain, rules) in [("input", rules), ("more", more)] {
        for (handle, expr) in rules.iter().enumerate() {
            let rule = json!({"family": "inet", "table": "t", "chain": chain, "handle": handle + 1, "expr": expr});
            all.push(json!({ "rule": rule }));
        }
    }
    json!({ "nftables": all }).to_string()
}

fn is(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn datagram(out: bool) -> Datagram<'static> {
    Datagram { out, own: "10.0.0.1".parse().unwrap(), port: 3359, device: "eth0" }
}

fn said(ruleset: &str) -> String {
    match fate(ruleset, &datagram(false)) {
        Ok(Fate::Passes) => "passes".to_owned(),
        Ok(Fate::Dropped(place)) => format!("dropped by {} in {}", place.rule, place.chain),
        Ok(Fate::Perhaps(place)) => format!("perhaps by {} in {}", place.rule, place.chain),
        Err(why) => why,
    }
}

#[test]
fn rules_one_by_one() {
    let dport = |right: Value| is(payload("udp", "dport"), right);
    let drop = || json!({"drop": null});
    let meta = |key: &str| json!({"meta": {"key": key}});
    let state = |right: Value| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}});
    let prefix = |addr: &str| json!({"prefix": {"addr": addr, "len": 8}});
    let by_rule = "dropped by rule 1 in input";
    let table: Vec<(Value, &str)> = vec![
        (json!([drop()]), by_rule),
        (json!([{"counter": {"packets": 0}}, {"reject": {"type": "icmpx"}}]), by_rule),
        (json!([dport(3359.into()), drop()]), by_rule),
        (json!([dport(3358.into()), drop()]), "passes"),
        (json!([dport(json!({"set": [53, 3359]})), drop()]), by_rule),
        (json!([dport(json!({"range": [3000, 3400]})), drop()]), by_rule),
        (json!([dport("@ports".into()), drop()]), by_rule),
        (json!([dport("@others".into()), drop()]), "perhaps by rule 1 in input"),
        (json!([is(payload("th", "dport"), 3359.into()), drop()]), by_rule),
        (json!([is(payload("tcp", "dport"), 3359.into()), drop()]), "passes"),
        (json!([{"match": {"op": "!=", "left": payload("udp", "dport"), "right": 22}}, drop()]), by_rule),
        (json!([{"match": {"op": ">", "left": payload("udp", "dport"), "right": 1024}}, drop()]), by_rule),
        (json!([{"match": {"op": "!=", "left": payload("tcp", "dport"), "right": 22}}, drop()]), "passes"),
        (json!([{"match": {"op": "<", "left": payload("tcp", "dport"), "right": 1024}}, drop()]), "passes"),
        (json!([{"match": {"op": "!=", "left": payload("ip6", "saddr"), "right": "fe80::1"}}, drop()]), "passes"),
        (json!([is(meta("l4proto"), "udp".into()), drop()]), by_rule),
        (json!([is(meta("l4proto"), json!({"set": ["tcp", "icmp"]})), drop()]), "passes"),
        (json!([is(meta("iifname"), "eth*".into()), drop()]), by_rule),
        (json!([is(meta("iifname"), "lo".into()), drop()]), "passes"),
        (json!([is(meta("mark"), 1.into()), drop()]), "perhaps by rule 1 in input"),
        (json!([is(payload("ip", "daddr"), "10.0.0.1".into()), drop()]), by_rule),
        (json!([is(payload("ip", "daddr"), prefix("10.0.0.0")), drop()]), by_rule),
        (json!([is(payload("ip", "daddr"), prefix("11.0.0.0")), drop()]), "passes"),
        (json!([is(payload("ip", "saddr"), prefix("10.0.0.0")), drop()]), "perhaps by rule 1 in input"),
        (json!([is(payload("ip6", "daddr"), "fd00::1".into()), drop()]), "passes"),
        (json!([state(json!(["established", "related"])), drop()]), "passes"),
        (json!([state(json!("new")), drop()]), by_rule),
        (json!([{"limit": {"rate": 1}}, drop()]), "perhaps by rule 1 in input"),
        (json!([{"xt": null}, drop()]), "perhaps by rule 1 in input"),
        (json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["new", {"drop": null}]]}}}]), by_rule),
        (
            json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}]]}}}]),
            "passes",
        ),
        (json!([{"vmap": {"key": payload("udp", "dport"), "data": "@verdicts"}}]), by_rule),
        (json!([{"vmap": {"key": payload("tcp", "dport"), "data": "@verdicts"}}]), "passes"),
    ];
    for (rule, want) in table {
        assert_eq!(said(&ruleset("accept", std::slice::from_ref(&rule), &[])), want, "{rule}");
    }
}

#[test]
fn chains_and_policies() {
    let accept = || json!([{"accept": null}]);
    let drop = || json!([{"drop": null}]);
    let only = |rest: Value| json!([is(payload("udp", "dport"), 3359.into()), rest]);
    let from = |rest: Value| json!([is(payload("ip", "saddr"), "10.0.0.9".into()), rest]);
    let jump = || json!([{"jump": {"target": "more"}}]);
    let table = [
        (ruleset("drop", &[], &[]), "dropped by its policy in input"),
        (ruleset("drop", &[accept()], &[]), "passes"),
        (ruleset("drop", &[only(json!({"accept": null})), drop()], &[]), "passes"),
        (ruleset("drop", &[jump()], &[drop()]), "dropped by rule 1 in more"),
        (ruleset("drop", &[jump()], &[accept()]), "passes"),
        (ruleset("drop", &[jump(), accept()], &[json!([{"return": null}]), drop()]), "passes"),
        (ruleset("accept", &[json!([{"goto": {"target": "more"}}]), drop()], &[]), "passes"),
        (ruleset("drop", &[from(json!({"accept": null}))], &[]), "perhaps by its policy in input"),
        (ruleset("accept", &[from(json!({"drop": null})), accept()], &[]), "perhaps by rule 1 in input"),
        (ruleset("accept", &[from(json!({"jump": {"target": "more"}}))], &[drop()]), "perhaps by rule 1 in more"),
        (ruleset("accept", &[jump()], &[jump()]), "passes"),
        // A map that is not listed may hold anything.
        (
            ruleset("drop", &[json!([{"vmap": {"key": payload("udp", "dport"), "data": "@unseen"}}])], &[]),
            "perhaps by its policy in input",
        ),
        (String::from("{}"), "nft's answer has no ruleset"),
    ];
    for (text, want) in table {
        assert_eq!(said(&text), want, "{text}");
    }
    assert!(said("nonsense").contains("no JSON"));
    // What comes in is no matter of what goes out, and IPv4 none of IPv6's.
    assert_eq!(fate(&ruleset("drop", &[], &[]), &datagram(true)), Ok(Fate::Passes));
    let of_six = ruleset("drop", &[], &[]).replace("inet", "ip6");
    assert_eq!(said(&of_six), "passes");
}

fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "match", "left", "right", "op", "==", "in", "!=", "payload", "protocol", "field", "udp", "dport", "jump",
        "target", "more", "goto", "accept", "drop", "set", "elem", "range", "prefix", "addr", "len", "vmap", "key",
        "data", "@ports", "input",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "[0-9a-f:./]{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn no_ruleset_panics_or_goes_on_for_ever(rules in prop::collection::vec(json_value(), 0..4),
        more in prop::collection::vec(json_value(), 0..4)) {
        let _ = fate(&ruleset("drop", &rules, &more), &datagram(false));
    }
}
