//! Sends standard input over a stream to a host that counts its words.
use libflow::{Qos, flow_alloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::io::read_to_string(std::io::stdin())?;
    let flow = flow_alloc("words", Qos::stream()).await?;
    println!("{} is {:?}", flow.peer().name, flow.peer().identity);
    let mut stream = flow.into_stream().await?;
    stream.write_all(text.as_bytes()).await?;
    // Half-closed: the answer still comes.
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    print!("{answer}");
    Ok(())
}
