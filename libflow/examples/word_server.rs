//! Counts the words of what a client sends over a stream, and answers with their number.
use libflow::{Flow, flow_accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = flow_accept("words").await?;
    println!("serving words");
    loop {
        let flow = listener.accept().await?;
        println!("a {} flow from {:?}", flow.qos().cube.as_str(), flow.peer().identity);
        #[expect(clippy::disallowed_methods, reason = "a flow's work ends with its flow")]
        tokio::spawn(count(flow));
    }
}

async fn count(flow: Flow) -> std::io::Result<()> {
    let mut stream = flow.into_stream().await?;
    let mut text = String::new();
    // Until the client finished its half. One that is cut off is an error, not a shorter text.
    stream.read_to_string(&mut text).await?;
    let words = text.split_whitespace().count();
    stream.write_all(format!("{words} words\n").as_bytes()).await?;
    stream.shutdown().await
}
