//! `operf` against itself over bare sockets on the loopback: both loops of every test, without a daemon.
#![expect(clippy::disallowed_methods, reason = "the test takes a free port")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use operf::machine::account::Account;
use operf::machine::sdu::{self, Sdu};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_operf"))
            .args(["--bare-listen", "127.0.0.1:0", "--quiet"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("operf listens on ").unwrap().split(',').next().unwrap().to_owned();
        Self { child, address }
    }

    fn measure(&self, args: &[&str]) -> Output {
        operf(&[&["--bare", &self.address, "-t", "0.2"], args].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn operf(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_operf")).args(args).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_direction_and_size_of_batch_adds_up() {
    let server = Server::start();
    let ways =
        [&[][..], &["--reverse"], &["--batch"], &["--batch", "--reverse"], &["--batch", "-s", "16"], &["-s", "60000"]];
    for way in ways {
        let result = json(&server.measure(&[way, &["--json"]].concat()));
        let number = |key: &str| result[key].as_u64().unwrap_or_else(|| panic!("{way:?}: {key} in {result}"));
        assert!(number("received_sdus") > 100, "{way:?}: {result}");
        assert_eq!(number("sent_sdus"), number("received_sdus") + number("lost_sdus"), "{way:?}: {result}");
        assert_eq!(number("duplicate_sdus"), 0, "{way:?}: {result}");
        assert!(result["receiver_cpu_ns_per_sdu"].as_f64().unwrap() > 0.0, "{way:?}: {result}");
        assert!(result["ended"].is_null(), "{way:?}: {result}");
    }
}

#[test]
fn round_trips_are_timed() {
    let server = Server::start();
    let result = json(&server.measure(&["--rtt", "--json"]));
    let rtt = &result["rtt_us"];
    assert!(rtt["count"].as_u64().unwrap() > 100, "{result}");
    assert!(rtt["p50"].as_f64().unwrap() >= rtt["min"].as_f64().unwrap(), "{result}");
    let people = server.measure(&["--rtt"]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("\nrtt min/mean/p50"), "{people:?}");
}

#[test]
fn nobody_there_is_exit_code_1_soon() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = operf(&["--bare", &free.to_string(), "-t", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("port is closed") && said.contains("--bare-listen"), "{said}");
}

/// A server that greets, then treats each ping as `answers` says. Ends with its socket's silence.
fn odd_server(answers: impl Fn(u64) -> bool + Send + 'static) -> (String, std::thread::JoinHandle<()>) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let run = move || {
        let mut room = [0; 2048];
        let mut pings = 0;
        while let Ok((len, peer)) = socket.recv_from(&mut room) {
            let reply = match sdu::read(&room[..len]) {
                Some(Sdu::Hello(_)) => sdu::welcome().to_vec(),
                Some(Sdu::Ping(_)) => {
                    pings += 1;
                    if !answers(pings) {
                        continue;
                    }
                    room[..len].to_vec()
                }
                Some(Sdu::End(_)) => sdu::report(&Account::default()).to_vec(),
                Some(Sdu::Ack) => return,
                _ => continue,
            };
            socket.send_to(&reply, peer).unwrap();
        }
    };
    (address, std::thread::Builder::new().spawn(run).unwrap())
}

#[test]
fn a_lost_echo_is_counted_and_the_test_goes_on() {
    let (address, server) = odd_server(|ping| ping != 5);
    let result = json(&operf(&["--bare", &address, "--rtt", "-t", "1", "--json"]));
    server.join().unwrap();
    assert_eq!(result["lost_sdus"], 1, "{result}");
    assert!(result["rtt_us"]["count"].as_u64().unwrap() > 100, "{result}");
    assert!(result["rtt_us"]["max"].as_f64().unwrap() < 500_000.0, "{result}");
}

#[test]
fn a_server_that_falls_silent_ends_the_test() {
    let (address, server) = odd_server(|ping| ping < 5);
    let output = operf(&["--bare", &address, "--rtt", "-t", "0.2", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["rtt_us"]["count"], 4, "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("silent"), "{output:?}");
    // It still waits for a ping; it ends with the test's process.
    drop(server);
}

#[test]
fn no_irmd_is_exit_code_2_at_once() {
    let dir = std::env::temp_dir().join(format!("operf-without-irmd-{}", std::process::id()));
    for args in [&["perf"][..], &["perf", "--alloc"], &["--listen", "perf"]] {
        let output = operf(&[args, &["--run-dir", dir.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("irmd.sock") && said.contains("irmd --run-dir"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
