//! Starting, changing, stopping.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::{Host, wait_until};
use rustix::process::Signal;

use super::stage::{Stage, ask, connect, echo, exchange, expect_reset, metrics, portfwd, rule, rules, status};

/// Open while the rules are changed.
const OPEN: usize = 1000;
/// Threads that connect all the time.
const BUSY: usize = 4;
/// Times that the rules are changed.
const RELOADS: usize = 20;
/// New connections there are at least while they are.
const FRESH: usize = 2000;

pub(super) fn nginx(host: &Host, port: u16, page: &str) -> Result<lab::Running> {
    let folder = host.run_dir().join("nginx");
    std::fs::create_dir_all(folder.join("html"))?;
    std::fs::write(folder.join("html/index.html"), page)?;
    let shown = folder.display();
    let conf = format!(
        "user root; daemon off; master_process off; pid {shown}/pid; error_log {shown}/error.log; events {{ }}\n\
         http {{ access_log off; client_body_temp_path {shown}/b; proxy_temp_path {shown}/p; fastcgi_temp_path {shown}/f;\n\
         uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s; server {{ listen {port}; root {shown}/html; }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, conf)?;
    let mut server = host.start("nginx", &["-e", "stderr", "-c", file.to_str().context("text")?])?;
    wait_until(SOON, "nginx to listen", || {
        !server.is_running() || host.run("ss", &["-Hltn", &format!("sport = :{port}")]).is_ok_and(|o| !o.out.is_empty())
    })?;
    ensure!(server.is_running(), "nginx ended: {}", server.err());
    Ok(server)
}

/// The seed's second test: a client, a forwarder, two web servers, reached by the forwarder's two ports.
pub(super) fn two_web_servers_behind_one_forwarder() -> Result<()> {
    let Stage { a: client, b: forwarder, lab } = Stage::up()?;
    let [one, two] = lab.hosts(["one", "two"])?;
    let _servers = [nginx(&one, 8008, "page of A\n")?, nginx(&two, 8009, "page of B\n")?];
    let text = format!("7005 -> {}:8008\n7006 -> {}:8009\n", one.address(), two.address());
    let path = rules(&forwarder, &text)?;
    let start = forwarder.run("portfwd", &["start", path.to_str().context("text")?])?;
    ensure!(start.code() == 0 && start.out.is_empty() && start.err.is_empty(), "{start:?}");
    for (port, page) in [(7005, "page of A"), (7006, "page of B")] {
        for _ in 0..3 {
            let url = format!("http://{}:{port}/", forwarder.address());
            let fetched = client.run("curl", &["-sS", "--max-time", "20", &url])?;
            ensure!(fetched.code() == 0 && fetched.out.trim() == page, "{fetched:?}");
        }
        wait_until(SOON, "three connections to be over", || {
            rule(&forwarder, &port.to_string()).is_ok_and(|rule| rule["ended"]["clean"] == 3)
        })?;
    }
    let stop = forwarder.run("portfwd", &["stop"])?;
    ensure!(stop.code() == 0, "{stop:?}");
    ensure!(forwarder.run("portfwd", &["status"])?.code() == 3, "it is gone");
    ensure!(connect(&client, SocketAddr::new(forwarder.address(), 7005)).is_err(), "and so is its socket");
    Ok(())
}

/// What the file says the nth time: the rule under load has other options, and another comes and goes.
fn changing(server: SocketAddr, n: usize) -> String {
    let load = format!(
        "[[rule]]\nname = \"load\"\nlisten = \"7005\"\ntarget = \"{server}\"\nmax-connections = {}\n",
        5000 + n
    );
    let guest = format!("[[rule]]\nname = \"guest\"\nlisten = \"7006\"\ntarget = \"{server}\"\n");
    if n.is_multiple_of(2) { load } else { guest + &load }
}

pub(super) fn a_reload_under_load_loses_nobody() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let _portfwd = portfwd(&stage.a, &changing(server, 0), &["--log", "warn"])?;
    let at = SocketAddr::new(stage.a.address(), 7005);
    let mut open = Vec::with_capacity(OPEN);
    for n in 0..OPEN {
        let mut stream = connect(&stage.a, at)?;
        ask(&mut stream, &format!("first {n}"))?;
        open.push(stream);
    }
    let (done, fresh) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let busy: Vec<_> = (0..BUSY)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while !done.load(Ordering::Relaxed) || fresh.load(Ordering::Relaxed) < FRESH {
                        let mut stream = connect(&stage.a, at)?;
                        ask(&mut stream, "here for a moment")?;
                        fresh.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let reloads = (1..=RELOADS).try_for_each(|n| -> Result<()> {
            rules(&stage.a, &changing(server, n))?;
            let reload = stage.a.run("portfwd", &["reload"])?;
            ensure!(reload.code() == 0, "{reload:?}");
            // Each of them is one under load.
            let before = fresh.load(Ordering::Relaxed);
            wait_until(SOON, "connections after a reload", || fresh.load(Ordering::Relaxed) >= before + BUSY)
        });
        done.store(true, Ordering::Relaxed);
        for thread in busy {
            thread.join().expect("no panic")?;
        }
        reloads
    })?;
    for (n, stream) in open.iter_mut().enumerate() {
        ask(stream, &format!("still {n}"))?;
    }
    let told = status(&stage.a)?;
    ensure!(told["reloads"] == RELOADS && told["reloads_failed"] == 0, "{told}");
    let load = rule(&stage.a, "load")?;
    ensure!(load["accepted"].as_u64() >= Some((OPEN + FRESH) as u64), "{load}");
    ensure!(load["ended"].as_object().is_some_and(|ends| ends.keys().all(|end| end == "clean")), "{load}");
    Ok(())
}

