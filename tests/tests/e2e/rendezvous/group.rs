//! Groups of programs: chats between members behind NATs.

use std::io::Write as _;
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{SOON, ipcp};
use flowring_tests::terminal::Terminal;
use lab::{Host, Lab, Middlebox, Running, Signal};

use super::stage::{Member, SESSION, Session, await_session, await_survey, only_flow};

/// Two rounds of hellos, a relay, a handshake: on a loaded machine.
const LATE: Duration = Duration::from_secs(30);

/// One member's chat.
struct Chat {
    name: String,
    program: Running,
    input: Option<ChildStdin>,
}

impl Chat {
    fn join(host: &Host, name: &str, more: &[&str]) -> Result<Self> {
        let words = ["join", SESSION, "--as", name];
        let mut program = host.start("rendezvous", &[&words[..], more].concat())?;
        let input = program.input();
        program.expect_line(SOON, &format!("you are {name} in {SESSION}.chat"))?;
        Ok(Self { name: name.to_owned(), program, input })
    }

    fn type_in(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is open")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended: {}", self.name, self.program.err()))
    }

    fn sees(&self, text: &str) -> Result<String> {
        self.program.expect_line(LATE, text)
    }

    /// All see each other.
    fn all_joined(chats: &[&Self]) -> Result<()> {
        for one in chats {
            for other in chats.iter().filter(|other| other.name != one.name) {
                one.sees(&format!("* {} joined: ", other.name))?;
            }
        }
        Ok(())
    }

    /// Everyone says a line, and everyone else hears it, once.
    fn all_talk(chats: &mut [&mut Self], word: &str) -> Result<()> {
        for chat in chats.iter_mut() {
            let line = format!("{word} from {}", chat.name);
            chat.type_in(&line)?;
        }
        for one in chats.iter() {
            for other in chats.iter().filter(|other| other.name != one.name) {
                let line = format!("{0}: {word} from {0}", other.name);
                one.program.expect(LATE, &line, |said| said == line)?;
                ensure!(one.program.out().lines().filter(|said| *said == line).count() == 1, "{}", one.program.out());
            }
        }
        Ok(())
    }

    fn leave(mut self) -> Result<()> {
        self.input = None;
        let output = self.program.wait(SOON)?;
        ensure!(output.code() == 0, "{}: {}", self.name, output.err);
        Ok(())
    }
}

const KINDS: [Middlebox; 5] =
    [Middlebox::Open, Middlebox::Firewall, Middlebox::FullCone, Middlebox::PortRestricted, Middlebox::CarrierOverCone];

/// Ten flows through five kinds; one is killed, one joins late, one leaves; the rendezvous restarts in between.
pub(crate) fn members_behind_five_kinds_of_nat_chat() -> Result<()> {
    let mut session = Session::open()?;
    let members = KINDS.iter().enumerate();
    let members = members.map(|(n, kind)| session.member(&format!("m{n}"), *kind)).collect::<Result<Vec<Member>>>()?;
    let [mut a, mut b, mut c, mut d] = {
        let join = |n: usize, name| Chat::join(&members[n].host, name, &[]);
        [join(0, "anna")?, join(1, "bob")?, join(2, "carl")?, join(3, "dora")?]
    };
    Chat::all_joined(&[&a, &b, &c, &d])?;
    let line = a.sees("* dora joined: direct, at its public address")?;
    ensure!(line.ends_with(" ms there and back"), "{line}");
    Chat::all_talk(&mut [&mut a, &mut b, &mut c, &mut d], "hello")?;
    // Killed: the others are told, and go on.
    b.program.kill()?;
    for chat in [&a, &c, &d] {
        let line = chat.sees("* bob left: ")?;
        ensure!(line.ends_with("the peer's program ended"), "{line}");
    }
    // A late one, while the rendezvous has just forgotten all.
    session.kill()?;
    session.start()?;
    let mut e = Chat::join(&members[4].host, "emil", &[])?;
    Chat::all_joined(&[&a, &c, &d, &e]).context("after a restart of the rendezvous")?;
    Chat::all_talk(&mut [&mut a, &mut c, &mut d, &mut e], "again")?;
    // What members say moves no cursor, and commands say who is there.
    e.type_in("\u{1b}[2Jboo")?;
    a.sees("emil: \\u{1b}[2Jboo")?;
    a.type_in("/who")?;
    for (member, path) in
        [("anna", "this is you"), ("carl", "direct, at its public"), ("emil", "direct, at its public")]
    {
        a.program.expect(SOON, member, |line| line.starts_with(member) && line.contains(path))?;
    }
    ensure!(!a.program.out().contains("* carl left"), "open flows noticed the restart: {}", a.program.out());
    c.leave()?;
    for chat in [&a, &d, &e] {
        let line = chat.sees("* carl left: ")?;
        ensure!(line.contains("deallocated it"), "{line}");
    }
    // Its name is free again, for another host.
    let c = Chat::join(&members[2].host, "carl", &[])?;
    lab::wait_until(LATE, "carl for the second time", || a.program.out().matches("* carl joined: ").count() == 2)?;
    drop(c);
    Ok(())
}

