//! Accepts one flow: `waiter NAME SECONDS`. Says "accepted" when it came in time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use libflow::Stack;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let name = words.next().context("waiter NAME SECONDS")?;
    let seconds: u64 = words.next().context("waiter NAME SECONDS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Stack::global()?.listen(&name).await?;
        let _flow = listener.accept_within(Duration::from_secs(seconds)).await?;
        println!("accepted");
        Ok(())
    })
}