pub(super) fn a_wrong_file_is_told_and_the_old_one_stays() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let good = format!("7005 -> {server}\n");
    let mut running = portfwd(&stage.a, &good, &[])?;
    let at = SocketAddr::new(stage.a.address(), 7005);
    let mut stream = connect(&stage.a, at)?;
    ask(&mut stream, "before")?;
    let taken = echo(&stage.a, 7010)?.port();
    let wrong = [
        (format!("{good}7006 -> 192.168.0.300:80\n"), "rules.conf:2:9: '192.168.0.300' is no host".to_owned()),
        (
            "[[rule]]\nlisten = '7005'\ntarget = '1'\ntls = { cert = 'no.pem', key = 'no.pem' }\n".to_owned(),
            "no.pem".to_owned(),
        ),
        (format!("7006 -> {server}\n{good}{taken} -> {server}\n"), format!("{taken} is in use by another program")),
        (String::new(), "there is no rule".to_owned()),
    ];
    for (text, want) in wrong {
        rules(&stage.a, &text)?;
        running.signal(Signal::HUP)?;
        running.expect_log(SOON, &want)?;
        let reload = stage.a.run("portfwd", &["reload"])?;
        ensure!(reload.code() == 1 && reload.err.contains(&want), "{reload:?}");
        let told = status(&stage.a)?;
        ensure!(told["reload_failed"].as_str().is_some_and(|why| why.contains(&want)), "{told}");
        ask(&mut stream, "meanwhile")?;
        ask(&mut connect(&stage.a, at)?, "and anew")?;
        wait_until(SOON, "nothing of a wrong file to be in force", || {
            connect(&stage.a, SocketAddr::new(at.ip(), 7006)).is_err()
        })?;
    }
    // A rule that goes is closed, its connections go on; one that takes a part of its place comes after it.
    rules(&stage.a, &format!("127.0.0.1:7005 -> {server}\n"))?;
    running.signal(Signal::HUP)?;
    running.expect_log(SOON, "1 rules, 1 new, 0 changed, 1 taken away")?;
    ask(&mut connect(&stage.a, "127.0.0.1:7005".parse()?)?, "elsewhere")?;
    wait_until(SOON, "the old end to be closed", || connect(&stage.a, at).is_err())?;
    ask(&mut stream, "and still here")?;
    ensure!(status(&stage.a)?["reload_failed"].is_null());
    ensure!(running.is_running());
    Ok(())
}

pub(super) fn a_watched_file_is_read_when_it_changes() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let running = portfwd(&stage.a, &format!("7005 -> {server}\n"), &["--watch"])?;
    rules(&stage.a, &format!("7005 -> {server}\n7006 -> {server}\n"))?;
    running.expect_log(SOON, "reloaded: 2 rules, 1 new")?;
    ask(&mut connect(&stage.a, SocketAddr::new(stage.a.address(), 7006))?, "new")?;
    rules(&stage.a, "7005 -\n")?;
    running.expect_log(SOON, "rules.conf:1:1: there is no '->'")?;
    ask(&mut connect(&stage.a, SocketAddr::new(stage.a.address(), 7006))?, "still")
}

pub(super) fn a_stop_waits_for_connections_and_takes_no_more() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let at = SocketAddr::new(stage.a.address(), 7005);
    let path = rules(&stage.a, &format!("7005 -> {server}\n"))?;
    let start = |drain: &str| -> Result<TcpStream> {
        let start = stage.a.run("portfwd", &["start", path.to_str().context("text")?, "--drain", drain])?;
        ensure!(start.code() == 0, "{start:?}");
        let mut stream = connect(&stage.a, at)?;
        ask(&mut stream, "before")?;
        Ok(stream)
    };
    // Patience for longer than the test: it ends when the connection does.
    let mut stream = start("1h")?;
    let mut stop = stage.a.start("portfwd", &["stop"])?;
    wait_until(SOON, "the socket to be closed", || connect(&stage.a, at).is_err())?;
    ask(&mut stream, "while it is being stopped")?;
    ensure!(status(&stage.a)?["stopping"] == true);
    ensure!(stop.is_running());
    drop(stream);
    ensure!(stop.wait(SOON)?.code() == 0);
    // No patience: reset.
    let stream = start("1h")?;
    ensure!(stage.a.run("portfwd", &["stop", "--now"])?.code() == 0);
    expect_reset(stream)?;
    let stream = start("100ms")?;
    ensure!(stage.a.run("portfwd", &["stop"])?.code() == 0);
    expect_reset(stream)?;
    let log = std::fs::read_to_string(stage.a.run_dir().join("portfwd.log"))?;
    ensure!(log.contains("1 connections were reset") && log.contains("end=clean"), "{log}");
    Ok(())
}

