//! Services published through a session: the reverse tunnel without a relay in the data path.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::Middlebox;

use super::stage::{Session, await_name};
use crate::forward_ops::stage::rules;

/// Answers every request with the same page.
fn web(host: &lab::Host, page: &'static str) -> Result<u16> {
    let listener = host.listener(8080)?;
    std::thread::Builder::new().name("web".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = std::io::Read::read(&mut stream, &mut [0; 2048]);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        }
    })?;
    Ok(8080)
}

/// `flow:web -> 127.0.0.1:8080` behind one NAT, `8000 -> flow:web` behind another; curl fetches the page directly.
pub(crate) fn a_web_server_behind_a_nat_is_fetched_from_behind_another() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let page = "a page from behind a NAT\n";
    web(&b.host, page)?;
    let target = b.host.address();
    let _publishes = start(&b.host, &format!("flow:web -> {target}:8080\n"))?;
    await_name(&a.host, "web")?;
    let own = a.host.address();
    let _takes = start(&a.host, &format!("{own}:8000 -> flow:web\n"))?;
    for _ in 0..3 {
        let output = a.host.run("curl", &["-sS", "--max-time", "8", &format!("http://{own}:8000/")])?;
        ensure!(
            output.code() == 0 && output.out.trim() == page.trim(),
            "curl ended with {}: {} {}",
            output.code(),
            output.out,
            output.err
        );
    }
    let rows = a.host.list("flow list")?;
    ensure!(!rows.is_empty());
    for row in rows {
        ensure!(row["way"] == "public" && row["qos"]["cube"] == "stream", "{row}");
        let peer = row["peer_address"].as_str().context("an address")?;
        ensure!(peer.starts_with(&format!("{}:", b.host.public())), "not directly: {peer}");
    }
    Ok(())
}

fn start(host: &lab::Host, text: &str) -> Result<lab::Running> {
    let path = rules(host, text)?;
    let mut running = host.start("portfwd", &["--config", path.to_str().context("a path of text")?])?;
    lab::wait_until(SOON, "portfwd to answer", || {
        !running.is_running() || host.run("portfwd", &["status", "--json"]).is_ok_and(|output| output.code() == 0)
    })?;
    ensure!(running.is_running(), "portfwd ended: {}", running.err());
    Ok(running)
}
