//! A member of a group: greets whoever joins, and prints what the others say. `cargo run --example group -- alice`
use std::sync::Arc;

use libflow::{Flow, GroupEvent, Stack};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let member = std::env::args().nth(1).unwrap_or_else(|| "alice".to_owned());
    let mut group = Stack::global()?.join("darkreign.chat", &member).await?;
    while let Some(event) = group.next().await {
        match event {
            GroupEvent::Joined { member, flow } => {
                // In a task of its own: one that goes at once, or does not read, is no matter of the others'.
                #[expect(clippy::disallowed_methods, reason = "ends with its flow")]
                tokio::spawn(meet(member, flow));
            }
            GroupEvent::Left { member, why } => println!("{member} left: {why}"),
            GroupEvent::Unreached { member, why } => println!("{member} is not reached: {why}"),
        }
    }
    Ok(())
}

async fn meet(member: String, flow: Arc<Flow>) {
    if flow.send(format!("hello {member}").as_bytes()).await.is_err() {
        return;
    }
    while let Ok(said) = flow.recv_message().await {
        println!("{member:?} says {:?}", String::from_utf8_lossy(&said));
    }
}
