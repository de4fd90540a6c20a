//! Two paths of different round trips, used at once.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Daemon, Host, Lab, Link, Running};

use super::{IPERF_PORT, iperf, ready, received};
use crate::bench::peers;
use crate::bench::report::number;
use crate::bench::transports::middle;

/// Of each path.
const RATE: u64 = 50_000_000;
/// Round trips of the two, milliseconds.
const ROUND_TRIPS: [u64; 2] = [20, 80];
/// What each host is called on each path, beside the address that the lab gave it.
const NEAR: [&str; 2] = ["10.0.0.211", "10.0.0.212"];
const FAR: [&str; 2] = ["10.0.0.221", "10.0.0.222"];
const NAME: &str = "paths";

/// What the tracks are called, their control, and where those of some ways lead to.
type Kind<'a> = (&'a str, &'a str, &'a dyn Fn(&[usize]) -> Vec<String>);

/// Two hosts, and a router with a link of its own on each way between them.
struct Stage {
    a: Host,
    b: Host,
    _running: Vec<Running>,
    _daemons: [Daemon; 2],
    _lab: Lab,
}

/// Mbit/s over one path, the other, both.
pub(super) fn two(rounds: u32, seconds: f64) -> Result<String> {
    let stage = Stage::up()?;
    let mut text = format!(
        "\n## Over two paths\n\nTwo ways of {} Mbit/s, with round trips of {} and {} ms, each with a queue of one bandwidth-delay product and no loss of its own. Mbit/s that \
         the receiving program got.\n\n| | one way | the other | both at once | of their sum |\n|---|---|---|---|---|\n",
        RATE / 1_000_000,
        ROUND_TRIPS[0],
        ROUND_TRIPS[1]
    );
    let flows = |ways: &[usize]| ways.iter().map(|way| format!("flow:{NAME},layer=way{way}")).collect();
    let tcp = |ways: &[usize]| ways.iter().map(|way| format!("tcp:{}:9100,local={}", FAR[*way], NEAR[*way])).collect();
    let kinds: [Kind<'_>; 2] =
        [("2 flows on each, bbr3", "bbr3", &flows), ("2 TCP tracks on each, cubic", "cubic", &tcp)];
    for (what, control, to) in kinds {
        let (mut rates, mut shares) = ([vec![], vec![], vec![]], Vec::new());
        for round in 0..rounds {
            println!("two paths, {what}: round {} of {rounds}", round + 1);
            let one = stage.goodput(&to(&[0]), "2", control, seconds)?;
            let other = stage.goodput(&to(&[1]), "2", control, seconds)?;
            let both = stage.goodput(&to(&[0, 1]), "4", control, seconds)?;
            println!("  {one:.1} and {other:.1} alone, {both:.1} together");
            shares.push(both / (one + other));
            for (rates, rate) in rates.iter_mut().zip([one, other, both]) {
                rates.push(rate);
            }
        }
        let [one, other, both] = rates.map(|rates| number(middle(rates)));
        let _ = writeln!(text, "| {what} | {one} | {other} | {both} | **{}** |", number(middle(shares)));
    }
    Ok(text)
}

impl Stage {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b, one, other] = lab.hosts(["a", "b", "one", "other"])?;
        for (way, router) in [&one, &other].into_iter().enumerate() {
            let (near, far) = (NEAR[way].parse()?, FAR[way].parse()?);
            a.goes_by(router, near, far)?;
            b.goes_by(router, far, near)?;
            router.passes_on()?;
            // Each packet comes to the router over this link and leaves over it.
            let round_trip = ROUND_TRIPS[way];
            let queue = usize::try_from(RATE / 8 * round_trip / 1000)?;
            let delay = Duration::from_millis(round_trip) / 4;
            // A queue on the way in only: on the way out nothing waits.
            let limited = Link { delay, rate: Some(RATE), queue, seed: 1, ..Link::CLEAN };
            router.link().set_each(Link { delay, ..Link::CLEAN }, limited)?;
        }
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        for way in 0..2 {
            let host = format!("{NAME}={}", FAR[way]);
            layer(&a, way, NEAR[way], &["--host", &host])?;
            layer(&b, way, FAR[way], &[])?;
        }
        let target = format!("{}:{IPERF_PORT}", b.address());
        let words = |accept| ["relay", "--accept", accept, "--to", &target];
        let running = vec![
            ready(&b, &[&words(&format!("flow:{NAME}"))[..], &["--congestion", "bbr3"]].concat())?,
            ready(&b, &[&words("tcp:0.0.0.0:9100")[..], &["--congestion", "cubic"]].concat())?,
        ];
        Ok(Self { a, b, _running: running, _daemons: daemons, _lab: lab })
    }

    fn goodput(&self, to: &[String], tracks: &str, control: &str, seconds: f64) -> Result<f64> {
        let mut words = vec!["proxy", "--listen", "127.0.0.1:9000", "-n", tracks, "--congestion", control];
        words.extend(to.iter().flat_map(|to| ["--to", to.as_str()]));
        let proxy = ready(&self.a, &words)?;
        let _server = peers::iperf3_server(&self.b)?;
        let json = iperf(&self.a, &["-c", "127.0.0.1", "-p", "9000", "-t", &seconds.ceil().to_string()])?;
        received(&json).with_context(|| format!("iperf3 said: {json}, and the proxy: {}", proxy.err()))
    }
}

fn layer(host: &Host, way: usize, address: &str, directory: &[&str]) -> Result<()> {
    let (name, layer) = (format!("udp{way}"), format!("way{way}"));
    let words = ["ipcp", "bootstrap", "--type", "udp", "--name", &name, "--layer", &layer, "--ip", address];
    host.irm(&[&words[..], directory].concat()).map(drop)
}
