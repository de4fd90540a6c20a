//! Two paths at once, each through a router of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::pattern;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::{Host, Lab, Link, Running};
use serde_json::Value;

use super::stage::{self, BOTH, Over, exchange, read, write};

pub(super) fn cases() -> Vec<Case> {
    cases![two_paths_carry_together, a_path_that_is_a_black_hole_for_long_holds_nobody_up]
}

const NAME: &str = "paths";
/// What each host is called on each path.
const NEAR: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 211), Ipv4Addr::new(10, 0, 0, 212)];
const FAR: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 221), Ipv4Addr::new(10, 0, 0, 222)];

/// Two hosts with two paths between them, a proxy at one with two tracks over each, a relay at the other.
struct Paths {
    _proxy: Running,
    _relay: Running,
    entry: std::net::SocketAddr,
    target: TcpListener,
    routers: [Host; 2],
    net: Net,
}

impl Paths {
    /// Round trips of 20 and 80 ms, so many bits a second on each.
    fn up(over: Over, rate: u64) -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b, one, other] = lab.hosts(["a", "b", "one", "other"])?;
        let routers = [one, other];
        for (way, router) in routers.iter().enumerate() {
            a.goes_by(router, NEAR[way], FAR[way])?;
            b.goes_by(router, FAR[way], NEAR[way])?;
            router.passes_on()?;
            let delay = Duration::from_millis([5, 20][way]);
            let limited = Link { delay, rate: Some(rate), queue: 256 << 10, seed: 1, ..Link::CLEAN };
            router.link().set_each(Link { delay, ..Link::CLEAN }, limited)?;
        }
        let net = Net::of(lab, a, b)?;
        let target = net.b.inside(|| TcpListener::bind("127.0.0.1:0"))??;
        let to = target.local_addr()?.to_string();
        let mut words = vec!["proxy".to_owned(), "--listen".into(), "127.0.0.1:0".into(), "-n".into(), "4".into()];
        for way in 0..2 {
            words.push("--to".into());
            words.push(match over {
                Over::Flows => format!("flow:{NAME},layer=way{way}"),
                Over::Tcp => format!("tcp:{}:9100,local={}", FAR[way], NEAR[way]),
            });
            if over == Over::Flows {
                layer(&net.a, way, NEAR[way], &["--host", &format!("{NAME}={}", FAR[way])])?;
                layer(&net.b, way, FAR[way], &[])?;
            }
        }
        let accept = if over == Over::Flows { format!("flow:{NAME}") } else { "tcp:0.0.0.0:9100".to_owned() };
        let relay = stage::start(&net.b, &["relay", "--accept", &accept, "--to", &to])?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let proxy = stage::start(&net.a, &words)?;
        let entry = stage::listening(&proxy)?;
        Ok(Self { _proxy: proxy, _relay: relay, entry, target, routers, net })
    }

    fn pair(&self) -> Result<(std::net::TcpStream, std::net::TcpStream)> {
        let client = stage::connect(&self.net.a, self.entry)?;
        let (server, _) = self.target.accept()?;
        stage::patient(&server)?;
        Ok((client, server))
    }

    /// Bytes that came to each router on their way to somebody else.
    fn passed(&self) -> Result<[u64; 2]> {
        let frames = |router: &Host| router.link().counts().map(|(up, _)| up.passed);
        Ok([frames(&self.routers[0])?, frames(&self.routers[1])?])
    }
}

fn layer(host: &Host, way: usize, address: Ipv4Addr, directory: &[&str]) -> Result<()> {
    let (name, layer, address) = (format!("udp{way}"), format!("way{way}"), address.to_string());
    let words = ["ipcp", "bootstrap", "--type", "udp", "--name", &name, "--layer", &layer, "--ip", &address];
    host.irm(&[&words[..], directory].concat()).map(drop)
}

fn two_paths_carry_together() -> Result<()> {
    for over in BOTH {
        let paths = Paths::up(over, 50_000_000)?;
        let (client, server) = paths.pair()?;
        let before = paths.passed()?;
        exchange(&client, &server, 6_000_000).with_context(|| format!("over {over:?}"))?;
        let after = paths.passed()?;
        // 9 MB are about 7,000 full frames: each path has its part of them.
        let shares = [after[0] - before[0], after[1] - before[1]];
        ensure!(shares.iter().all(|share| *share > 500), "{over:?}: {shares:?} frames");
    }
    Ok(())
}

/// Longer than a track is waited for: it is replaced, and its replacements wait for the path.
fn a_path_that_is_a_black_hole_for_long_holds_nobody_up() -> Result<()> {
    let paths = Paths::up(Over::Flows, 20_000_000)?;
    let (client, server) = paths.pair()?;
    let bytes = pattern(40_000_000);
    let writing = write(&client, bytes.clone())?;
    let mut got = vec![0; 2_000_000];
    take(&server, &mut got)?;
    paths.routers[1].link().cut()?;
    // About ten seconds of the path that is left.
    let mut more = vec![0; 22_000_000];
    take(&server, &mut more)?;
    let group = stage::group(&paths.net.a)?;
    ensure!(has_stalled(&group) || group["view"]["sent_again"].as_u64() > Some(0), "nobody noticed: {group}");
    paths.routers[1].link().restore()?;
    let before = paths.passed()?[1];
    // And back: what is left goes over both again.
    lab::wait_until(6 * SOON, "the path to carry again", || {
        paths.passed().is_ok_and(|passed| passed[1] > before + 500) || writing.is_finished()
    })?;
    ensure!(paths.passed()?[1] > before + 500, "the path that came back carries nothing");
    let got = [got, more, read(&server)?].concat();
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    writing.join().expect("no panic")?;
    Ok(())
}

fn take(mut from: &std::net::TcpStream, buffer: &mut [u8]) -> Result<()> {
    Ok(std::io::Read::read_exact(&mut from, buffer)?)
}

fn has_stalled(group: &Value) -> bool {
    group["view"]["tracks"].as_array().is_some_and(|tracks| tracks.iter().any(|track| track["stalled"] == true))
}
