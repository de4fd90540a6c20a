//! Local flows beside bare sockets, one line each: `cargo run --release -p flowring-transport --example local_speed`.
//! Each side has a thread and a runtime of its own, as two programs have. Lines alternate, so that a busy machine is seen.
#![expect(unsafe_code, reason = "tokio wants the owner of a watched descriptor to vouch for it")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use transport::local::Flow;

const LIMIT: usize = 65_536;
const ROUNDS: usize = 20_000;
const STREAM_BYTES: usize = 2 << 30;

fn main() {
    for _ in 0..3 {
        for size in [64, 1400, 16_384] {
            let (bare, ours) = (apart(sockets(), size, bare_ping, bare_pong), apart(sockets(), size, ping, pong));
            println!(
                "round trip of {size} B, µs: bare SEQPACKET {bare:.2}, message flow {ours:.2}: {:.2}",
                ours / bare
            );
        }
        let bare = gbits(apart(sockets(), 0, bare_write, bare_read));
        let ours = gbits(apart(sockets(), 0, write, read));
        println!("throughput, Gbit/s: bare SOCK_STREAM {bare:.1}, stream flow {ours:.1}: {:.2}", ours / bare);
        let opens = apart(sockets(), 0, open_many, accept_many);
        println!("a stream opened, echoed 1 B over and ended, µs: {opens:.1}");
    }
}

fn gbits(micros: f64) -> f64 {
    STREAM_BYTES as f64 * 8.0 / micros / 1000.0
}

fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Runs both sides, each in a thread; what the first measured, microseconds.
fn apart<A, B>(ends: (OwnedFd, OwnedFd), size: usize, one: fn(OwnedFd, usize) -> A, two: fn(OwnedFd, usize) -> B) -> f64
where
    A: Future<Output = f64>,
    B: Future<Output = ()>,
{
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(two(ends.1, size)));
        runtime().block_on(one(ends.0, size))
    })
}

async fn measure<F: Future<Output = ()>>(mut round: impl FnMut() -> F) -> f64 {
    for _ in 0..ROUNDS / 10 {
        round().await;
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round().await;
    }
    micros(start.elapsed()) / ROUNDS as f64
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn watch(fd: OwnedFd) -> AsyncFd<OwnedFd> {
    // SAFETY: an `OwnedFd` is open until it is dropped, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|_| "no watch").unwrap()
}

async fn bare_recv(fd: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> usize {
    loop {
        let mut guard = fd.readable().await.unwrap();
        match rustix::net::recv(fd.get_ref(), &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, len)) => return len,
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(_) => return 0,
        }
    }
}

async fn bare_ping(fd: OwnedFd, size: usize) -> f64 {
    let (fd, sdu) = (watch(fd), vec![1; size]);
    let time = measure(async || {
        rustix::net::send(fd.get_ref(), &sdu, SendFlags::DONTWAIT).unwrap();
        bare_recv(&fd, &mut [0; LIMIT]).await;
    });
    time.await
}

async fn bare_pong(fd: OwnedFd, _: usize) {
    let (fd, mut buffer) = (watch(fd), vec![0; LIMIT]);
    loop {
        match bare_recv(&fd, &mut buffer).await {
            0 => return,
            len => drop(rustix::net::send(fd.get_ref(), &buffer[..len], SendFlags::DONTWAIT)),
        }
    }
}

async fn ping(fd: OwnedFd, size: usize) -> f64 {
    let (flow, message) = (Flow::new(Arc::new(fd), LIMIT).unwrap(), Bytes::from(vec![1; size]));
    let time = measure(async || {
        flow.send_message(message.clone()).await.unwrap();
        flow.recv_message().await.unwrap();
    })
    .await;
    flow.close().await;
    time
}

async fn pong(fd: OwnedFd, _: usize) {
    let flow = Flow::new(Arc::new(fd), LIMIT).unwrap();
    while let Ok(message) = flow.recv_message().await {
        let _ = flow.send_message(message).await;
    }
}

/// Passes one end of a stream pair over, as plainly as can be: the far side takes it from the near one's number.
async fn bare_write(fd: OwnedFd, _: usize) -> f64 {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let number = std::os::fd::IntoRawFd::into_raw_fd(far).to_le_bytes();
    rustix::net::send(&fd, &number, SendFlags::empty()).unwrap();
    let mut stream = UnixStream::from_std(near).unwrap();
    let time = write_to(&mut stream).await;
    bare_recv(&watch(fd), &mut [0; 8]).await;
    time
}

async fn bare_read(fd: OwnedFd, _: usize) {
    let mut number = [0; 4];
    rustix::net::recv(&fd, &mut number, RecvFlags::empty()).unwrap();
    // SAFETY: the other thread gave its end away and names it.
    let far = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(i32::from_le_bytes(number)) };
    read_from(&mut UnixStream::from_std(far.into()).unwrap()).await;
}

async fn write_to(stream: &mut (impl AsyncWriteExt + Unpin)) -> f64 {
    let (block, start) = (vec![1; 256 * 1024], Instant::now());
    for _ in 0..STREAM_BYTES / block.len() {
        stream.write_all(&block).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    micros(start.elapsed())
}

async fn read_from(stream: &mut (impl AsyncReadExt + Unpin)) {
    let (mut block, mut all) = (vec![0; 256 * 1024], 0);
    loop {
        match stream.read(&mut block).await.unwrap() {
            0 => break,
            len => all += len,
        }
    }
    assert_eq!(all, STREAM_BYTES);
}

async fn write(fd: OwnedFd, _: usize) -> f64 {
    let flow = Flow::new(Arc::new(fd), LIMIT).unwrap();
    let (mut send, _recv) = flow.open_stream().await.unwrap();
    let time = write_to(&mut send).await;
    flow.closed().await;
    time
}

async fn read(fd: OwnedFd, _: usize) {
    let flow = Flow::new(Arc::new(fd), LIMIT).unwrap();
    let (_send, mut recv) = flow.accept_stream().await.unwrap();
    read_from(&mut recv).await;
}

async fn open_many(fd: OwnedFd, _: usize) -> f64 {
    let flow = Flow::new(Arc::new(fd), LIMIT).unwrap();
    let time = measure(async || {
        let (mut send, mut recv) = flow.open_stream().await.unwrap();
        send.write_all(b"x").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(&mut Vec::new()).await.unwrap(), 1);
    })
    .await;
    flow.close().await;
    time
}

async fn accept_many(fd: OwnedFd, _: usize) {
    let flow = Flow::new(Arc::new(fd), LIMIT).unwrap();
    while let Ok((mut send, mut recv)) = flow.accept_stream().await {
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        let _ = send.finish();
    }
}
