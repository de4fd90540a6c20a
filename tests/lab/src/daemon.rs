//! irmd at a host.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::{Host, Output, Running, wait_until};

/// How long a daemon may take to listen, and to stop.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// irmd, about to be started.
pub struct IrmdBuilder {
    host: Host,
    args: Vec<String>,
}

/// A running irmd. Dropped, it is stopped with SIGTERM, so that it stops its IPCPs.
pub struct Daemon {
    running: Running,
    host: Host,
}

impl IrmdBuilder {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, args: Vec::new() }
    }

    /// Adds words to its command line.
    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Result<Daemon> {
        let mut running = self.host.start("irmd", &self.args)?;
        let socket = self.host.run_dir().join("irmd.sock");
        let mut ended = false;
        wait_until(START, "irmd to listen", || {
            ended = !running.is_running();
            ended || UnixStream::connect(&socket).is_ok()
        })?;
        if ended {
            let output = running.wait(STOP)?;
            bail!("irmd on host {} ended with {}: {}", self.host.name(), output.code(), output.err.trim());
        }
        Ok(Daemon { running, host: self.host })
    }
}

impl Daemon {
    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Stops it in order (SIGTERM) and waits.
    pub fn stop(&mut self) -> Result<Output> {
        self.running.signal(Signal::TERM)?;
        self.running.wait(STOP)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.running.is_running() {
            let _ = self.stop();
        }
    }
}