/// Pairs that cannot meet: told in words without a relay, relayed with one.
pub(crate) fn members_that_cannot_meet_are_told_so_or_relayed() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::SymmetricRandom)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    await_survey(&a.host)?;
    await_survey(&b.host)?;
    let alice = Chat::join(&a.host, "alice", &[])?;
    let bob = Chat::join(&b.host, "bob", &[])?;
    let told = alice.sees("* bob is not reached, and tried again: ")?;
    ensure!(told.contains("cannot be punched because") && told.contains("a relay would do"), "{told}");
    drop((alice, bob, session));

    let session = Session::open_with(&["--relay"])?;
    let a = session.member("a", Middlebox::SymmetricRandom)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let mut alice = Chat::join(&a.host, "alice", &[])?;
    let mut bob = Chat::join(&b.host, "bob", &[])?;
    let relay = format!("joined: relayed by {}:", session.at.address());
    alice.sees(&relay)?;
    bob.sees(&relay)?;
    Chat::all_talk(&mut [&mut alice, &mut bob], "hello")
}

/// Without any session: on one host; and a name that is taken, and a group that is full, are told.
pub(crate) fn members_on_one_host_need_no_rendezvous() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["a"])?;
    let _irmd = host.irmd().start()?;
    let mut chats = Vec::new();
    for name in ["alice", "bob", "carol"] {
        chats.push(Chat::join(&host, name, &["--most", "3"])?);
    }
    Chat::all_joined(&chats.iter().collect::<Vec<_>>())?;
    ensure!(chats[0].sees("* bob joined: ")?.contains("on this host"));
    chats[0].program.expect_log(SOON, "no layer of this host is enrolled in a session")?;
    Chat::all_talk(&mut chats.iter_mut().collect::<Vec<_>>(), "hello")?;
    let refused = |name, want: &str| -> Result<()> {
        let output = host.run("rendezvous", &["join", SESSION, "--as", name, "--most", "3"])?;
        ensure!(output.code() == 1 && output.err.contains(want), "{}", output.err);
        Ok(())
    };
    refused("bob", "has a member bob already; join under another name")?;
    refused("dave", "has 3 members already, as many as it may")?;
    refused("a.b", "without dots")?;
    chats.pop().context("carol")?.leave()?;
    chats[0].sees("* carol left: ")?;
    let dave = Chat::join(&host, "dave", &["--most", "3"])?;
    dave.sees("* alice joined: ")?;
    Ok(())
}

/// A name that only a program to be started has is free to who joins, and so is one that its member is just leaving; another's is not.
pub(crate) fn a_member_that_leaves_or_is_to_be_started_may_join() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["a"])?;
    let _irmd = host.irmd().start()?;
    let group = format!("{SESSION}.chat");
    host.irm(&["name", "create", &format!("{group}.anna")])?;
    host.irm(&["bind", "program", "/bin/false", "--name", &format!("{group}.anna"), "--auto"])?;
    let stack = libflow::Stack::find(Some(host.run_dir()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let anna = stack.join(&group, "anna").await.context("a program is bound to the name")?;
        for _ in 0..20 {
            drop(stack.join(&group, "bob").await.context("again at once")?);
        }
        let taken = stack.join(&group, "anna").await.err().context("twice the same")?;
        ensure!(taken.to_string().contains("has a member anna already"), "{taken}");
        drop(anna);
        Ok(())
    })
}

