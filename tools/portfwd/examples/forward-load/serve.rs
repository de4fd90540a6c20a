//! What is behind the forwarder.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{ECHO, HOLD, MEBIBYTE, SINK, TOUCH};

const BLOCK: usize = 256 << 10;

/// Answers until it is killed.
pub(crate) fn run(at: SocketAddr) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let listener = socket.listen(4096)?;
        println!("serving {at}");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                // It may be reset.
                let _ = answer(stream).await;
            });
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0];
    stream.read_exact(&mut what).await?;
    match what[0] {
        SINK => {
            let (mut block, mut count) = (vec![0; BLOCK], 0_u64);
            loop {
                let before = count / MEBIBYTE;
                match stream.read(&mut block).await? {
                    0 => return Ok(()),
                    len => count += len as u64,
                }
                if count / MEBIBYTE > before {
                    stream.write_all(b"!").await?;
                }
            }
        }
        ECHO => {
            let mut block = [0; 1024];
            loop {
                match stream.read(&mut block).await? {
                    0 => return Ok(()),
                    len => stream.write_all(&block[..len]).await?,
                }
            }
        }
        TOUCH => stream.write_all(b"!").await,
        HOLD => {
            stream.write_all(b"!").await?;
            stream.read(&mut what).await.map(drop)
        }
        _ => Ok(()),
    }
}
