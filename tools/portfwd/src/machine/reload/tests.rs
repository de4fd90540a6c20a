use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::said::file::File;

fn rules(text: &str) -> Vec<Rule> {
    if text.is_empty() { Vec::new() } else { File::parse(Path::new("rules"), text).unwrap().rules }
}

fn planned(old: &str, new: &str) -> Plan {
    plan(&rules(old), &rules(new))
}

#[test]
fn what_did_not_change_is_kept_wherever_it_stands() {
    let plan = planned("1 -> 80\n2 -> 80\n3 -> 80", "3 -> 80\n2 -> 81\n4 -> 80");
    let expected = Plan { keep: vec![(2, 0)], change: vec![(1, 1)], open: vec![2], close: vec![0], ..Plan::default() };
    assert_eq!(plan, expected);
    assert!(planned("1 -> 80\n2 -> 80", "2 -> 80\n1 -> 80").is_empty());
}

#[test]
fn an_end_that_takes_anothers_place_waits_for_it() {
    let table = [
        ("7005 -> 80", "127.0.0.1:7005 -> 80", true),
        ("127.0.0.1:7005 -> 80", "7005 -> 80", true),
        ("127.0.0.1:7005 -> 80", "127.0.0.2:7005 -> 80", false),
        ("7005 -> 80", "udp:7005 -> udp:80", false),
        ("unix:/a -> 80", "unix:/b -> 80", false),
        ("flow:a -> 80", "flow:a -> udp:80", true),
    ];
    for (old, new, waits) in table {
        let plan = planned(old, new);
        assert_eq!((plan.open_after.len(), plan.open.len()), if waits { (1, 0) } else { (0, 1) }, "{old} to {new}");
        assert_eq!(plan.close, [0], "{old} to {new}");
    }
}

#[test]
fn other_layers_are_another_service_of_a_name() {
    let old = rules("flow:a -> 80\n7005 -> flow:a");
    let mut new = old.clone();
    for rule in &mut new {
        rule.options.layers = vec!["net".to_owned()];
    }
    let expected = Plan { change: vec![(1, 1)], close: vec![0], open_after: vec![0], ..Plan::default() };
    assert_eq!(plan(&old, &new), expected);
}

fn some() -> impl Strategy<Value = Vec<Rule>> {
    let end = prop_oneof!["[1-5]", "127\\.0\\.0\\.1:[1-5]", "udp:[1-3]", "flow:[ab]"];
    prop::collection::vec((end, 1..3_u8), 0..8).prop_map(|ends| {
        let mut rules: Vec<Rule> = Vec::new();
        for (end, target) in ends {
            let target = if end.starts_with("udp") { format!("udp:{target}") } else { target.to_string() };
            let rule = Rule::new(end.parse().unwrap(), vec![target.parse().unwrap()]);
            if !rules.iter().any(|other| overlap(&other.listen, &rule.listen)) {
                rules.push(rule);
            }
        }
        rules
    })
}

proptest! {
    /// Every rule has one fate, and sockets open in the order of the plan never clash.
    #[test]
    fn every_rule_has_one_fate(old in some(), new in some()) {
        let plan = plan(&old, &new);
        let both = || plan.keep.iter().chain(&plan.change);
        let mut olds: Vec<usize> = both().map(|(old, _)| *old).chain(plan.close.iter().copied()).collect();
        let mut news: Vec<usize> =
            both().map(|(_, new)| *new).chain(plan.open.iter().chain(&plan.open_after).copied()).collect();
        olds.sort_unstable();
        news.sort_unstable();
        prop_assert_eq!(olds, (0..old.len()).collect::<Vec<_>>());
        prop_assert_eq!(news, (0..new.len()).collect::<Vec<_>>());
        for (was, is) in &plan.keep {
            prop_assert_eq!(&old[*was], &new[*is]);
        }
        for opened in &plan.open {
            prop_assert!(!old.iter().any(|there| overlap(&there.listen, &new[*opened].listen)));
        }
    }
}