pub(super) fn one_forwarder_runs_in_a_folder() -> Result<()> {
    let stage = Stage::up()?;
    for words in [&["status"][..], &["stop"], &["reload"]] {
        let output = stage.a.run("portfwd", words)?;
        ensure!(output.code() == 3 && output.err.contains("no portfwd runs"), "{words:?}: {output:?}");
    }
    let path = rules(&stage.a, "7005 -> 127.0.0.1:80\n")?;
    let path = path.to_str().context("text")?;
    ensure!(stage.a.run("portfwd", &["start", path])?.code() == 0);
    let second = stage.a.run("portfwd", &["start", path])?;
    ensure!(second.code() == 1 && second.err.contains("runs already"), "{second:?}");
    // One that is killed leaves its socket behind, and keeps nobody out.
    let pid = status(&stage.a)?["pid"].as_i64().context("its pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    wait_until(SOON, "it to be gone", || stage.a.run("portfwd", &["status"]).is_ok_and(|output| output.code() == 3))?;
    ensure!(stage.a.run("portfwd", &["start", path])?.code() == 0);
    ensure!(stage.a.run("portfwd", &["stop"])?.code() == 0);
    // What cannot start says why, at once and to who started it.
    let mut broken = std::fs::File::create(Path::new(path))?;
    writeln!(broken, "7005 -> nowhere")?;
    let start = stage.a.run("portfwd", &["start", path])?;
    ensure!(start.code() == 1 && start.err.contains(":1:9: 'nowhere' has no port"), "{start:?}");
    let _taken = echo(&stage.a, 7005)?;
    let start = stage.a.run("portfwd", &["start", "7005", "127.0.0.1", "80"])?;
    ensure!(start.code() == 1 && start.err.contains("7005 is in use by another program"), "{start:?}");
    let check = stage.a.run("portfwd", &["check", path])?;
    ensure!(check.code() == 1 && check.out.is_empty(), "{check:?}");
    Ok(())
}

pub(super) fn nonsense_to_its_own_sockets_is_answered_or_dropped() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let at = SocketAddr::new(stage.a.address(), 9105);
    let mut running = portfwd(&stage.a, &format!("7005 -> {server}\n"), &["--metrics", &at.to_string()])?;
    ask(&mut connect(&stage.a, SocketAddr::new(at.ip(), 7005))?, "12345")?;
    wait_until(SOON, "the connection to be over", || {
        rule(&stage.a, "7005").is_ok_and(|rule| rule["ended"]["clean"] == 1)
    })?;
    let page = metrics(&stage.a, at)?;
    for line in
        ["portfwd_accepted_total{rule=\"7005\"} 1", "portfwd_bytes_total{rule=\"7005\",direction=\"in\"} 5", "# EOF"]
    {
        ensure!(page.lines().any(|said| said == line), "{line} is not in {page}");
    }
    ensure!(exchange(connect(&stage.a, at)?, b"GET /x HTTP/1.0\r\n\r\n")?.contains("404"));
    ensure!(exchange(connect(&stage.a, at)?, b"POST /metrics HTTP/1.0\r\n\r\n")?.contains("405"));
    let long = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 100_000]].concat();
    let sockets: Vec<TcpStream> = (0..40).map(|_| connect(&stage.a, at)).collect::<Result<_>>()?;
    let _ = exchange(connect(&stage.a, at)?, &long);
    ensure!(
        exchange(connect(&stage.a, at)?, b"GET / HTTP/1.0\r\n\r\n")?.contains("/metrics"),
        "silent scrapers keep others out"
    );
    drop(sockets);
    let control = stage.a.run_dir().join("portfwd.sock");
    let control = || std::os::unix::net::UnixStream::connect(&control);
    ensure!(exchange(control()?, b"{\"status\":{}}\n")?.contains("failed"));
    ensure!(exchange(control()?, b"\"reload\" or not\n")?.contains("failed"));
    ensure!(exchange(control()?, &[b'x'; 5000])?.contains("failed"), "longer than what is asked");
    ensure!(exchange(control()?, b"\"reload\"\n")?.contains("1 rules, 0 new"));
    // Silent askers are given up.
    let silent: Vec<_> = (0..16).map(|_| control()).collect::<std::io::Result<_>>()?;
    ensure!(status(&stage.a)?["reloads"] == 1);
    drop(silent);
    running.signal(Signal::TERM)?;
    ensure!(running.wait(SOON)?.code() == 0 && !stage.a.run_dir().join("portfwd.sock").exists());
    Ok(())
}
