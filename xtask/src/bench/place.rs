//! What a benchmark ran on: figures mean nothing without it.

use crate::bench::said;

/// This machine, and what else it does.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// As the kernel names the processor.
    pub(crate) model: String,
    pub(crate) kernel: String,
    /// Load averages of 1, 5 and 15 minutes.
    load: Vec<String>,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            model: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: said("uname", &["-sr"]),
            load: load.split(' ').take(3).map(str::to_owned).collect(),
        }
    }

    pub(crate) fn loads(&self) -> String {
        self.load.join(" ")
    }

    /// In a few words, for a page's head.
    pub(crate) fn words(&self) -> String {
        let load = self.load.first().map_or("unknown", String::as_str);
        format!("{} cores, {}, load {load} before", self.cores, self.kernel)
    }
}

/// The command, and the machine.
pub(crate) fn made_by(what: &str) -> String {
    format!("Made by `cargo xtask bench {what}` on {};", Machine::now().words())
}
