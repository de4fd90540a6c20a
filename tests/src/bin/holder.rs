//! Holds many flows open: `holder NAME COUNT [PROGRAMS]`. Says "COUNT flows" when all are there, and lets go when its standard
//! input is closed. With PROGRAMS, they are shared by so many stacks, each with a thread and leases of its own as if it were a
//! program of its own.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use libflow::Stack;
use tokio::task::JoinSet;

/// Allocations under way at once.
const ABREAST: usize = 32;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let name = words.next().context("holder NAME COUNT")?;
    let count: usize = words.next().context("holder NAME COUNT")?.parse()?;
    let programs: usize = words.next().map_or(Ok(0), |word| word.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let flows = runtime.block_on(async {
        let stacks = match programs {
            0 => vec![Stack::global()?],
            programs => (0..programs).map(|_| Stack::find(None)).collect::<Result<_, _>>()?,
        };
        let (mut under_way, mut flows) = (JoinSet::new(), Vec::with_capacity(count));
        for started in 0..count {
            if started >= ABREAST {
                flows.push(under_way.join_next().await.context("one is under way")???);
            }
            let stack = &stacks[started % stacks.len()];
            under_way.spawn(stack.alloc(&name).timeout(Duration::from_secs(30)).into_future());
        }
        while let Some(flow) = under_way.join_next().await {
            flows.push(flow??);
        }
        anyhow::Ok(flows)
    })?;
    println!("{} flows", flows.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