/// Somebody stops a chat's terminal (Ctrl-S), and lines come in: whoever joins meets it all the same, and what is typed there arrives. When
/// it goes on, the newest lines are shown.
pub(crate) fn a_stopped_terminal_holds_nobody_up() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["a"])?;
    let _irmd = host.irmd().start()?;
    let mut bob = Chat::join(&host, "bob", &[])?;
    let mut command = host.command("rendezvous");
    command.args(["join", SESSION, "--as", "anna"]);
    let mut anna = Terminal::start(command, 80, 24)?;
    anna.await_text(SOON, "bob", |text| text.contains("* bob joined"))?;
    bob.sees("* anna joined: ")?;
    // More than terminals and pipes hold.
    anna.press("\u{13}")?;
    for n in 0..3_000 {
        bob.type_in(&format!("line {n} {}", "of many ".repeat(8)))?;
    }
    let dora = Chat::join(&host, "dora", &[])?;
    dora.sees("* anna joined: ")?;
    anna.press("still here\r")?;
    bob.sees("anna: still here")?;
    dora.sees("anna: still here")?;
    bob.type_in("the end")?;
    dora.sees("bob: the end")?;
    anna.press("\u{11}")?;
    anna.await_text(LATE, "the end", |text| text.contains("bob: the end"))?;
    anna.press("/quit\r")?;
    ensure!(anna.wait(SOON)?.success(), "{}", anna.text());
    Ok(())
}

/// kill -9 of a member's irmd and ipcpd: nobody notices, and who joins afterwards is found by all.
pub(crate) fn a_group_outlives_its_daemons() -> Result<()> {
    let session = Session::open()?;
    let mut a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::FullCone)?;
    let mut anna = Chat::join(&a.host, "anna", &[])?;
    let mut carl = Chat::join(&a.host, "carl", &[])?;
    let mut bob = Chat::join(&b.host, "bob", &[])?;
    Chat::all_joined(&[&anna, &bob, &carl])?;
    let pid = ipcp(&a.host)?["pid"].as_i64().context("a pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    a.irmd.process().kill()?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    Chat::all_talk(&mut [&mut anna, &mut bob, &mut carl], "nobody home")?;
    a.irmd = a.host.irmd().start()?;
    await_session(&a.host, "joined session")?;
    let mut dora = Chat::join(&b.host, "dora", &[])?;
    Chat::all_joined(&[&anna, &bob, &carl, &dora])?;
    Chat::all_talk(&mut [&mut anna, &mut bob, &mut carl, &mut dora], "back")?;
    for chat in [&anna, &bob, &carl] {
        ensure!(!chat.program.out().contains(" left: "), "{}: {}", chat.name, chat.program.out());
    }
    Ok(())
}

/// An administrator ends a flow under its programs: it is made anew.
pub(crate) fn a_pair_whose_flow_breaks_has_another() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::FullCone)?;
    let mut anna = Chat::join(&a.host, "anna", &[])?;
    let mut bob = Chat::join(&b.host, "bob", &[])?;
    Chat::all_joined(&[&anna, &bob])?;
    let row = only_flow(&a.host)?;
    a.host.irm(&["flow", "dealloc", &row["id"].to_string()])?;
    anna.sees("* bob left: ")?;
    bob.sees("* anna left: ")?;
    for (chat, other) in [(&anna, "bob"), (&bob, "anna")] {
        let joined = format!("* {other} joined: ");
        lab::wait_until(LATE, "the flow to be made anew", || chat.program.out().matches(&joined).count() == 2)?;
    }
    Chat::all_talk(&mut [&mut anna, &mut bob], "again")
}

/// 20 members, five on each of four hosts behind NATs: 190 flows, and one line of each to all.
pub(crate) fn a_mesh_of_twenty_members() -> Result<()> {
    let session = Session::open()?;
    let kinds = [Middlebox::PortRestricted, Middlebox::PortRestricted, Middlebox::FullCone, Middlebox::Firewall];
    let members = kinds.iter().enumerate();
    let members = members.map(|(n, kind)| session.member(&format!("h{n}"), *kind)).collect::<Result<Vec<Member>>>()?;
    let mut chats = Vec::new();
    for n in 0..20 {
        chats.push(Chat::join(&members[n % 4].host, &format!("p{n:02}"), &[])?);
    }
    Chat::all_joined(&chats.iter().collect::<Vec<_>>())?;
    Chat::all_talk(&mut chats.iter_mut().collect::<Vec<_>>(), "hello")?;
    let refused = members[0].host.run("rendezvous", &["join", SESSION, "--as", "p20"])?;
    ensure!(refused.code() == 1 && refused.err.contains("has 20 members already"), "{}", refused.err);
    // 5 × 15 / 2 flows to others at each host, and 10 within it, which stand in the list once.
    let rows = members[0].host.list("flow list")?;
    ensure!(rows.len() == 75 + 10, "{} flows", rows.len());
    Ok(())
}
