//! A game's load for proxies of datagrams:
//!
//! ```text
//! game-load serve ADDRESS                              answers 400 bytes to each datagram, or 64 to one of 64
//! game-load ping ADDRESS [COUNT]                       one after the other, 64 bytes each way
//! game-load play ADDRESS [PLAYERS] [SECONDS] [CHURN]   30 datagrams a second of each player, 100 bytes up, 400 down; CHURN
//!                                                      players a second leave and others come
//! ```
//! Each prints a line of JSON. What does not come back is lost; what comes back to another player than sent it is stray.
#![expect(clippy::disallowed_methods, reason = "it measures: clocks, sockets, threads")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A second, of each player.
const RATE: f64 = 30.0;
/// Up, bytes.
const UP: usize = 100;
/// Down, bytes.
const DOWN: usize = 400;
/// Of a ping, both ways.
const PING: usize = 64;
/// What waits in a socket at most.
const BUFFER: usize = 4 << 20;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let wrong = || {
        io::Error::other("game-load serve ADDRESS | ping ADDRESS [COUNT] | play ADDRESS [PLAYERS] [SECONDS] [CHURN]")
    };
    let address = |word: &str| word.parse::<SocketAddr>().map_err(|_| wrong());
    let number = |rest: &[&str], place: usize, otherwise: u32| {
        rest.get(place).map_or(Ok(otherwise), |word| word.parse()).map_err(|_| wrong())
    };
    match words.as_slice() {
        ["serve", at] => serve(address(at)?),
        ["ping", to, rest @ ..] => ping(address(to)?, number(rest, 0, 20_000)?),
        ["play", to, rest @ ..] => {
            let time = Duration::from_secs(number(rest, 1, 5)?.into());
            Game::begin(address(to)?, number(rest, 0, 1000)?)?.play(time, number(rest, 2, 0)?)
        }
        _ => Err(wrong()),
    }
}

fn serve(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER);
    let mut heard = [0; 2048];
    loop {
        // An error: a player's port is closed.
        let Ok((len, from)) = socket.recv_from(&mut heard) else { continue };
        let answer = if len == PING { PING } else { DOWN };
        let _ = socket.send_to(&heard[..answer], from);
    }
}

fn ping(to: SocketAddr, count: u32) -> io::Result<()> {
    let socket = player(to)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut times = histogram()?;
    let mut lost = 0;
    let mut heard = [0; 2048];
    for n in 0..count + count / 10 {
        let begin = Instant::now();
        socket.send(&[n as u8; PING])?;
        match socket.recv(&mut heard) {
            // The first ones warm up.
            Ok(_) if n < count / 10 => {}
            Ok(_) => times.saturating_record(begin.elapsed().as_nanos() as u64),
            Err(_) => lost += 1,
        }
    }
    let micros = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
    println!(r#"{{"pings":{count},"lost":{lost},"p50_us":{:.1},"p99_us":{:.1}}}"#, micros(0.5), micros(0.99));
    Ok(())
}

/// Nanoseconds, up to a minute.
fn histogram() -> io::Result<hdrhistogram::Histogram<u64>> {
    hdrhistogram::Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)
}

fn player(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct Game {
    to: SocketAddr,
    epoll: std::os::fd::OwnedFd,
    /// Each with its number, which its datagrams carry.
    players: Vec<Mutex<(u64, UdpSocket)>>,
    /// Of those who left: a port of theirs is nobody else's, who would hear what comes late for them.
    left: Mutex<Vec<UdpSocket>>,
    next: AtomicU64,
    received: AtomicU64,
    stray: AtomicU64,
    done: AtomicBool,
    began: Instant,
}

impl Game {
    fn begin(to: SocketAddr, players: u32) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut all = Vec::new();
        for number in 0..u64::from(players) {
            let socket = player(to)?;
            epoll::add(&epoll, socket.as_fd(), EventData::new_u64(number), EventFlags::IN)?;
            all.push(Mutex::new((number, socket)));
        }
        let counter = || AtomicU64::new(0);
        let next = AtomicU64::new(players.into());
        Ok(Self {
            to,
            epoll,
            players: all,
            left: Mutex::default(),
            next,
            received: counter(),
            stray: counter(),
            done: AtomicBool::new(false),
            began: Instant::now(),
        })
    }

    fn play(&self, time: Duration, churn: u32) -> io::Result<()> {
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| self.listen());
            let sent = self.send(time, churn)?;
            std::thread::sleep(Duration::from_secs(1));
            self.done.store(true, Ordering::Relaxed);
            let times = listening.join().map_err(|_| io::Error::other("the listening thread panicked"))??;
            let came = self.received.load(Ordering::Relaxed);
            let lost = 100.0 * sent.saturating_sub(came) as f64 / sent.max(1) as f64;
            let micros = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                r#"{{"players":{},"sent":{sent},"came":{came},"lost_percent":{lost:.2},"stray":{},"p50_us":{:.1},"p99_us":{:.1}}}"#,
                self.players.len(),
                self.stray.load(Ordering::Relaxed),
                micros(0.5),
                micros(0.99)
            );
            Ok(())
        })
    }

    fn send(&self, time: Duration, churn: u32) -> io::Result<u64> {
        let gap = 1.0 / RATE / self.players.len() as f64;
        let (mut sent, mut changed) = (0_u64, 0_u64);
        while self.began.elapsed() < time {
            let passed = self.began.elapsed().as_secs_f64();
            while (changed as f64) < passed * f64::from(churn) {
                self.change(changed as usize % self.players.len())?;
                changed += 1;
            }
            while sent < (passed / gap) as u64 {
                let player =
                    self.players[sent as usize % self.players.len()].lock().map_err(|_| io::Error::other("a lock"))?;
                let mut bytes = [1; UP];
                bytes[..8].copy_from_slice(&player.0.to_be_bytes());
                bytes[8..16].copy_from_slice(&(self.began.elapsed().as_nanos() as u64).to_be_bytes());
                // No room here is a loss as any other.
                let _ = player.1.send(&bytes);
                sent += 1;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(sent)
    }

    /// A player leaves, another comes.
    fn change(&self, place: usize) -> io::Result<()> {
        let socket = player(self.to)?;
        let mut player = self.players[place].lock().map_err(|_| io::Error::other("a lock"))?;
        epoll::add(&self.epoll, socket.as_fd(), EventData::new_u64(place as u64), EventFlags::IN)?;
        let (_, left) = std::mem::replace(&mut *player, (self.next.fetch_add(1, Ordering::Relaxed), socket));
        epoll::delete(&self.epoll, &left)?;
        self.left.lock().map_err(|_| io::Error::other("a lock"))?.push(left);
        Ok(())
    }

    fn listen(&self) -> io::Result<hdrhistogram::Histogram<u64>> {
        let mut times = histogram()?;
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 256];
        let mut heard = [0; 2048];
        while !self.done.load(Ordering::Relaxed) {
            let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&wait))?;
            for event in ready.iter() {
                let Ok(player) = self.players[event.data.u64() as usize].lock() else { continue };
                while let Ok(len) = player.1.recv(&mut heard) {
                    let word = |at: usize| u64::from_be_bytes(heard[at..at + 8].try_into().unwrap_or_default());
                    if len != DOWN || word(0) != player.0 {
                        self.stray.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.received.fetch_add(1, Ordering::Relaxed);
                    times.saturating_record((self.began.elapsed().as_nanos() as u64).saturating_sub(word(8)));
                }
            }
        }
        Ok(times)
    }
}
