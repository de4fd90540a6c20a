//! Metrics: what Prometheus reads is what happened, and who reads badly hurts nobody.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{SOON, ipcp};
use lab::{Daemon, Host, Lab};

pub(crate) const AT: &str = "127.0.0.1:9339";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = cases![
        metrics_are_what_happened,
        sums_go_on_when_an_ipcp_is_killed,
        hostile_scrapers_hurt_nobody,
        an_address_that_is_taken_keeps_irmd_from_starting,
    ];
    all.extend(cases![programs ["promtool"]: promtool_has_nothing_to_say]);
    all
}

/// Two hosts, the first of which serves metrics and knows where `echo` is.
fn pair(lab: &Lab) -> Result<[(Host, Daemon); 2]> {
    let [a, b] = lab.hosts(["a", "b"])?;
    let irmd_a = a.irmd().args(&["--metrics", AT]).start()?;
    let irmd_b = b.irmd().args(&["--metrics", AT]).start()?;
    b.bootstrap(&[])?;
    a.bootstrap(&[("echo", &b)])?;
    Ok([(a, irmd_a), (b, irmd_b)])
}

/// Asks as `request` says; the whole answer.
fn ask(host: &Host, request: &str) -> Result<String> {
    host.inside(|| {
        let mut stream = TcpStream::connect(AT)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?
}

fn scrape_as(host: &Host, accept: &str) -> Result<String> {
    let answer = ask(host, &format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"))?;
    let (head, page) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    Ok(page.to_owned())
}

pub(crate) fn scrape(host: &Host) -> Result<String> {
    scrape_as(host, "text/plain")
}

/// A sample's value; 0 where there is none.
pub(crate) fn value(page: &str, sample: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.and_then(|value| value.parse::<f64>().ok()).map_or(0, |value| value as u64)
}

/// Scrapes until a sample has a value.
pub(crate) fn await_value(host: &Host, sample: &str, wanted: u64) -> Result<String> {
    let mut page = String::new();
    let done = lab::wait_until(SOON, sample, || {
        page = scrape(host).unwrap_or_default();
        value(&page, sample) == wanted
    });
    done.with_context(|| format!("{sample} is not {wanted} in\n{page}"))?;
    Ok(page)
}

fn metrics_are_what_happened() -> Result<()> {
    let lab = Lab::new()?;
    let [(a, _irmd_a), (b, _irmd_b)] = pair(&lab)?;
    let page = scrape(&a)?;
    ensure!(value(&page, r#"flowring_ipcp_up{ipcp="udp0"}"#) == 1, "{page}");
    ensure!(page.contains(r#"flowring_flows{layer="net",qos="raw",state="allocated"} 0"#), "{page}");
    let _server = b.serve("echo")?;
    for _ in 0..3 {
        let output = a.run("oping", &["echo", "-c", "5", "-i", "0.01"])?;
        ensure!(output.code() == 0, "{output:?}");
    }
    for _ in 0..2 {
        let output = a.run("oping", &["nowhere", "-c", "1"])?;
        ensure!(output.code() == 2, "{output:?}");
    }
    let page = await_value(&a, r#"flowring_flow_ends_total{reason="deallocated"}"#, 3)?;
    for (sample, wanted) in [
        (r#"flowring_allocation_seconds_count{side="asking",outcome="allocated"}"#, 3),
        (r#"flowring_allocation_seconds_bucket{le="+Inf",side="asking",outcome="allocated"}"#, 3),
        (r#"flowring_allocation_seconds_count{side="asking",outcome="refused"}"#, 2),
        (r#"flowring_refusals_total{side="asking",reason="unknown_name"}"#, 2),
        (r#"flowring_refusals_total{side="asking",reason="refused"}"#, 0),
        (r#"flowring_sent_sdus_total{layer="net"}"#, 15),
        (r#"flowring_received_sdus_total{layer="net"}"#, 15),
        (r#"flowring_flows{layer="net",qos="raw",state="allocated"}"#, 0),
        (r#"flowring_ipcp_restarts_total{ipcp="udp0"}"#, 0),
    ] {
        ensure!(value(&page, sample) == wanted, "{sample} is not {wanted} in\n{page}");
    }
    let sent = value(&page, r#"flowring_sent_bytes_total{layer="net"}"#);
    ensure!(sent > 0 && sent == value(&page, r#"flowring_received_bytes_total{layer="net"}"#), "{page}");
    // The peer's side of the same.
    let page = await_value(&b, r#"flowring_flow_ends_total{reason="peer_deallocated"}"#, 3)?;
    ensure!(value(&page, r#"flowring_allocation_seconds_count{side="accepting",outcome="allocated"}"#) == 3, "{page}");
    ensure!(value(&page, r#"flowring_received_bytes_total{layer="net"}"#) == sent, "{page}");
    Ok(())
}

fn sums_go_on_when_an_ipcp_is_killed() -> Result<()> {
    let lab = Lab::new()?;
    let [(a, _irmd_a), (b, _irmd_b)] = pair(&lab)?;
    let _server = b.serve("echo")?;
    let ping = |count: &str| {
        let output = a.run("oping", &["echo", "-c", count, "-i", "0.01"])?;
        ensure!(output.code() == 0, "{output:?}");
        Ok(())
    };
    ping("4")?;
    let sent = r#"flowring_sent_sdus_total{layer="net"}"#;
    await_value(&a, sent, 4)?;
    let pid = ipcp(&a)?["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    rustix::process::kill_process(pid.context("no IPCP")?, rustix::process::Signal::KILL)?;
    await_value(&a, r#"flowring_ipcp_restarts_total{ipcp="udp0"}"#, 1)?;
    await_value(&a, r#"flowring_ipcp_up{ipcp="udp0"}"#, 1)?;
    ensure!(value(&scrape(&a)?, sent) == 4, "the sum fell");
    ping("3")?;
    await_value(&a, sent, 7).map(drop)
}

fn hostile_scrapers_hurt_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let [(a, mut irmd), (b, _irmd_b)] = pair(&lab)?;
    let _server = b.serve("echo")?;
    let held = a.inside(|| -> Result<Vec<TcpStream>> {
        let mut held = Vec::new();
        for n in 0..500 {
            let mut stream = TcpStream::connect(AT)?;
            let half = ["", "GET /met", "GET /metrics HTTP/1.1\r\nHost:", "\x16\x03\x01\x02"][n % 4];
            // One that was cut off already to make room is one, too.
            let _ = stream.write_all(half.as_bytes());
            held.push(stream);
        }
        Ok(held)
    })??;
    ensure!(scrape(&a)?.contains("flowring_build_info"), "the newest is not served");
    // A head without end is cut off, by an answer or at once.
    let cut = a.inside(|| -> Result<bool> {
        let mut stream = TcpStream::connect(AT)?;
        stream.set_write_timeout(Some(SOON))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n")?;
        let line = format!("X-Long: {}\r\n", "x".repeat(4096));
        for _ in 0..10_000 {
            match stream.write_all(line.as_bytes()) {
                Ok(()) => {}
                Err(error) => return Ok(error.kind() != ErrorKind::WouldBlock),
            }
        }
        Ok(false)
    })??;
    ensure!(cut, "40 MB of headers were read, or not even refused");
    for (request, wanted) in [
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let answer = ask(&a, request)?;
        ensure!(answer.starts_with(wanted), "{request:?}: {answer}");
    }
    let output = a.run("oping", &["echo", "-c", "2", "-i", "0.01"])?;
    ensure!(output.code() == 0, "{output:?}");
    drop(held);
    ensure!(irmd.process().is_running(), "irmd is gone");
    let page = scrape(&a)?;
    let (resident, open) = (value(&page, "process_resident_memory_bytes"), value(&page, "process_open_fds"));
    ensure!(resident < 64 << 20 && open < 200, "{resident} bytes, {open} descriptors");
    let output = irmd.stop()?;
    ensure!(output.code() == 0, "{output:?}");
    Ok(())
}

fn an_address_that_is_taken_keeps_irmd_from_starting() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let _first = a.irmd().args(&["--metrics", AT]).start()?;
    let other = a.run_dir().join("other");
    let words = ["--run-dir", other.to_str().context("utf-8")?, "--metrics", AT];
    let output = a.start("irmd", &words)?.wait(SOON)?;
    ensure!(output.code() == 1, "{output:?}");
    ensure!(
        output.err.contains("cannot serve metrics at 127.0.0.1:9339") && output.err.contains("--metrics"),
        "{output:?}"
    );
    ensure!(!other.join("irmd.sock").exists(), "it started half");
    let output = a.start("irmd", &["--metrics", "localhost"])?.wait(SOON)?;
    ensure!(output.code() == 2 && output.err.contains("write 127.0.0.1:9339"), "{output:?}");
    // Another address than one of the loopback is allowed, and said.
    let public = format!("{}:9340", a.address());
    let words = ["--run-dir", other.to_str().context("utf-8")?, "--metrics", &public, "--log-format", "human"];
    let mut open = a.start("irmd", &words)?;
    open.expect_log(SOON, "can be read by whoever reaches it")?;
    open.kill()
}

fn promtool_has_nothing_to_say() -> Result<()> {
    let lab = Lab::new()?;
    let [(a, _irmd_a), (b, _irmd_b)] = pair(&lab)?;
    let _server = b.serve("echo")?;
    a.run("oping", &["echo", "-c", "2", "-i", "0.01"])?;
    let page = scrape(&a)?;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn()?;
    promtool.stdin.take().context("no input")?.write_all(page.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && said.trim().is_empty(), "{said}\n{page}");
    // And the newer format is one.
    let newer = scrape_as(&a, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")?;
    ensure!(newer.ends_with("# EOF\n"), "{newer}");
    Ok(())
}
