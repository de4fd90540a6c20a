//! Who may do what: users and groups of the system, asked of the real daemons.
//!
//! Cases with several users need root: a user namespace of an ordinary user has one. They skip loudly there; CI runs
//! them as root.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::{Case, has_other_users};
use flowring_tests::net::{SOON, await_flows};
use lab::{Host, Lab, Output};
use proto::v1::Failure;
use serde_json::Value;

use crate::rules::{counter, start};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        users_have_names_and_programs_of_their_own,
        rules_for_users_decide_and_name_themselves,
        a_group_administrates_and_is_no_ipcp,
        a_user_sees_its_own_flows_only,
        another_user_can_put_nothing_into_the_run_directory,
        a_process_that_irmd_cannot_see_is_refused,
    ]
}

/// Users that every Debian has. Nothing runs as them.
const WWW: u32 = 33;
const BACKUP: u32 = 34;
const LIST: u32 = 38;
/// Groups, for whom the tests put there.
const GAMES: u32 = 60;
const CDROM: u32 = 24;

fn root_only() -> bool {
    if !has_other_users() {
        eprintln!("SKIPPED: a user namespace has one user only; run the tests as root for the rules about users");
    }
    has_other_users()
}

/// One host whose irmd runs with a configuration; other users find its programs in the run directory.
struct Place {
    host: Host,
    _irmd: lab::Daemon,
    _lab: Lab,
}

impl Place {
    fn with(config: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let [host] = lab.hosts(["a"])?;
        let irmd = start(&host, config)?;
        for program in ["oping", "irm", "ipcpd-udp"] {
            std::fs::copy(lab::binaries::folder().context("prepared")?.join(program), copy(&host, program))?;
        }
        Ok(Self { host, _irmd: irmd, _lab: lab })
    }

