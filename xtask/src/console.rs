//! Lines typed at a running lab.

use anyhow::{Context as _, Result, anyhow};
use lab::{Host, Link};

/// Does what is typed, on a thread of its own, until there is no more input.
pub(crate) fn listen(hosts: Vec<Host>) -> Result<()> {
    let listen = move || {
        for line in std::io::stdin().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
            match obey(&hosts, &line) {
                Ok(answer) => println!("{answer}"),
                Err(error) => println!("{error:#}"),
            }
        }
    };
    std::thread::Builder::new().name("console".into()).spawn(listen).context("a thread for what is typed")?;
    Ok(())
}

fn obey(hosts: &[Host], line: &str) -> Result<String> {
    let (name, what) = line.trim().split_once(' ').context("write HOST and what to do: a delay=50ms")?;
    let host = hosts.iter().find(|host| host.name() == name).with_context(|| format!("there is no host {name}"))?;
    let link = host.link();
    match what.trim() {
        "cut" => link.cut()?,
        "restore" => link.restore()?,
        "forget" => host.forget_mappings()?,
        "counts" => {
            let (up, down) = link.counts()?;
            return Ok(format!("up:   {up}\ndown: {down}"));
        }
        knobs => {
            link.set(knobs.parse::<Link>().map_err(|error| anyhow!("{error}; or cut, restore, counts, forget"))?)?
        }
    }
    Ok(format!("{name}: {}", what.trim()))
}
