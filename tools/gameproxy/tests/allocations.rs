//! Nothing is allocated for a datagram: neither for one that goes at once nor for one that waits.
#![expect(clippy::disallowed_methods, reason = "sockets and clocks of a test")]
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all calls are the system's, with what they were called with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Datagrams each way of a measurement.
const MANY: u32 = 2000;
/// What else the process does meanwhile: its log, its timers.
const FEW: u64 = 100;

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A player's datagrams to a server and back, five under way at a time; how many came back.
fn play(player: &UdpSocket, at: SocketAddr, server: &UdpSocket, count: u32) -> u32 {
    let mut heard = [0; 2048];
    let mut came = 0;
    for _ in 0..count / 5 {
        for _ in 0..5 {
            let _ = player.send_to(&[1; 100], at);
        }
        for _ in 0..5 {
            let Ok((_, from)) = server.recv_from(&mut heard) else { break };
            let _ = server.send_to(&[2; 400], from);
        }
        for _ in 0..5 {
            came += u32::from(player.recv_from(&mut heard).is_ok());
        }
    }
    came
}

#[test]
fn no_datagram_allocates() {
    let ((server, target), (player, _)) = (udp(), udp());
    let [(_, plain), (_, delayed)] = [udp(), udp()];
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    let redirect =
        |at: SocketAddr| format!("redirect {} port {} to {} {}", at.ip(), at.port(), target.ip(), target.port());
    let text = format!("global allow 0.0.0.0/0.0.0.0\n{}\n{} delay 1ms+1ms\n", redirect(plain), redirect(delayed));
    std::fs::write(&rules, text).unwrap();
    let word = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let words = ["gameproxy", "local", "--log", "warn", "--run-dir", &word(folder.path()), "--config", &word(&rules)];
    let cli = gameproxy::cli::Cli::parse_from(words);
    // It goes on until this process ends.
    std::thread::Builder::new().name("proxy".to_owned()).spawn(move || gameproxy::run(cli)).unwrap();
    for at in [plain, delayed] {
        let deadline = Instant::now() + Duration::from_secs(20);
        // Until it carries, and then until its buffers are there.
        while play(&player, at, &server, 5) < 5 {
            assert!(Instant::now() < deadline, "nothing comes back from {at}");
        }
        play(&player, at, &server, 500);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let came = play(&player, at, &server, MANY);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert!(came >= MANY / 2, "{came} of {MANY} came back from {at}");
        assert!(allocations < FEW, "{allocations} allocations for {MANY} datagrams through {at}");
    }
}