    /// Words that run a program as a user with further groups.
    fn words(&self, (uid, groups): (u32, &[u32]), program: &str, args: &[&str]) -> Result<Vec<String>> {
        let groups = match groups {
            [] => "--clear-groups".to_owned(),
            some => format!("--groups={}", some.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        };
        let copy = copy(&self.host, program);
        let program = copy.to_str().context("utf-8")?.to_owned();
        let who = [format!("--reuid={uid}"), format!("--regid={uid}"), groups, program];
        Ok(who.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect())
    }

    fn run(&self, who: (u32, &[u32]), program: &str, args: &[&str]) -> Result<Output> {
        self.host.run("setpriv", &self.words(who, program, args)?)
    }

    fn ok(&self, who: (u32, &[u32]), program: &str, args: &[&str]) -> Result<String> {
        let output = self.run(who, program, args)?;
        ensure!(output.code() == 0, "{who:?} {program} {args:?}: {output:?}");
        Ok(output.out)
    }

    /// Refused, with all of `words` in what is said.
    fn no(&self, who: (u32, &[u32]), program: &str, args: &[&str], words: &[&str]) -> Result<()> {
        let output = self.run(who, program, args)?;
        ensure!(output.code() != 0, "{who:?} {program} {args:?} should be refused: {output:?}");
        for word in words {
            ensure!(output.err.contains(word), "{who:?} {program} {args:?}: no {word:?} in {:?}", output.err);
        }
        Ok(())
    }

    fn serve(&self, who: (u32, &[u32]), name: &str) -> Result<lab::Running> {
        let server = self.host.start("setpriv", &self.words(who, "oping", &["--listen", name])?)?;
        self.host.await_server(server, name)
    }

    fn counter(&self, name: &str) -> Result<u64> {
        counter(&self.host, name)
    }
}

fn copy(host: &Host, program: &str) -> PathBuf {
    host.run_dir().join(program)
}

/// The program that a user binds says who it is, where and with what, before it serves.
const SCRIPT: &str = "#!/bin/sh
cat /proc/$$/status /proc/$$/stat > REPORT.new
echo env: >> REPORT.new
tr '\\0' '\\n' < /proc/$$/environ >> REPORT.new
echo cwd: $(pwd) >> REPORT.new
ls -l /proc/self/fd >> REPORT.new
mv REPORT.new REPORT
exec OPING --listen mine
";

fn users_have_names_and_programs_of_their_own() -> Result<()> {
    if !root_only() {
        return Ok(());
    }
    let place = Place::with("")?;
    // What irmd itself was given when it was started goes no further.
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report");
    let script = folder.path().join("program");
    let text = SCRIPT.replace("REPORT", report.to_str().context("utf-8")?);
    std::fs::write(&script, text.replace("OPING", copy(&place.host, "oping").to_str().context("utf-8")?))?;
    for (path, mode) in [(script.as_path(), 0o755), (folder.path(), 0o777)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    let script = script.to_str().context("utf-8")?;

    place.ok((WWW, &[]), "irm", &["name", "create", "mine"])?;
    let theirs = &["user 34 may not change the name mine", "user 33's"];
    place.no((BACKUP, &[]), "irm", &["name", "destroy", "mine"], theirs)?;
    place.no((BACKUP, &[]), "irm", &["bind", "program", script, "--name", "mine", "--auto"], theirs)?;
    let as_root = ["bind", "program", script, "--name", "mine", "--auto", "--user", "root"];
    place.no((WWW, &[]), "irm", &as_root, &["user 33 may not administrate"])?;
    let as_zero = ["bind", "program", script, "--name", "mine", "--auto", "--user", "0"];
    place.no((WWW, &[]), "irm", &as_zero, &["user 33 may not"])?;
    place.ok((WWW, &[]), "irm", &["bind", "program", script, "--name", "mine", "--auto"])?;
    // Anybody's flow starts it; it runs as who bound it, though irmd is root.
    place.ok((BACKUP, &[]), "oping", &["mine", "-c", "1"])?;
    is_a_users_process(&std::fs::read_to_string(&report)?)?;
    let rows = place.host.list("name list")?;
    let row = rows.iter().find(|row| row["name"] == "mine").context("mine")?;
    assert_eq!((&row["owner"], &row["programs"][0]["user"]), (&"33".into(), &"33".into()), "{row}");
    // It lasts: what runtime.toml says is enough for the next irmd.
    let export = place.host.irm(&["config", "export"])?;
    ensure!(export.contains("owner = \"33\"") && export.contains("user = \"33\""), "{export}");
    Ok(())
}

/// The report of a process that is www-data's, and nobody else's.
fn is_a_users_process(report: &str) -> Result<()> {
    let has = |line: &str| ensure_line(report, line);
    has("Uid:\t33\t33\t33\t33")?;
    has("Gid:\t33\t33\t33\t33")?;
    let groups = line(report, "Groups:")?;
    ensure!(!groups.split_whitespace().any(|group| group == "0"), "no group of root's: {groups}");
    has("CapEff:\t0000000000000000")?;
    has("CapPrm:\t0000000000000000")?;
    has("cwd: /")?;
    has("USER=www-data")?;
    has("HOME=/var/www")?;
    let env = report.split_once("env:\n").context("its environment")?.1.split("cwd:").next().unwrap_or_default();
    for variable in env.lines() {
        let name = variable.split('=').next().unwrap_or_default();
        let known = ["PATH", "HOME", "SHELL", "USER", "LOGNAME", "FLOWRING_RUN_DIR"];
        ensure!(known.contains(&name), "{variable} is irmd's, not the user's");
    }
    // Nothing of irmd's is open in it but where it may write, and its session is its own.
    let open: Vec<(&str, &str)> =
        report.lines().filter_map(|line| line.rsplit_once(" -> ")).map(|(row, to)| (last_word(row), to)).collect();
    ensure!(open.len() >= 3, "its descriptors are not listed: {report}");
    for (fd, to) in open {
        // The fourth is the listing's own.
        ensure!(["0", "1", "2"].contains(&fd) || to.ends_with("/fd"), "{to} is open in it as {fd}: {report}");
    }
    let stat = report.lines().find(|line| line.contains(") S ") || line.contains(") R ")).context("its stat")?;
    let (pid, rest) = stat.split_once(' ').context("its stat")?;
    let session = rest.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3));
    assert_eq!(session, Some(pid), "{stat}");
    Ok(())
}

