//! What is measured beside others: a way to a server, and the processes that make it.

use anyhow::{Context as _, Result};
use lab::{Host, Running, wait_until};

use crate::bench::STEP;
use crate::bench::process::Process;

/// What a client speaks to, and the processes between it and the server.
pub(crate) struct Road {
    pub(crate) from: Host,
    pub(crate) to: String,
    pub(crate) processes: Vec<Running>,
}

/// What a forwarder listens to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listens {
    Tcp,
    Udp,
}

impl Road {
    pub(crate) fn new(from: &Host, to: &str, processes: Vec<Running>) -> Result<Self> {
        Ok(Self { from: from.clone(), to: to.to_owned(), processes })
    }

    /// To a forwarder at `host`, once it listens.
    pub(crate) fn up(host: &Host, listens: Listens, port: u16, mut processes: Vec<Running>) -> Result<Self> {
        let sockets = match listens {
            Listens::Tcp => "-Hltn",
            Listens::Udp => "-Hlun",
        };
        wait_until(STEP, "the forwarder to listen", || {
            let listed = host.run("ss", &[sockets, &format!("sport = :{port}")]);
            let ended = processes.iter_mut().any(|running| !running.is_running());
            ended || listed.is_ok_and(|output| !output.out.trim().is_empty())
        })?;
        for running in &mut processes {
            anyhow::ensure!(running.is_running(), "it ended: {} {}", running.out(), running.err());
        }
        Self::new(host, &at(port), processes)
    }

    /// Seconds of CPU that its processes have taken.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.processes.iter().map(|running| Process(running.pid()).cpu()).sum()
    }

    /// Bytes that they have.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.processes.iter().map(|running| Process(running.pid()).memory()).sum()
    }
}

/// On the loopback.
pub(crate) fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A file of configuration in a host's run directory; its path.
pub(crate) fn file(host: &Host, name: &str, text: &str) -> Result<String> {
    let path = host.run_dir().join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path.display().to_string())
}

/// nginx' configuration with the stream module and such a server.
pub(crate) fn nginx(host: &Host, workers: u8, server: &str) -> Result<String> {
    let run = host.run_dir().display().to_string();
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(module).is_file() { format!("load_module {module};\n") } else { String::new() };
    let text = format!(
        "{load}user root;\ndaemon off;\nworker_processes {workers};\npid {run}/nginx.pid;\nerror_log {run}/nginx.log;\n\
         events {{ worker_connections 9000; }}\nstream {{ server {{ {server} }} }}\n"
    );
    file(host, "nginx.conf", &text)
}
