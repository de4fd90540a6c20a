//! Names in DNS, with real name servers: each story once with BIND 9 and once with Knot DNS.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::name_server::{Kind, NameServer, ZONE, key_text};
use flowring_tests::net::{Net, SOON, ipcp};
use lab::{Daemon, Host, Running, Signal};
use rustix::process::{Pid, kill_process};
use serde_json::Value;

/// Each story with either server.
macro_rules! stories {
    ($($story:ident: $bind:ident, $knot:ident;)*) => {
        $(
            fn $bind() -> Result<()> { $story(Kind::Bind) }
            fn $knot() -> Result<()> { $story(Kind::Knot) }
        )*

        pub(crate) fn cases() -> Vec<Case> {
            let mut cases = cases![programs ["named", "dig"]: $($bind),*];
            cases.extend(cases![programs ["knotd", "kdig"]: $($knot),*]);
            cases
        }
    };
}

stories! {
    a_dead_host_is_asked_until_its_record_is_void: bind_a_dead_host_is_asked_until_its_record_is_void,
        knot_a_dead_host_is_asked_until_its_record_is_void;
    a_wrong_key_is_told_by_what_is_wrong: bind_a_wrong_key_is_told_by_what_is_wrong,
        knot_a_wrong_key_is_told_by_what_is_wrong;
    a_killed_server_leaves_known_names_and_tells_why_new_ones_fail:
        bind_a_killed_server_leaves_known_names_and_tells_why_new_ones_fail,
        knot_a_killed_server_leaves_known_names_and_tells_why_new_ones_fail;
    two_hosts_serve_one_name: bind_two_hosts_serve_one_name, knot_two_hosts_serve_one_name;
    another_port_stands_in_srv: bind_another_port_stands_in_srv, knot_another_port_stands_in_srv;
    records_by_hand_are_found_and_left_alone: bind_records_by_hand_are_found_and_left_alone,
        knot_records_by_hand_are_found_and_left_alone;
    records_outlive_daemons_and_are_not_doubled: bind_records_outlive_daemons_and_are_not_doubled,
        knot_records_outlive_daemons_and_are_not_doubled;
    names_over_ipv6: bind_names_over_ipv6, knot_names_over_ipv6;
}

/// Hosts a (asks), b (serves) and one with a name server.
struct Stage {
    net: Net,
    dns: NameServer,
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

impl Stage {
    fn new(kind: Kind, lines: &str) -> Result<Self> {
        let net = Net::bare()?;
        let dns = NameServer::start(kind, &net.another("ns")?, lines)?;
        net.a.bootstrap_with(&[], &words(&dns.words()))?;
        Ok(Self { net, dns })
    }

    /// b registers what it serves; its records live so many seconds.
    fn with_key(kind: Kind, lines: &str, lifetime: u32, more: &[&str]) -> Result<Self> {
        let stage = Self::new(kind, lines)?;
        let mut options = stage.dns.words_with_key(&stage.net.b, lifetime)?;
        options.extend(more.iter().map(|word| (*word).to_owned()));
        stage.net.b.bootstrap_with(&[], &words(&options))?;
        Ok(stage)
    }

    /// One more host with the key, whose records live nine seconds.
    fn another(&self, name: &str) -> Result<(Host, Daemon)> {
        let host = self.net.another(name)?;
        let irmd = host.irmd().start()?;
        let mut options = self.dns.words_with_key(&host, 9)?;
        options.extend(["--dns-ttl", "1"].map(str::to_owned));
        host.bootstrap_with(&[], &words(&options))?;
        Ok((host, irmd))
    }