fn last_word(text: &str) -> &str {
    text.rsplit(' ').next().unwrap_or_default()
}

fn line<'a>(text: &'a str, start: &str) -> Result<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(start)).with_context(|| format!("no line {start} in\n{text}"))
}

fn ensure_line(text: &str, wanted: &str) -> Result<()> {
    ensure!(text.lines().any(|line| line == wanted), "no line {wanted:?} in\n{text}");
    Ok(())
}

const RULES: &str = r#"
[options]
admin-group = "cdrom"

[[name]]
name = "web"
serve = ["www-data"]
allow-local = ["backup", "@60"]

[[rule]]
pattern = "game.*"
serve = ["@games"]
"#;

fn rules_for_users_decide_and_name_themselves() -> Result<()> {
    if !root_only() {
        return Ok(());
    }
    let place = Place::with(RULES)?;
    let rule = "its rule (irmd.toml) says serve = [www-data]";
    place.no((BACKUP, &[]), "oping", &["--listen", "web"], &["user 34 may not serve web", rule])?;
    let _web = place.serve((WWW, &[]), "web")?;
    place.ok((BACKUP, &[]), "oping", &["web", "-c", "1"])?;
    let rule = "its rule (irmd.toml) says allow-local = [backup, @60]";
    place.no((LIST, &[]), "oping", &["web", "-c", "1"], &["user 38 may not allocate flows to web", rule])?;
    // Also one who serves it may not, unless the rule says so.
    place.no((WWW, &[]), "oping", &["web", "-c", "1"], &["user 33 may not", rule])?;
    // The caller's other groups count, as the kernel tells them.
    place.ok((LIST, &[5, GAMES]), "oping", &["web", "-c", "1"])?;
    // More groups than are asked for at first.
    let many: Vec<u32> = (5_000..5_060).chain([GAMES]).collect();
    place.ok((LIST, &many), "oping", &["web", "-c", "1"])?;
    // A reserved name is made by those alone for whom it is kept.
    let rule = "the rule of game.* (irmd.toml) says serve = [@games]";
    place.no((LIST, &[]), "oping", &["--listen", "game.x"], &["user 38 may not serve game.x", rule])?;
    place.no((LIST, &[]), "irm", &["name", "create", "game.x"], &[rule])?;
    let _game = place.serve((LIST, &[GAMES]), "game.x")?;
    place.no((BACKUP, &[]), "oping", &["--listen", "game.x"], &[rule])?;
    // Everybody is told who decides over itself; administrators also over others.
    let out = place.ok((LIST, &[]), "irm", &["name", "may", "web"])?;
    ensure!(out.contains("serve: no: ") && out.contains("allocate: no: its rule (irmd.toml)"), "{out}");
    place.no((LIST, &[]), "irm", &["name", "may", "web", "--user", "backup"], &["may not"])?;
    let out = place.ok((0, &[]), "irm", &["name", "may", "web", "--user", "backup"])?;
    ensure!(out.contains("serve: no: ") && out.contains("allocate: yes: its rule (irmd.toml)"), "{out}");
    let out = place.ok((0, &[]), "irm", &["name", "may", "game.y", "--user", "games"])?;
    ensure!(out.contains("serve: yes: the rule of game.* (irmd.toml)"), "its first group counts: {out}");
    ensure!(place.counter("refused_serve")? == 4 && place.counter("refused_allocate_local")? == 2, "each is counted");
    Ok(())
}

