//! A real game: Minetest's server, and its client without a display.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use flowring_tests::name_server::program;
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running, wait_until};

use super::carry::{client, players, server};

/// How long it plays: its client says its round trip every 10 s.
const PLAY: Duration = Duration::from_secs(40);

/// Minetest of this name at a host, with a configuration, in a folder of its own.
fn start(host: &Host, name: &str, config: &str, words: &[&str]) -> Result<Running> {
    let folder = folder(host, name)?;
    let file = folder.join("conf");
    std::fs::write(&file, config)?;
    let path = program(name).context("it is installed")?;
    let mut command = host.command(path.to_str().context("a path of text")?);
    command.current_dir(&folder).env("HOME", &folder).arg("--config").arg(&file).args(words);
    command.arg("--logfile").arg(folder.join("log"));
    Running::start(&format!("{}: {name}", host.name()), command)
}

fn folder(host: &Host, name: &str) -> Result<PathBuf> {
    let folder = host.run_dir().join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A server of an empty world.
fn serve(host: &Host, at: SocketAddr) -> Result<Running> {
    let world = folder(host, "minetestserver")?.join("world");
    std::fs::create_dir_all(&world)?;
    let backends = "backend = sqlite3\nplayer_backend = sqlite3\nauth_backend = sqlite3\n";
    std::fs::write(world.join("world.mt"), format!("gameid = devtest\n{backends}"))?;
    let config = format!(
        "port = {}\nbind_address = {}\nserver_announce = false\nmg_name = singlenode\ncreative_mode = true\n",
        at.port(),
        at.ip()
    );
    let world = world.to_str().context("a path of text")?;
    let running = start(host, "minetestserver", &config, &["--world", world])?;
    running.expect_log(2 * SOON, "listening on")?;
    Ok(running)
}

/// A player who stays until its client has measured the round trip twice; the second, in milliseconds.
fn play(host: &Host, name: &str) -> Result<f64> {
    let config = "video_driver = null\nenable_sound = false\nfps_max = 30\nviewing_range = 20\n";
    let (ip, port) = (host.address().to_string(), players(host).port().to_string());
    let words = ["--go", "--address", &ip, "--port", &port, "--name", name, "--password", "x", "--verbose"];
    let playing = start(host, "minetest", config, &words)?;
    let measured = || -> Vec<f64> {
        let text = format!("{}\n{}", playing.out(), playing.err());
        let figures = text.lines().filter_map(|line| line.rsplit_once("Client: avg_rtt="));
        figures.filter_map(|(_, figure)| figure.trim().parse().ok()).collect()
    };
    wait_until(PLAY, "the client to measure twice", || measured().len() >= 2)
        .with_context(|| format!("{}\n{}", last(&playing.out()), last(&playing.err())))?;
    Ok(1000.0 * measured()[1])
}

/// Times that it is measured.
const TRIES: usize = 3;

pub(super) fn a_real_game_is_played_through_a_flow() -> Result<()> {
    let net = Net::up(&["q2proxy"])?;
    let at = SocketAddr::new(net.b.address(), 30_000);
    let game = serve(&net.b, at)?;
    // The client measures what else this machine does, too: of three times one is to be right.
    let mut seen = Vec::new();
    for turn in 0..TRIES {
        // A server remembers for a while who was there.
        let [first, second] = ["first", "second"].map(|name| format!("{name}{turn}"));
        let near = client_of(&net, at, &[])?;
        let plain = play(&net.a, &first)?;
        game.expect_log(SOON, &format!("List of players: {first}"))?;
        drop(near);
        let near = client_of(&net, at, &["--delay", "30ms+20ms"])?;
        let delayed = play(&net.a, &second)?;
        game.expect_log(SOON, &format!("List of players: {second}"))?;
        drop(near);
        eprintln!("minetest: avg_rtt {plain:.0} ms, with delay 30ms+20ms {delayed:.0} ms");
        if (45.0..=55.0).contains(&(delayed - plain)) {
            return Ok(());
        }
        seen.push((plain, delayed));
    }
    bail!("without and with a delay of 50 ms: {seen:?} ms")
}

/// Both sides, for this game server.
fn client_of(net: &Net, at: SocketAddr, more: &[&str]) -> Result<(Running, Running)> {
    let far = server(net, at, more)?;
    Ok((client(net, &[])?, far))
}

/// The end of a long log.
fn last(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
