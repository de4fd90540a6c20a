//! Memory of flows that do nothing.

use std::time::Duration;

use clap::Args;

use super::flows::{Both, on_thread, sockets};
use super::numbers::resident;

#[derive(Args)]
pub(crate) struct Options {
    /// How many.
    #[arg(long, default_value_t = 1000)]
    flows: usize,
    /// Handshakes and ends of so many flows come before.
    #[arg(long, default_value_t = 100)]
    before: usize,
}

pub(crate) fn run(options: &Options) {
    let (flows, before) = (options.flows, options.before);
    let done = on_thread(move || async move {
        let both = Both::new();
        for _ in 0..before {
            let [near, far] = sockets();
            let (near, far) = tokio::join!(both.ask(near, Default::default()), both.accept(far, Default::default()));
            tokio::join!(near.close(), far.close());
        }
        let at_first = resident();
        let mut kept = Vec::new();
        for _ in 0..flows {
            let [near, far] = sockets();
            kept.push(tokio::join!(both.ask(near, Default::default()), both.accept(far, Default::default())));
        }
        // What the handshake leaves to do is done: the search for the MTU, new ids.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let at_last = resident();
        (at_first, at_last, kept.len())
    });
    let (at_first, at_last, kept) = done.join().expect("no panic");
    let each = at_last.saturating_sub(at_first) / (2 * kept as u64);
    println!("{}", serde_json::json!({ "bench": "idle", "flows": kept, "bytes_per_end": each }));
}
