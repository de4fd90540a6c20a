//! `portfwd` as a process, between clients and targets on the loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::Builder;
use std::time::Duration;

use serde_json::Value;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

/// A forwarder in the foreground; ended when dropped.
struct Forwarder {
    child: Child,
    folder: tempfile::TempDir,
}

impl Forwarder {
    /// With a file of rules, this many descriptors at most, and its log in the file `log`, once it listens.
    fn start(rules: &str, descriptors: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut it = Self::begin(folder, rules, descriptors, &format!("--log-file={}", log.display()), Stdio::null());
        let said = |it: &Self| std::fs::read_to_string(it.log()).unwrap_or_default();
        until("portfwd listens", || said(&it).matches(" forwards ").count() >= rules_of(rules));
        assert!(it.child.try_wait().unwrap().is_none());
        it
    }

    fn begin(folder: tempfile::TempDir, rules: &str, descriptors: u32, more: &str, stderr: Stdio) -> Self {
        let file = folder.path().join("rules");
        std::fs::write(&file, rules).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_portfwd")]);
        command.arg(&file).args(["--workers=2", more]).env("FLOWRING_RUN_DIR", folder.path());
        command.env_remove("FLOWRING_LOG").stderr(stderr);
        Self { child: command.spawn().unwrap(), folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn tell(&self, args: &[&str]) -> Output {
        tell(self.folder.path(), args)
    }

    /// A rule as `status` has it.
    fn rule(&self, place: usize) -> Value {
        let output = self.tell(&["status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["rules"][place].clone()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rules_of(rules: &str) -> usize {
    rules.lines().filter(|line| line.contains("->") || line.starts_with("listen")).count()
}

fn tell(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portfwd")).args(args).env("FLOWRING_RUN_DIR", folder).output().unwrap()
}

/// Asks again and again, with a bound.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let socket = udp(Ipv4Addr::LOCALHOST);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..SOON.as_millis() / 20 {
        if done() {
            return;
        }
        // Nothing comes: a pause.
        let _ = socket.recv(&mut [0]);
    }
    panic!("not within {SOON:?}: {what}");
}

#[expect(clippy::disallowed_methods, reason = "a test's sockets")]
fn udp(host: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// A port that nobody has.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whatever is sent to it comes back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    Builder::new()
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = move || std::io::copy(&mut &stream, &mut &stream);
                Builder::new().spawn(serve).unwrap();
            }
        })
        .unwrap();
    at
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// What comes back of `bytes`.
fn ask(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn nobody_who_reads_the_log_is_waited_for() {
    let (port, target) = (port(), echo());
    let folder = tempfile::tempdir().unwrap();
    let rules = format!("{port} -> {target}\n");
    let mut forwarder = Forwarder::begin(folder, &rules, 1024, "--log=info", Stdio::piped());
    let mut log = BufReader::new(forwarder.child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains(" forwards "), "{line}");
    // A pipe holds 64 KiB; from here on nobody reads it.
    let mut first = connect(port);
    for _ in 0..1000 {
        assert_eq!(ask(&mut connect(port), b"x").unwrap(), b"x");
    }
    assert_eq!(ask(&mut first, b"x").unwrap(), b"x");
}

#[test]
fn clients_wait_for_descriptors_in_the_backlog() {
    let (port, target) = (port(), echo());
    let forwarder = Forwarder::start(&format!("{port} -> {target}\n"), 100);
    let client = move || ask(&mut connect(port), b"hello").map_err(|error| error.to_string());
    let clients: Vec<_> = (0..400).map(|_| Builder::new().spawn(client).unwrap()).collect();
    for client in clients {
        assert_eq!(client.join().unwrap().as_deref(), Ok(&b"hello"[..]));
    }
    // Those who stay leave some to who asks.
    let idle: Vec<_> = (0..100).map(|_| connect(port)).collect();
    until("those who have room are connected", || forwarder.rule(0)["open"].as_u64() >= Some(20));
    drop(idle);
}

#[test]
fn forged_clients_over_udp_leave_room_for_others() {
    let (tcp, target) = (port(), echo());
    let silent = udp(Ipv4Addr::LOCALHOST);
    let clients = port();
    let rules = format!("udp:{clients} -> udp:{}\n{tcp} -> {target}\n", silent.local_addr().unwrap());
    let forwarder = Forwarder::start(&rules, 200);
    for (net, host) in (1..=2).flat_map(|net| (1..=200).map(move |host| (net, host))) {
        udp(Ipv4Addr::new(127, 0, net, host)).send_to(b"x", (Ipv4Addr::LOCALHOST, clients)).unwrap();
    }
    until("all were seen", || forwarder.rule(0)["accepted"].as_u64() == Some(400));
    let rule = forwarder.rule(0);
    assert!(rule["open"].as_u64() <= Some(50), "of 200 descriptors: {rule}");
    assert_eq!(rule["refused"], serde_json::json!({}), "newcomers take the places of those whom nobody answered");
    assert_eq!(ask(&mut connect(tcp), b"x").unwrap(), b"x");
}

#[test]
fn the_first_datagram_finds_a_named_target() {
    let target = echo_datagrams();
    let clients = port();
    let _forwarder = Forwarder::start(&format!("udp:{clients} -> udp:localhost:{target}\n"), 1024);
    let client = udp(Ipv4Addr::LOCALHOST);
    client.send_to(b"once", (Ipv4Addr::LOCALHOST, clients)).unwrap();
    let mut answer = [0; 9];
    let len = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..len], b"once");
}

