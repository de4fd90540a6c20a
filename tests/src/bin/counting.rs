//! What it costs to count one SDU in the statistics memory: says nanoseconds, for `cargo xtask bench see`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use handoff::client::SlotMap;

/// Enough that the clock's own steps do not matter.
const TIMES: u32 = 5_000_000;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn main() -> Result<()> {
    let (map, _) = SlotMap::make(1)?;
    let slot = SlotMap::slot(&Arc::new(map), 0).context("a slot")?;
    let began = Instant::now();
    for length in 0..TIMES {
        black_box(&slot).sent(1, black_box(u64::from(length % 1024)));
    }
    println!("{:.2}", began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES));
    Ok(())
}