    /// A server of `name` at `host`, in DNS.
    fn serve(&self, host: &Host, name: &str) -> Result<Running> {
        let server = host.serve(name)?;
        lab::wait_until(SOON, "the name to be in DNS", || state(host, name).is_ok_and(|state| state == "published"))
            .with_context(|| format!("{:?}", host.list("name list")))?;
        Ok(server)
    }
}

/// How a name stands in DNS.
fn state(host: &Host, name: &str) -> Result<String> {
    let rows = host.list("name list")?;
    let row = rows.iter().find(|row| row["name"] == name).context("no such name")?;
    Ok(row["registrations"][0]["state"].as_str().context("no state")?.to_owned())
}

fn resolve(host: &Host, name: &str) -> Result<Value> {
    let text = host.irm(&["name", "resolve", name, "--json"])?;
    serde_json::from_str(&text).context(text)
}

/// What `irm name resolve` says of DNS.
fn dns_source(host: &Host, name: &str) -> Result<Value> {
    let sources = resolve(host, name)?["sources"].take();
    let dns = sources.as_array().and_then(|rows| rows.iter().find(|row| row["source"] == "dns").cloned());
    dns.with_context(|| format!("no DNS in {sources}"))
}

/// One ping's own account; an error with its words where there is no flow.
fn ping(host: &Host, name: &str) -> Result<Value> {
    let output = host.run("oping", &[name, "-c", "1", "--json"])?;
    ensure!(output.code() == 0, "{}", output.err);
    Ok(serde_json::from_str(&output.out)?)
}

fn ping_error(host: &Host, name: &str) -> Result<String> {
    match ping(host, name) {
        Ok(account) => anyhow::bail!("a flow to {name}: {account}"),
        Err(error) => Ok(error.to_string()),
    }
}

/// kill -9 of every daemon and program of b.
fn power_off(net: &mut Net, server: &mut Running) -> Result<()> {
    let pid = ipcp(&net.b)?["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("a pid")?;
    net.irmd_b.process().kill()?;
    kill_process(pid, Signal::KILL)?;
    server.kill()
}

fn a_dead_host_is_asked_until_its_record_is_void(kind: Kind) -> Result<()> {
    let mut stage = Stage::with_key(kind, "", 6, &["--dns-ttl", "1"])?;
    let name = "echo.flows.test";
    let mut server = stage.serve(&stage.net.b, name)?;
    ensure!(ping(&stage.net.a, name)?["received"] == 1);
    let source = dns_source(&stage.net.a, name)?;
    ensure!(source["won"] == true && source["hosts"][0]["from"] == "txt" && source["domain"] == name, "{source}");
    let b = stage.net.b.address().to_string();
    ensure!(stage.dns.records(name, "A")?.join(" ") == b);

    power_off(&mut stage.net, &mut server)?;
    // Its record still stands, and still lives.
    ensure!(stage.dns.records(name, "A")?.join(" ") == b);
    lab::wait_until(SOON, "its record to be void", || {
        dns_source(&stage.net.a, name).is_ok_and(|source| source["hosts"][0]["ignored"].is_string())
    })?;
    let error = ping_error(&stage.net.a, name)?;
    ensure!(error.contains("its record is void") && error.contains(&b), "{error}");
    ensure!(stage.dns.records(name, "A")?.join(" ") == b, "somebody without the key removed it");

    // The next holder of the key serves the name and removes what is void.
    let (c, _irmd) = stage.another("c")?;
    let _server = stage.serve(&c, name)?;
    ensure!(stage.dns.records(name, "A")? == [c.address().to_string()]);
    lab::wait_until(SOON, "a to hear of it", || ping(&stage.net.a, name).is_ok())?;
    // At its first refresh behind the TTL the last of it goes, too.
    let service = format!("_flowring._udp.{name}");
    lab::wait_until(SOON, "the void record to be gone", || {
        stage.dns.records(&service, "TXT").is_ok_and(|records| records.len() == 1)
    })
}

fn a_wrong_key_is_told_by_what_is_wrong(kind: Kind) -> Result<()> {
    let stage = Stage::with_key(kind, "", 900, &[])?;
    let b = &stage.net.b;
    b.irm(&["name", "create", "echo"])?;
    let register = || b.irm(&["name", "register", "echo", "--layer", "net"]);
    let wrong = key_text("flows", "d3Jvbmc=");
    for (key, words) in
        [(wrong, ["BADSIG", "flows", "secret"]), (key_text("other", "d3Jvbmc="), ["BADKEY", "other", "--dns-key"])]
    {
        stage.dns.key_file(b, &key)?;
        let error = register().unwrap_err().to_string();
        for word in words.iter().chain(&["echo.flows.test", &stage_server(&stage), "registered on this host"]) {
            ensure!(error.contains(word), "no {word:?} in {error}");
        }
    }
    // A key that the server knows and that may not update: BIND refuses, Knot says that it is not the right key.
    stage.dns.key_file(b, &key_text("spy", "c2VjcmV0IG9mIHRoZSBsYWIncyB6b25lLi4uLi4="))?;
    let error = register().unwrap_err().to_string();
    ensure!(error.contains(if kind == Kind::Bind { "REFUSED" } else { "NOTAUTH" }), "{error}");
    stage.dns.key_file(b, "key flows {\n  algorithm hmac-md5;\n};\n")?;
    let error = register().unwrap_err().to_string();
    ensure!(error.contains("flows.key") && error.contains("line 2"), "{error}");
    ensure!(stage.dns.records("echo.flows.test", "A")?.is_empty());
    ensure!(state(b, "echo")? == "failing");
    // A program serves the name all the same, and it is written as soon as the key is right.
    let _server = b.serve("echo")?;
    ensure!(ping(b, "echo")?["received"] == 1);
    stage.dns.right_key(b)?;
    register()?;
    ensure!(stage.dns.records("echo.flows.test", "A")? == [b.address().to_string()]);
    Ok(())
}

fn stage_server(stage: &Stage) -> String {
    // As `irm ipcp bootstrap` was told.
    stage.dns.words()[3].clone()
}

fn a_killed_server_leaves_known_names_and_tells_why_new_ones_fail(kind: Kind) -> Result<()> {
    let mut stage = Stage::with_key(kind, "", 60, &["--dns-ttl", "1"])?;
    let _server = stage.serve(&stage.net.b, "echo")?;
    ping(&stage.net.a, "echo")?;
    stage.dns.kill()?;
    // Known, and known for longer than its TTL: the record says how long it lives.
    ping(&stage.net.a, "echo")?;
    lab::wait_until(SOON, "the TTL to be over", || {
        dns_source(&stage.net.a, "echo").is_ok_and(|source| source["outcome"] == "failed")
    })?;
    ping(&stage.net.a, "echo")?;
    let error = ping_error(&stage.net.a, "new")?;
    for word in ["new.flows.test", "did not answer", &stage_server(&stage)] {
        ensure!(error.contains(word), "no {word:?} in {error}");
    }
    // A program serves a name though its record cannot be written; who registers by hand is told.
    let _other = stage.net.b.serve("other")?;
    let error = stage.net.b.irm(&["name", "register", "other", "--layer", "net"]).unwrap_err().to_string();
    ensure!(error.contains("other.flows.test") && error.contains(&stage_server(&stage)), "{error}");
    // It is back: what could not be written is, by itself.
    stage.dns.restart()?;
    lab::wait_until(SOON, "the record to be written", || {
        state(&stage.net.b, "other").is_ok_and(|state| state == "published")
    })?;
    lab::wait_until(SOON, "a to find it", || ping(&stage.net.a, "other").is_ok())
}

fn two_hosts_serve_one_name(kind: Kind) -> Result<()> {
    let stage = Stage::with_key(kind, "", 900, &["--dns-ttl", "1"])?;
    let (c, _irmd) = stage.another("c")?;
    let server_b = stage.serve(&stage.net.b, "echo")?;
    let mut server_c = stage.serve(&c, "echo")?;
    ensure!(stage.dns.records("echo.flows.test", "A")?.len() == 2);
    let at = |host: &Host| {
        let address = host.address().to_string();
        ping(&stage.net.a, "echo")
            .is_ok_and(|row| row["peer_address"].as_str().is_some_and(|peer| peer.starts_with(&address)))
    };
    lab::wait_until(SOON, "a flow to b", || at(&stage.net.b))?;
    lab::wait_until(SOON, "a flow to c", || at(&c))?;
    // One leaves without a word to DNS's caches: the other is asked instead.
    drop(server_b);
    for _ in 0..5 {
        ensure!(at(&c), "the host that is left was not asked");
    }
    lab::wait_until(SOON, "b's record to be gone", || {
        stage.dns.records("echo.flows.test", "A").is_ok_and(|records| records == [c.address().to_string()])
    })?;
    server_c.kill()?;
    lab::wait_until(SOON, "the zone to be as before", || {
        ["A", "TXT", "SRV"].iter().all(|kind| {
            let names = ["echo.flows.test", "_flowring._udp.echo.flows.test"];
            names.iter().all(|name| stage.dns.records(name, kind).is_ok_and(|records| records.is_empty()))
        })
    })
}

fn another_port_stands_in_srv(kind: Kind) -> Result<()> {
    let stage = Stage::with_key(kind, "", 900, &["--port", "3400"])?;
    let _server = stage.serve(&stage.net.b, "Echo")?;
    // A capital is escaped: domain names know none.
    let service = "_flowring._udp.flx--45cho.flows.test";
    ensure!(stage.dns.records(service, "SRV")? == ["0 0 3400 flx--45cho.flows.test."]);
    ensure!(ping(&stage.net.a, "Echo")?["received"] == 1);
    ping_error(&stage.net.a, "echo").map(drop)?;
    stage.net.b.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    lab::wait_until(SOON, "its records to go with the IPCP", || {
        ["SRV", "TXT"].iter().all(|kind| stage.dns.records(service, kind).is_ok_and(|records| records.is_empty()))
            && stage.dns.records("flx--45cho.flows.test", "A").is_ok_and(|records| records.is_empty())
    })
}

fn records_by_hand_are_found_and_left_alone(kind: Kind) -> Result<()> {
    let net = Net::bare()?;
    let (a, b) = (&net.a, &net.b);
    let lines = format!(
        "plain A {0}\nother A {0}\n_flowring._udp.other SRV 0 0 3359 host\nhost A {0}\n\
         bad A 224.0.0.1\nalias CNAME plain\nloop1 CNAME loop2\nloop2 CNAME loop1\n",
        b.address()
    );
    let dns = NameServer::start(kind, &net.another("ns")?, &lines)?;
    a.bootstrap_with(&[], &words(&dns.words()))?;
    b.bootstrap_with(&[], &words(&dns.words_with_key(b, 900)?))?;
    let servers: Vec<Running> =
        ["plain", "other", "alias"].map(|name| b.serve(name)).into_iter().collect::<Result<_>>()?;
    for name in ["plain", "other", "alias"] {
        ensure!(ping(a, name).with_context(|| name.to_owned())?["received"] == 1);
    }
    let error = ping_error(a, "bad")?;
    ensure!(error.contains("224.0.0.1") && error.contains("not the address of one host"), "{error}");
    let error = ping_error(a, "loop1")?;
    ensure!(error.contains("loop1.flows.test"), "{error}");
    let error = ping_error(a, "nowhere")?;
    ensure!(error.contains("NXDOMAIN") && error.contains("nowhere.flows.test"), "{error}");
    lab::wait_until(SOON, "b's names to be in DNS", || state(b, "plain").is_ok_and(|state| state == "published"))?;
    drop(servers);
    let service = format!("_flowring._udp.plain.{ZONE}");
    lab::wait_until(SOON, "b's names to be out of DNS", || {
        dns.records(&service, "TXT").is_ok_and(|rows| rows.is_empty())
    })?;
    ensure!(dns.records("plain.flows.test", "A")? == [b.address().to_string()]);
    Ok(())
}

fn records_outlive_daemons_and_are_not_doubled(kind: Kind) -> Result<()> {
    let mut stage = Stage::with_key(kind, "", 900, &["--port", "3400"])?;
    let name = "echo.flows.test";
    let service = format!("_flowring._udp.{name}");
    let _server = stage.serve(&stage.net.b, name)?;
    let pid = |net: &Net| ipcp(&net.b).map(|row| row["pid"].as_i64().unwrap_or(0));
    let before = pid(&stage.net)?;
    let first = stage.dns.records(&service, "TXT")?;
    kill_process(Pid::from_raw(i32::try_from(before)?).context("a pid")?, Signal::KILL)?;
    lab::wait_until(SOON, "the next IPCP to write the record", || {
        pid(&stage.net).is_ok_and(|pid| pid != 0 && pid != before)
            && state(&stage.net.b, name).is_ok_and(|state| state == "published")
    })?;
    let second = stage.dns.records(&service, "TXT")?;
    ensure!(first.len() == 1 && second.len() == 1, "{first:?} {second:?}");
    ensure!(stage.dns.records(name, "A")?.len() == 1 && stage.dns.records(&service, "SRV")?.len() == 1);
    // A restart in order keeps the record too: names stay served. And the layer knows its zone again.
    let exported = stage.net.b.irm(&["config", "export"])?;
    for key in ["dns-zone = \"flows.test\"", "dns-servers", "dns-key", "dns-lifetime = 900"] {
        ensure!(exported.contains(key), "no {key} in {exported}");
    }
    stage.net.irmd_b.stop()?;
    ensure!(stage.dns.records(&service, "TXT")?.len() == 1);
    stage.net.irmd_b = stage.net.b.irmd().start()?;
    lab::wait_until(SOON, "the name to be served again", || {
        state(&stage.net.b, name).is_ok_and(|state| state == "published")
            && stage.net.b.accepting(name).is_ok_and(|n| n > 0)
    })?;
    ensure!(stage.net.b.irm(&["config", "export"])? == exported);
    ensure!(stage.dns.records(&service, "TXT")?.len() == 1);
    ensure!(ping(&stage.net.a, name)?["received"] == 1);
    // The end for good takes it out.
    stage.net.b.irm(&["shutdown"])?;
    let left =
        [stage.dns.records(&service, "TXT")?, stage.dns.records(&service, "SRV")?, stage.dns.records(name, "A")?];
    ensure!(left.iter().all(Vec::is_empty), "{left:?}");
    Ok(())
}

fn names_over_ipv6(kind: Kind) -> Result<()> {
    let net = Net::bare()?;
    let dns = NameServer::start(kind, &net.another("ns")?, "")?;
    for (host, options) in [(&net.a, dns.words()), (&net.b, dns.words_with_key(&net.b, 900)?)] {
        let ip = host.address6().context("an IPv6 address")?.to_string();
        let mut all = "ipcp bootstrap --type udp --name udp0 --layer net --ip".split(' ').collect::<Vec<_>>();
        all.push(&ip);
        all.extend(options.iter().map(String::as_str));
        host.irm(&all)?;
    }
    let _server = net.b.serve("echo")?;
    lab::wait_until(SOON, "the name to be in DNS", || state(&net.b, "echo").is_ok_and(|state| state == "published"))?;
    ensure!(dns.records("echo.flows.test", "AAAA")? == [net.b.address6().context("an address")?.to_string()]);
    ensure!(ping(&net.a, "echo")?["received"] == 1);
    Ok(())
}
