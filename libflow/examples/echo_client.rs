//! Sends three SDUs to a name and prints what comes back.
use libflow::{Qos, flow_alloc};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("echo".into());
    let flow = flow_alloc(&name, Qos::raw()).await?;
    let mut sdu = vec![0; flow.sdu_limit()];
    for n in 1..=3 {
        flow.send(format!("hello {n}").as_bytes()).await?;
        // A raw flow may lose an SDU: do not wait for ever.
        let length = timeout(Duration::from_secs(1), flow.recv(&mut sdu)).await??;
        println!("{}", String::from_utf8_lossy(&sdu[..length]));
    }
    flow.dealloc().await;
    Ok(())
}
