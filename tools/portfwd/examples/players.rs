//! A game's load for forwarders of datagrams: `players serve ADDRESS`, and `players play ADDRESS [PLAYERS] [SECONDS]`. Each
//! player sends 100 bytes 30 times a second and is sent 400 for each; what does not come back is lost.
#![expect(clippy::disallowed_methods, reason = "it measures: clocks, sockets, threads")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A second.
const RATE: f64 = 30.0;
/// Up, bytes.
const UP: usize = 100;
/// Down, bytes.
const DOWN: usize = 400;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let wrong = || io::Error::other("players serve ADDRESS | play ADDRESS [PLAYERS] [SECONDS]");
    match words.as_slice() {
        ["serve", at] => serve(at.parse().map_err(|_| wrong())?),
        ["play", to, rest @ ..] => {
            let number = |place: usize, otherwise: u32| rest.get(place).map_or(Ok(otherwise), |word| word.parse());
            let (players, seconds) = (number(0, 1000), number(1, 5));
            let (Ok(to), Ok(players), Ok(seconds)) = (to.parse(), players, seconds) else { return Err(wrong()) };
            play(to, players, Duration::from_secs(seconds.into()))
        }
        _ => Err(wrong()),
    }
}

fn serve(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20);
    let mut heard = [0; 2048];
    loop {
        let (_, from) = socket.recv_from(&mut heard)?;
        // A player that is gone.
        let _ = socket.send_to(&[7; DOWN], from);
    }
}

fn play(to: SocketAddr, players: u32, time: Duration) -> io::Result<()> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let sockets = (0..players).map(|_| {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let sockets: Vec<UdpSocket> = sockets.collect::<io::Result<_>>()?;
    let (received, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| listen(&sockets, &received, &done));
        let start = Instant::now();
        let gap = 1.0 / RATE / f64::from(players);
        let mut sent = 0_u64;
        while start.elapsed() < time {
            let due = (start.elapsed().as_secs_f64() / gap) as u64;
            while sent < due {
                // No room here is a loss as any other.
                let _ = sockets[(sent % u64::from(players)) as usize].send(&[1; UP]);
                sent += 1;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_secs(1));
        done.store(true, Ordering::Relaxed);
        let came = received.load(Ordering::Relaxed);
        let lost = 100.0 * (sent.saturating_sub(came)) as f64 / sent as f64;
        println!("{players} players: sent {sent}, came back {came}, lost {lost:.2} %");
    });
    Ok(())
}

fn listen(sockets: &[UdpSocket], received: &AtomicU64, done: &AtomicBool) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (place, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket.as_fd(), EventData::new_u64(place as u64), EventFlags::IN)?;
    }
    let mut events = [const { std::mem::MaybeUninit::uninit() }; 256];
    let mut heard = [0; 2048];
    while !done.load(Ordering::Relaxed) {
        let (ready, _) = epoll::wait(&epoll, &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }))?;
        for event in ready.iter() {
            while let Ok(len) = sockets[event.data.u64() as usize].recv(&mut heard) {
                received.fetch_add(u64::from(len == DOWN), Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
