//! `cargo demo`: what Flowring does, shown by the commands one would type.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::binaries::Build;
use lab::{Daemon, Host, Inside, Interrupts, Lab, Running};

/// How long one step may take before the demo gives up.
const STEP: Duration = Duration::from_secs(15);

/// What `cargo demo` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave both hosts up until Ctrl-C, and say what to type next
    #[arg(long)]
    stay: bool,
    /// Two run directories on 127.0.0.1 and 127.0.0.2 instead of network namespaces
    #[arg(long)]
    no_namespaces: bool,
}

/// Runs the demo.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("Building the daemons and tools (some minutes the first time) …");
    let binaries = lab::binaries::prepare(Build { show: true, ..Build::default() })?;
    let inside = if options.no_namespaces {
        None
    } else {
        // Only the innermost process comes back; from here on this is it.
        lab::enter()
            .inspect_err(|refused| println!("No network namespaces here ({refused}): using 127.0.0.1 and 127.0.0.2."))
            .ok()
    };
    let interrupts = Interrupts::catch()?;
    let lab = if inside.is_some() { Lab::new()? } else { Lab::on_loopback()? };
    let hosts = lab.hosts(["a", "b"])?;
    println!("\nTwo hosts: a is {}, b is {}.\n", hosts[0].address(), hosts[1].address());
    let mut stage = Stage { hosts, daemons: Vec::new(), programs: Vec::new(), interrupts };
    stage.play()?;
    if options.stay {
        stage.stay(inside.as_ref(), binaries)?;
    }
    stage.tear_down()?;
    println!("\nDone: everything is stopped. `cargo demo --stay` leaves it up for you.");
    Ok(())
}

/// Two hosts and what runs on them.
struct Stage {
    hosts: [Host; 2],
    daemons: Vec<Daemon>,
    programs: Vec<Running>,
    interrupts: Interrupts,
}

impl Stage {
    fn play(&mut self) -> Result<()> {
        let [a, b] = self.hosts.clone();
        for host in [&a, &b] {
            say(host, "irmd &");
            self.daemons.push(host.irmd().start()?);
            self.check()?;
        }
        println!("\nEach host joins the layer \"net\" and is told which host has which name:\n");
        self.irm(&a, &a.bootstrap_words(&[("echo", &b)]))?;
        self.irm(&b, &b.bootstrap_words(&[("greet", &a)]))?;
        println!("\nA program on b takes the name \"echo\", one on a takes \"greet\":\n");
        self.serve(&b, "echo")?;
        self.serve(&a, "greet")?;
        println!("\nEach is reached from the other host by its name alone:\n");
        self.oping(&a, "echo")?;
        self.oping(&b, "greet")?;
        self.tables(&a, &b)
    }

    /// The flow tables of both hosts while flows are open.
    fn tables(&mut self, a: &Host, b: &Host) -> Result<()> {
        println!("\nTwo flows stay open, to look at them from both sides:\n");
        let mut pings = Vec::new();
        for (host, name) in [(a, "echo"), (b, "greet")] {
            say(host, &format!("oping {name} &"));
            let ping = host.start("oping", &[name])?;
            ping.expect_line(STEP, "seq=")?;
            pings.push(ping);
            self.check()?;
        }
        // The flows of before are gone from the tables a moment after their end.
        for host in [a, b] {
            lab::wait_until(STEP, "two flows in each table", || {
                host.list("flow list").is_ok_and(|rows| rows.len() == 2)
            })?;
        }
        for host in [a, b] {
            println!();
            let table = self.irm(host, &["flow", "list"].map(String::from))?;
            for name in ["echo", "greet"] {
                ensure!(table.contains(name), "host {}: its flow table does not show the flow to {name}", host.name());
            }
        }
        for mut ping in pings {
            ping.signal(lab::Signal::INT)?;
            let output = ping.wait(STEP)?;
            ensure!(output.code() == 0, "oping ended with {}: {}", output.code(), output.err);
        }
        Ok(())
    }

    fn irm(&self, host: &Host, words: &[String]) -> Result<String> {
        say(host, &format!("irm {}", words.join(" ")));
        let out = host.irm(words)?;
        indent(&out);
        self.check()?;
        Ok(out)
    }

    fn serve(&mut self, host: &Host, name: &str) -> Result<()> {
        say(host, &format!("oping --listen {name} &"));
        let server = host.serve(name)?;
        self.programs.push(server);
        self.check()
    }

    fn oping(&self, host: &Host, name: &str) -> Result<()> {
        let words = [name, "-c", "3", "-i", "0.2"];
        say(host, &format!("oping {}", words.join(" ")));
        let output = host.run("oping", &words)?;
        indent(&output.out);
        ensure!(output.code() == 0, "host {}: oping {name} ended with {}: {}", host.name(), output.code(), output.err);
        self.check()
    }

    fn stay(&self, inside: Option<&Inside>, binaries: &Path) -> Result<()> {
        println!("\nBoth hosts stay up until you press Ctrl-C. In another terminal, type:\n");
        println!("  PATH={}:$PATH", binaries.display());
        for host in &self.hosts {
            let enter = inside.map(|inside| inside.words_to_enter(host) + " ").unwrap_or_default();
            println!("  alias on-{}='{enter}env FLOWRING_RUN_DIR={}'", host.name(), host.run_dir().display());
        }
        println!("\nand then, for example:\n");
        for line in
            ["on-a oping echo", "on-b irm status", "on-a irm flow list", "on-b oping --listen other & on-b oping other"]
        {
            println!("  {line}");
        }
        self.interrupts.wait().context("waiting for Ctrl-C")?;
        println!();
        Ok(())
    }

    /// In the reverse of the order of starting.
    fn tear_down(&mut self) -> Result<()> {
        println!();
        while let Some(mut program) = self.programs.pop() {
            program.signal(lab::Signal::INT)?;
            program.wait(STEP)?;
        }
        while let Some(mut daemon) = self.daemons.pop() {
            say(daemon.host(), "kill %irmd");
            let output = daemon.stop()?;
            ensure!(output.code() == 0, "irmd on host {} ended with {}", daemon.host().name(), output.code());
        }
        Ok(())
    }

    /// Ends the demo in order where Ctrl-C was pressed.
    fn check(&self) -> Result<()> {
        ensure!(!self.interrupts.came()?, "interrupted; everything is stopped");
        Ok(())
    }
}

fn say(host: &Host, line: &str) {
    println!("{}$ {line}", host.name());
}

fn indent(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}
