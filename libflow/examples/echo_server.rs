//! Echoes every SDU of every flow to a name.
use libflow::{Flow, flow_accept};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("echo".into());
    let listener = flow_accept(&name).await?;
    println!("serving {name}");
    loop {
        let flow = listener.accept().await?;
        println!("a flow from {} {}", flow.peer().source, flow.peer().address);
        #[expect(clippy::disallowed_methods, reason = "a flow's echo ends with its flow")]
        tokio::spawn(echo(flow));
    }
}

async fn echo(flow: Flow) {
    let mut sdu = vec![0; flow.sdu_limit()];
    while let Ok(length) = flow.recv(&mut sdu).await {
        if flow.send(&sdu[..length]).await.is_err() {
            break;
        }
    }
}
