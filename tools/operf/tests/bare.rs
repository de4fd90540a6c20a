//! `operf` against itself over bare sockets on the loopback: both loops of every test, without a daemon.
#![expect(clippy::disallowed_methods, reason = "the test takes a free port")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

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
fn nobody_there_is_exit_code_1_at_once() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = operf(&["--bare", &free.to_string(), "-t", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("port is closed") && said.contains("--bare-listen"), "{said}");
}
