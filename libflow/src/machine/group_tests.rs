//! Groups, as tables; and random lives of a whole mesh.
#![expect(clippy::disallowed_methods, reason = "an origin of time")]

use proptest::prelude::*;

use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn todo(group: &mut Gathering) -> Vec<String> {
    std::iter::from_fn(|| group.poll())
        .map(|todo| match todo {
            Todo::Call(name, _) => format!("call {name}"),
            Todo::Joined(name, _) => format!("joined {name}"),
            Todo::Left(name, _) => format!("left {name}"),
            Todo::End(_) => "end".to_owned(),
            Todo::Unreached(name, why) => format!("unreached {name}: {why}"),
        })
        .collect()
}

fn call_of(group: &mut Gathering) -> Link {
    match group.poll() {
        Some(Todo::Call(_, link)) => link,
        other => panic!("no call: {other:?}"),
    }
}

#[test]
fn the_lower_name_calls_and_the_higher_waits() {
    let now = Instant::now();
    let mut group = Gathering::new("m", 20);
    group.listed(now, &names(&["a", "m", "z"]));
    assert_eq!(todo(&mut group), ["call z"]);
    assert!(group.calling(now, "a").is_ok());
    let refused = group.calling(now, "y").unwrap_err();
    assert!(refused.contains("lower name calls"), "{refused}");
    assert!(group.calling(now, "m").is_err());
    let link = group.link();
    group.came(now, "a", link, false);
    assert_eq!(todo(&mut group), ["joined a"]);
}

#[test]
fn who_is_not_listed_yet_may_call_and_stays_as_long_as_its_flow() {
    let now = Instant::now();
    let mut group = Gathering::new("m", 20);
    group.calling(now, "a").unwrap();
    group.listed(now, &names(&[]));
    let link = group.link();
    group.came(now, "a", link, false);
    // The list forgets everybody when the rendezvous restarts; flows do not notice.
    group.listed(now, &names(&["a"]));
    group.listed(now, &names(&[]));
    assert_eq!(todo(&mut group), ["joined a"]);
    group.ended(now, "a", link);
    assert_eq!(todo(&mut group), ["left a"]);
    assert!(group.members.is_empty());
}

#[test]
fn calls_in_vain_are_told_once_and_made_again_with_longer_pauses() {
    let start = Instant::now();
    let mut now = start;
    let mut group = Gathering::new("a", 20);
    group.listed(now, &names(&["b"]));
    let mut told = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let link = call_of(&mut group);
        group.called(now, "b", link, Err("nobody there".into()));
        told.extend(todo(&mut group));
        let next = group.poll_timeout().unwrap();
        pauses.push((next - now).as_millis());
        now = next;
        group.handle_timeout(now);
    }
    assert_eq!(told, ["unreached b: nobody there"]);
    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    // It goes, and comes anew: called at once.
    group.listed(now, &names(&[]));
    assert_eq!(group.poll_timeout(), None);
    todo(&mut group);
    group.listed(now, &names(&["b"]));
    assert_eq!(todo(&mut group), ["call b"]);
}

#[test]
fn a_flow_that_comes_when_its_member_is_gone_is_ended() {
    let now = Instant::now();
    let mut group = Gathering::new("a", 20);
    group.listed(now, &names(&["b"]));
    let link = call_of(&mut group);
    group.listed(now, &names(&[]));
    group.called(now, "b", link, Ok(false));
    assert_eq!(todo(&mut group), ["end"]);
}

#[test]
fn a_pair_whose_flow_breaks_is_tried_again_while_both_are_members() {
    let now = Instant::now();
    let mut group = Gathering::new("a", 20);
    group.listed(now, &names(&["b"]));
    let first = call_of(&mut group);
    group.called(now, "b", first, Ok(false));
    assert_eq!(todo(&mut group), ["joined b"]);
    let later = now + LIVED;
    group.ended(later, "b", first);
    assert_eq!(todo(&mut group), ["left b"]);
    assert_eq!(group.poll_timeout(), Some(later + SHORTEST));
    group.handle_timeout(later + SHORTEST);
    assert_eq!(todo(&mut group), ["call b"]);
    // One that breaks at once is no success: the pauses grow.
    let State::Calling(second) = group.members["b"].state else { panic!("it calls") };
    group.called(later, "b", second, Ok(false));
    group.ended(later, "b", second);
    assert_eq!(group.poll_timeout(), Some(later + 2 * SHORTEST));
}

#[test]
fn another_flow_of_the_same_member_takes_the_first_ones_place() {
    let now = Instant::now();
    let mut group = Gathering::new("z", 20);
    let (first, second) = (group.link(), group.link());
    for link in [first, second] {
        group.calling(now, "a").unwrap();
        group.came(now, "a", link, false);
    }
    assert_eq!(todo(&mut group), ["joined a", "left a", "end", "joined a"]);
    // The first one's end is old news.
    group.ended(now, "a", first);
    assert_eq!(todo(&mut group), [""; 0]);
}