fn a_group_administrates_and_is_no_ipcp() -> Result<()> {
    if !root_only() {
        return Ok(());
    }
    let place = Place::with(RULES)?;
    let change = ["name", "rules", "web", "--allow-local", "list"];
    place.no((LIST, &[]), "irm", &change, &["user 38 may not administrate", "group cdrom"])?;
    place.ok((LIST, &[CDROM]), "irm", &change)?;
    let _web = place.serve((WWW, &[]), "web")?;
    place.ok((LIST, &[]), "oping", &["web", "-c", "1"])?;
    place.no((BACKUP, &[]), "oping", &["web", "-c", "1"], &["its rule (runtime.toml) says allow-local = [list]"])?;
    place.no(
        (LIST, &[CDROM]),
        "irm",
        &["name", "rules", "web", "--serve", "no-such-user"],
        &["no user \"no-such-user\""],
    )?;
    // It may give programs to nobody but itself: else the group were root.
    let program = copy(&place.host, "oping");
    let program = program.to_str().context("utf-8")?;
    let bind = ["bind", "program", program, "--name", "free", "--user", "root"];
    place.no((LIST, &[CDROM]), "irm", &bind, &["user 38 may not bind programs that run as user 0"])?;
    place.ok((0, &[]), "irm", &["bind", "program", program, "--name", "free", "--user", "www-data"])?;
    // Nor be an IPCP, which vouches for peers.
    let (run_dir, state) = (place.host.run_dir().to_str().context("utf-8")?, tempfile::tempdir()?);
    std::fs::set_permissions(state.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let args = ["--name", "evil", "--run-dir", run_dir, "--state-dir", state.path().to_str().context("utf-8")?];
    let output = place.run((LIST, &[CDROM]), "ipcpd-udp", &args)?;
    ensure!(output.code() != 0 && output.err.contains("ipcp-evil.sock"), "{output:?}");
    ensure!(place.host.list("ipcp list")?.is_empty());
    Ok(())
}

fn a_user_sees_its_own_flows_only() -> Result<()> {
    if !root_only() {
        return Ok(());
    }
    let place = Place::with("")?;
    let _server = place.serve((WWW, &[]), "echo")?;
    let mut client = place.host.start("setpriv", &place.words((BACKUP, &[]), "oping", &["echo", "-i", "0.05"])?)?;
    client.expect_line(SOON, "seq=")?;
    let id = await_flows(&place.host, 1)?[0]["id"].clone();
    let seen = |who: u32| -> Result<usize> {
        let rows: Vec<Value> = serde_json::from_str(&place.ok((who, &[]), "irm", &["flow", "list", "--json"])?)?;
        Ok(rows.len())
    };
    assert_eq!([seen(0)?, seen(WWW)?, seen(BACKUP)?, seen(LIST)?], [1, 1, 1, 0]);
    let id = id.to_string();
    place.no((LIST, &[]), "irm", &["flow", "show", &id], &[&format!("no flow {id} on this host")])?;
    place.no((LIST, &[]), "irm", &["flow", "dealloc", &id], &[&format!("no flow {id} on this host")])?;
    ensure!(client.is_running());
    // Names are everybody's to see, who serves them is not.
    let names = |who: u32| -> Result<Value> {
        let rows: Vec<Value> = serde_json::from_str(&place.ok((who, &[]), "irm", &["name", "list", "--json"])?)?;
        rows.into_iter().find(|row| row["name"] == "echo").context("echo")
    };
    assert_eq!(names(WWW)?["processes"].as_array().map(Vec::len), Some(1));
    assert_eq!(names(LIST)?["processes"].as_array().map(Vec::len), Some(0));
    place.ok((LIST, &[]), "irm", &["status"])?;
    // Either end's user may end it.
    place.ok((WWW, &[]), "irm", &["flow", "dealloc", &id])?;
    let output = client.wait(SOON)?;
    ensure!(output.err.contains("deallocated with irm"), "{output:?}");
    Ok(())
}

fn another_user_can_put_nothing_into_the_run_directory() -> Result<()> {
    if !root_only() {
        return Ok(());
    }
    let place = Place::with("")?;
    place.host.bootstrap(&[])?;
    let run = place.host.run_dir().to_owned();
    let shell = |script: &str| -> Result<Output> {
        let args = ["--reuid=33", "--regid=33", "--clear-groups", "sh", "-c", script];
        let run = run.to_str().context("utf-8")?;
        place.host.run("setpriv", &[&args[..], &["sh", run]].concat())
    };
    for attack in [
        "rm -f $1/irmd.sock",
        "mv $1/irmd.flow $1/away",
        "ln -s /etc/passwd $1/flow-ids.new",
        "touch $1/ipcp-udp9.sock",
        // Only irmd speaks to an IPCP.
        "test -w $1/ipcp-udp0.sock",
        // Held, it would keep the next irmd from starting.
        "exec 9< $1/irmd.lock && flock -n 9",
        "cat $1/state/*.key",
        "echo >> $1/state/runtime.toml",
    ] {
        let output = shell(attack)?;
        ensure!(output.code() != 0, "{attack} worked: {output:?}");
    }
    // What they may reach is there.
    ensure!(shell("test -w $1/irmd.sock && test -w $1/irmd.flow && test -w $1/ipcp-udp0.flow")?.code() == 0);
    place.ok((WWW, &[]), "irm", &["status"])?;
    // Were the mode of the IPCP's socket another, it would still hear whom it speaks to.
    let socket = run.join("ipcp-udp0.sock");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    for (uid, permitted) in [(WWW, false), (0, true)] {
        let answer = std::thread::scope(|scope| scope.spawn(|| asks_the_ipcp(uid, &socket)).join().expect("no panic"))?;
        match answer {
            Ok(()) => ensure!(permitted, "user {uid} spoke to the IPCP"),
            Err(failure) => {
                let said = "only irmd, as root or user 0, speaks to an IPCP";
                ensure!(!permitted && failure.message.contains(said), "user {uid}: {failure:?}");
            }
        }
    }
    Ok(())
}

/// Becomes a user, this thread alone, and asks an IPCP how it is.
fn asks_the_ipcp(uid: u32, socket: &std::path::Path) -> Result<Result<(), Failure>> {
    let user = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(user, user, user)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ipcp = proto::v1::ipcp_client::IpcpClient::new(handoff::channel(socket));
        let answer = tokio::time::timeout(SOON, ipcp.report(proto::v1::Empty {})).await?;
        Ok(answer.map(drop).map_err(|status| Failure::from_status(&status)))
    })
}

/// A container that shares the run directory: the kernel gives irmd the number 0 for everybody outside.
fn a_process_that_irmd_cannot_see_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["a"])?;
    let irmd = lab::binaries::folder().context("prepared")?.join("irmd");
    let irmd = irmd.to_str().context("utf-8")?;
    let mut within = host.start("unshare", &["--pid", "--fork", "--kill-child", irmd])?;
    within.expect_log(SOON, "irmd is ready")?;
    // Neither by its calls nor by a lease; and nobody waits for ever.
    let (status, server) = (host.run("irm", &["status"])?, host.run("oping", &["--listen", "echo"])?);
    ensure!(status.code() == 2 && server.code() == 2, "{status:?} {server:?}");
    ensure!(within.is_running());
    let lease = handoff_refusal(&host.run_dir().join("irmd.flow"))?;
    ensure!(lease.contains("PID namespace"), "{lease}");
    Ok(())
}

/// What a program hears that opens a lease and is refused.
fn handoff_refusal(path: &std::path::Path) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match tokio::time::timeout(SOON, handoff::client::open(path)).await? {
            Ok(_) => bail!("the lease was opened"),
            Err(error) => Ok(format!("{error:?}")),
        }
    })
}
