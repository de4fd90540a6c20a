//! A reader that hears only changes has what there is, whatever it missed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Members = BTreeMap<u64, BTreeSet<String>>;

#[derive(Clone, Debug)]
enum Step {
    Came(u64),
    Moved(u64),
    Left(u64),
    Named(u64, u8),
    Unnamed(u64, u8),
    /// A reader asks once.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..8u64).prop_map(Step::Came),
        (1..8u64).prop_map(Step::Moved),
        (1..8u64).prop_map(Step::Left),
        (1..8u64, 0..20u8).prop_map(|(member, name)| Step::Named(member, name)),
        (1..8u64, 0..20u8).prop_map(|(member, name)| Step::Unnamed(member, name)),
        (0..3usize).prop_map(Step::Read),
    ]
}

fn name(number: u8) -> Name {
    // Long ones: few fit.
    Name::new(&format!("{number}-{}", "n".repeat(150))).unwrap()
}

#[derive(Default)]
struct Reader {
    seen: Seen,
    has: Members,
}

impl Reader {
    /// As a member does it; whether there is more.
    fn read(&mut self, list: &List) -> bool {
        let told = list.read(self.seen, |item| {
            Some(match item {
                Item::Came(member) | Item::Moved(member) => {
                    Change::Member { member: *member, public: "203.0.113.1:1".parse().unwrap(), locals: Vec::new() }
                }
                Item::Left(member) => Change::Left(*member),
                Item::Name(member, name) => Change::Name(*member, name.clone()),
                Item::NameGone(member, name) => Change::NameGone(*member, name.clone()),
            })
        });
        if told.reset {
            self.has.clear();
        }
        for change in told.changes {
            match change {
                Change::Member { member, .. } => drop(self.has.entry(member.0).or_default()),
                Change::Left(member) => drop(self.has.remove(&member.0)),
                Change::Name(member, name) => {
                    // A member's names come after it.
                    self.has.get_mut(&member.0).expect("named before it came").insert(name.to_string());
                }
                Change::NameGone(member, name) => {
                    self.has.get_mut(&member.0).map(|names| names.remove(name.as_str()));
                }
            }
        }
        self.seen = told.seen;
        self.seen != list.latest()
    }
}

fn apply(list: &mut List, truth: &mut Members, step: &Step) {
    match step {
        Step::Came(member) if !truth.contains_key(member) => {
            truth.insert(*member, BTreeSet::new());
            list.came(HostId(*member));
        }
        Step::Moved(member) if truth.contains_key(member) => list.moved(HostId(*member)),
        Step::Left(member) => {
            if let Some(names) = truth.remove(member) {
                let names: Vec<Name> = names.iter().map(|text| Name::new(text).unwrap()).collect();
                list.left(HostId(*member), names.iter());
            }
        }
        Step::Named(member, number) => {
            if let Some(names) = truth.get_mut(member)
                && names.insert(name(*number).to_string())
            {
                list.named(HostId(*member), &name(*number));
            }
        }
        Step::Unnamed(member, number) => {
            if let Some(names) = truth.get_mut(member)
                && names.remove(name(*number).as_str())
            {
                list.unnamed(HostId(*member), &name(*number));
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn who_hears_changes_has_what_there_is(steps in prop::collection::vec(step(), 1..600)) {
        let (mut list, mut truth) = (List::new(5), Members::new());
        let mut readers: [Reader; 3] = Default::default();
        for step in &steps {
            apply(&mut list, &mut truth, step);
            if let Step::Read(reader) = step {
                readers[*reader].read(&list);
            }
        }
        for reader in &mut readers {
            let mut asked = 0;
            while reader.read(&list) {
                asked += 1;
                prop_assert!(asked < 200, "a reader never hears all");
            }
            prop_assert_eq!(&reader.has, &truth);
        }
    }
}

#[test]
fn a_list_does_not_grow_with_its_history() {
    let mut list = List::new(5);
    for round in 0..10_000 {
        let member = HostId(round);
        list.came(member);
        list.named(member, &name(1));
        list.moved(member);
        list.unnamed(member, &name(1));
        list.left(member, [].iter());
    }
    assert!(list.len() <= 2 * GONE + 2, "{} entries", list.len());
}