#[test]
fn who_is_known_is_not_put_out_by_who_is_not() {
    let now = Instant::now();
    let mut group = Gathering::new("z", 20);
    let links = [group.link(), group.link(), group.link()];
    for (link, vouched) in links.into_iter().zip([true, false, true]) {
        group.calling(now, "a").unwrap();
        group.came(now, "a", link, vouched);
    }
    assert_eq!(todo(&mut group), ["joined a", "end", "left a", "end", "joined a"]);
}

#[test]
fn few_calls_of_a_member_are_answered_at_a_time() {
    let now = Instant::now();
    let mut group = Gathering::new("z", 20);
    for _ in 0..ADMITTED {
        group.calling(now, "a").unwrap();
    }
    let refused = group.calling(now, "a").unwrap_err();
    assert!(refused.contains("in a moment"), "{refused}");
    // One comes to nothing, and the other is let in all the same.
    group.came_not("a");
    assert!(group.calling(now, "a").is_ok());
    let link = group.link();
    group.came(now, "a", link, false);
    group.came_not("a");
    assert_eq!(todo(&mut group), ["joined a"]);
}

#[test]
fn a_group_is_bounded() {
    let now = Instant::now();
    let mut group = Gathering::new("m", 3);
    group.listed(now, &names(&["p", "q", "r", "s"]));
    assert_eq!(todo(&mut group), ["call p", "call q"]);
    let refused = group.calling(now, "b").unwrap_err();
    assert!(refused.contains("3 members"), "{refused}");
    // Whoever was there first stays, and a free place is taken.
    group.listed(now, &names(&["a", "q", "r"]));
    assert_eq!(group.members.keys().collect::<Vec<_>>(), ["a", "q"]);
    let mut alone = Gathering::new("m", 0);
    alone.listed(now, &names(&["p"]));
    assert_eq!(todo(&mut alone), [""; 0]);
}

#[test]
fn who_was_let_in_and_does_not_come_holds_no_place() {
    let now = Instant::now();
    let mut group = Gathering::new("m", 2);
    group.calling(now, "a").unwrap();
    assert!(group.calling(now, "b").is_err());
    assert_eq!(group.poll_timeout(), Some(now + ANSWERING));
    group.handle_timeout(now + ANSWERING);
    assert!(group.members.is_empty() && group.calling(now, "b").is_ok());
    group.came_not("b");
    assert!(group.members.is_empty());
}

proptest! {
    /// Whatever comes in whatever order: bounded, at most one flow a member, and joins and leaves take turns.
    #[test]
    fn members_join_and_leave_in_turn(steps in proptest::collection::vec((0_u8..7, 0_u8..6), 1..200)) {
        let mut now = Instant::now();
        let mut group = Gathering::new("c", 4);
        let mut here: BTreeMap<String, Link> = BTreeMap::new();
        let mut calls: Vec<(String, Link)> = Vec::new();
        for (what, who) in steps {
            let name = ["a", "b", "c", "d", "e", "f"][usize::from(who)].to_owned();
            match what {
                0 => group.listed(now, &["a", "b", "c", "d", "e", "f"].into_iter().take(who.into()).map(Into::into).collect()),
                1 => if group.calling(now, &name).is_ok() {
                    let link = group.link();
                    group.came(now, &name, link, false);
                },
                2 => group.came_not(&name),
                3 | 4 => if let Some((name, link)) = calls.pop() {
                    group.called(now, &name, link, if what == 3 { Ok(false) } else { Err("no".into()) });
                },
                5 => if let Some(link) = here.get(&name) { group.ended(now, &name, *link) },
                _ => {
                    now += Duration::from_secs(1);
                    group.handle_timeout(now);
                }
            }
            while let Some(todo) = group.poll() {
                match todo {
                    Todo::Call(name, link) => {
                        prop_assert!(name.as_str() > "c");
                        calls.push((name, link));
                    }
                    Todo::Joined(name, link) => prop_assert!(here.insert(name, link).is_none()),
                    Todo::Left(name, link) => prop_assert_eq!(here.remove(&name), Some(link)),
                    Todo::End(_) | Todo::Unreached(..) => {}
                }
            }
            prop_assert!(group.members.len() <= 3);
        }
    }
}

/// Members, the flows between them, and what is on its way.
struct Mesh {
    now: Instant,
    names: Vec<String>,
    members: Vec<Gathering>,
    /// Calls under way: who calls whom.
    calls: Vec<(usize, usize, Link)>,
    /// Flows, with each side's link; and which sides still have to hear that it is over.
    flows: Vec<[(usize, Link); 2]>,
    ends: Vec<(usize, usize, Link)>,
    /// As told to the program: who is there, with which flow.
    here: BTreeMap<(usize, usize), Link>,
}