/// The port of 127.0.0.1, and of ::1 where there is one, that sends datagrams back.
#[expect(clippy::disallowed_methods, reason = "a test's sockets")]
fn echo_datagrams() -> u16 {
    let four = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = four.local_addr().unwrap().port();
    let six = UdpSocket::bind(("::1", port)).ok();
    for socket in [Some(four), six].into_iter().flatten() {
        let serve = move || {
            let mut bytes = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..len], from);
            }
        };
        Builder::new().spawn(serve).unwrap();
    }
    port
}

#[test]
fn every_connection_has_a_line_also_when_it_is_stopped() {
    let (plain, proxied, target) = (port(), port(), echo());
    let rules = format!(
        "[[rule]]\nlisten = \"{plain}\"\ntarget = \"{target}\"\n\
         [[rule]]\nlisten = \"{proxied}\"\ntarget = \"{target}\"\nproxy-in = true\n"
    );
    let mut forwarder = Forwarder::start(&rules, 1024);
    let mut open = connect(plain);
    ask(&mut open, b"x").unwrap();
    let mut early = connect(proxied);
    early.write_all(b"PROXY ").unwrap();
    until("both are known", || forwarder.rule(1)["open"] == 1);
    assert!(forwarder.tell(&["stop", "--now"]).status.success());
    forwarder.child.wait().unwrap();
    let log = std::fs::read_to_string(forwarder.log()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("end=stopped")).collect();
    assert!(lines.len() == 2 && lines.iter().any(|line| line.contains(&format!("rule={plain} "))), "{log}");
}

#[test]
fn a_header_about_nobody_is_about_who_brought_it() {
    let (port, target) = (port(), echo());
    let rules =
        format!("[[rule]]\nlisten = \"{port}\"\ntarget = \"{target}\"\nproxy-in = true\nallow = [\"10.0.0.0/8\"]\n");
    let _forwarder = Forwarder::start(&rules, 1024);
    let answered = |header: &[u8]| {
        let mut stream = connect(port);
        stream.write_all(header).unwrap();
        ask(&mut stream, b"x").is_ok()
    };
    assert!(answered(b"PROXY TCP4 10.0.0.9 10.0.0.1 1 2\r\n"));
    assert!(!answered(b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n"));
    assert!(!answered(b"PROXY UNKNOWN\r\n"), "127.0.0.1 is not in 10.0.0.0/8");
    assert!(!answered(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"), "nor where the header is of version 2");
}

#[test]
fn a_rule_that_comes_back_goes_on_counting() {
    let (first, second, target) = (port(), port(), echo());
    let both = format!("{first} -> {target}\n{second} -> {target}\n");
    let forwarder = Forwarder::start(&both, 1024);
    let mut open = connect(first);
    ask(&mut open, b"x").unwrap();
    let file = forwarder.folder.path().join("rules");
    for rules in [&format!("{second} -> {target}\n"), &both] {
        std::fs::write(&file, rules).unwrap();
        assert!(forwarder.tell(&["reload"]).status.success());
    }
    let rule = forwarder.rule(0);
    assert_eq!((rule["name"].as_str(), rule["state"].as_str()), (Some(&*first.to_string()), Some("listening")));
    assert_eq!((rule["open"].as_u64(), rule["accepted"].as_u64()), (Some(1), Some(1)));
    assert_eq!(forwarder.rule(2), Value::Null, "it is listed once");
    assert_eq!(ask(&mut open, b"x").unwrap(), b"x");
}

#[test]
fn zones_have_names() {
    let (port, target) = (port(), echo());
    let _forwarder = Forwarder::start(&format!("[::1%lo]:{port} -> {target}\n"), 1024);
    let Ok(mut client) = TcpStream::connect(("::1", port)) else { panic!("nobody listens at ::1") };
    assert_eq!(ask(&mut client, b"x").unwrap(), b"x");
    let folder = tempfile::tempdir().unwrap();
    let output = tell(folder.path(), &[&format!("[fe80::1%nosuch0]:{port}"), "80"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("this host has no interface nosuch0") && output.status.code() == Some(1), "{said}");
}