impl Mesh {
    fn new(count: usize) -> Self {
        let names: Vec<_> = (0..count).map(|n| format!("m{n}")).collect();
        let members = names.iter().map(|name| Gathering::new(name, 20)).collect();
        let (calls, flows, ends, here) = Default::default();
        Self { now: Instant::now(), names, members, calls, flows, ends, here }
    }

    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).expect("a member")
    }

    /// All that the members want done.
    fn carry_out(&mut self) {
        for own in 0..self.members.len() {
            while let Some(todo) = self.members[own].poll() {
                match todo {
                    Todo::Call(name, link) => self.calls.push((own, self.index(&name), link)),
                    Todo::Joined(name, link) => {
                        let before = self.here.insert((own, self.index(&name)), link);
                        assert_eq!(before, None, "{own} has two flows with {name}");
                    }
                    Todo::Left(name, link) => {
                        assert_eq!(self.here.remove(&(own, self.index(&name))), Some(link));
                    }
                    Todo::End(link) => {
                        if let Some(flow) = self.flows.iter().position(|flow| flow.contains(&(own, link))) {
                            self.break_flow(flow);
                        }
                    }
                    Todo::Unreached(..) => {}
                }
            }
        }
    }

    fn break_flow(&mut self, flow: usize) {
        let [one, two] = self.flows.swap_remove(flow);
        self.ends.extend([(one.0, two.0, one.1), (two.0, one.0, two.1)]);
    }

    fn call(&mut self, call: usize, works: bool) {
        let (from, to, link) = self.calls.swap_remove(call);
        let (caller, callee) = (self.names[from].clone(), self.names[to].clone());
        let said = self.members[to].calling(self.now, &caller);
        let result = match (said, works) {
            (Ok(()), true) => {
                let far = self.members[to].link();
                self.flows.push([(from, link), (to, far)]);
                self.members[to].came(self.now, &caller, far, false);
                Ok(false)
            }
            (Ok(()), false) => {
                self.members[to].came_not(&caller);
                Err("it was lost".to_owned())
            }
            (Err(why), _) => Err(why),
        };
        self.members[from].called(self.now, &callee, link, result);
    }

    fn end(&mut self, end: usize) {
        let (own, peer, link) = self.ends.swap_remove(end);
        let peer = self.names[peer].clone();
        self.members[own].ended(self.now, &peer, link);
    }

    fn list(&mut self, own: usize, names: &BTreeSet<String>) {
        self.members[own].listed(self.now, names);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for member in &mut self.members {
            member.handle_timeout(self.now);
        }
    }
}

proptest! {
    /// A mesh whose lists are late and wrong, whose calls fail and whose flows break comes to one flow for each pair once that stops.
    #[test]
    fn a_mesh_comes_to_one_flow_for_each_pair(steps in proptest::collection::vec(any::<[u8; 3]>(), 0..300)) {
        let mut mesh = Mesh::new(5);
        let all: BTreeSet<String> = mesh.names.iter().cloned().collect();
        for [what, which, more] in steps {
            let (which, count) = (usize::from(which), mesh.members.len());
            match what % 6 {
                0 => {
                    let seen = all.iter().enumerate().filter(|(n, _)| more & 1 << n != 0).map(|(_, name)| name.clone());
                    mesh.list(which % count, &seen.collect());
                }
                1 | 2 if !mesh.calls.is_empty() => mesh.call(which % mesh.calls.len(), more % 3 > 0),
                3 if !mesh.flows.is_empty() => mesh.break_flow(which % mesh.flows.len()),
                4 if !mesh.ends.is_empty() => mesh.end(which % mesh.ends.len()),
                _ => mesh.pass(Duration::from_millis(u64::from(more) * 50)),
            }
            mesh.carry_out();
        }
        for _ in 0..40 {
            for own in 0..mesh.members.len() {
                mesh.list(own, &all);
            }
            mesh.carry_out();
            while !mesh.ends.is_empty() || !mesh.calls.is_empty() {
                if mesh.ends.is_empty() { mesh.call(0, true) } else { mesh.end(0) }
                mesh.carry_out();
            }
            mesh.pass(LONGEST);
        }
        prop_assert_eq!(mesh.flows.len(), 10);
        prop_assert_eq!(mesh.here.len(), 20);
        for [one, two] in mesh.flows {
            prop_assert_eq!(mesh.here.get(&(one.0, two.0)), Some(&one.1));
            prop_assert_eq!(mesh.here.get(&(two.0, one.0)), Some(&two.1));
        }
    }
}
