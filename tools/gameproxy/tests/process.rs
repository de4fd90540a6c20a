//! The program on the loopback: one process, and the original's byte stream, byte for byte.
#![expect(clippy::disallowed_methods, reason = "sockets and clocks of a test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Long enough for anything that works, on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

/// Killed when dropped.
struct Proxy(Child);

impl Proxy {
    fn start(words: &[&str], input: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gameproxy"));
        command.args(words).stdin(input).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(command.spawn().unwrap())
    }

    fn local(redirect: &str, more: &[&str]) -> Self {
        Self::start(&[&["local", "--redirect", redirect, "--log", "warn"], more].concat(), Stdio::null())
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn udp(at: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A port that is free now.
fn free() -> u16 {
    udp("127.0.0.1:0").1.port()
}

/// Says `words` until the server hears them: the proxy may not be there yet. From whom it heard them.
fn heard(player: &UdpSocket, at: SocketAddr, server: &UdpSocket, words: &[u8]) -> SocketAddr {
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let deadline = Instant::now() + SOON;
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        // Refused: nobody listens yet.
        let _ = player.send_to(words, at);
        while let Ok((len, from)) = server.recv_from(&mut buffer) {
            if &buffer[..len] == words {
                return from;
            }
        }
    }
    panic!("{words:?} did not come");
}

fn hears(socket: &UdpSocket, words: &[u8]) -> SocketAddr {
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        if &buffer[..len] == words {
            return from;
        }
    }
}

#[test]
fn a_player_has_one_socket_and_is_the_same_to_its_server_after_a_restart() {
    let ((server, target), (one, _), (two, _)) = (udp("127.0.0.1:0"), udp("127.0.0.1:0"), udp("127.0.0.1:0"));
    let at = SocketAddr::from(([127, 0, 0, 1], free()));
    let redirect = format!("{at}={target}");
    let proxy = Proxy::local(&redirect, &[]);
    let first = heard(&one, at, &server, b"one");
    let second = heard(&two, at, &server, b"two");
    assert_ne!(first, second, "a socket of its own for each");
    assert_eq!(heard(&one, at, &server, b"again"), first);
    server.send_to(b"for two", second).unwrap();
    server.send_to(b"for one", first).unwrap();
    assert_eq!((hears(&one, b"for one"), hears(&two, b"for two")), (at, at));
    // A stranger who knows the port is not heard: what comes next is the server's.
    let (stranger, _) = udp("127.0.0.1:0");
    stranger.send_to(b"for one, too", first).unwrap();
    server.send_to(b"the next", first).unwrap();
    let mut buffer = [0; 100];
    let (len, _) = one.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"the next");
    drop(proxy);
    let _proxy = Proxy::local(&redirect, &[]);
    assert_eq!(heard(&one, at, &server, b"back"), first, "the server sees no new player");
    assert_eq!(heard(&two, at, &server, b"back, too"), second);
}

#[test]
fn answers_come_from_the_address_that_was_spoken_to() {
    let (server, target) = udp("127.0.0.1:0");
    let port = free();
    let _proxy = Proxy::local(&format!("{port}={target}"), &[]);
    let (player, _) = udp("127.0.0.1:0");
    for ip in [[127, 0, 0, 5], [127, 0, 0, 6]] {
        let at = SocketAddr::from((ip, port));
        // Words of each: on a loaded machine they come more than once, and late.
        let from = heard(&player, at, &server, &ip);
        server.send_to(b"from there", from).unwrap();
        assert_eq!(hears(&player, b"from there"), at);
    }
}

#[test]
fn delays_are_added_and_nothing_overtakes() {
    let (server, target) = udp("127.0.0.1:0");
    let at = SocketAddr::from(([127, 0, 0, 1], free()));
    let _proxy = Proxy::local(&format!("{at}={target}"), &["--delay", "30ms+20ms"]);
    let (player, _) = udp("127.0.0.1:0");
    heard(&player, at, &server, b"there");
    server.set_read_timeout(Some(SOON)).unwrap();
    let began = Instant::now();
    (0..20_u8).for_each(|n| drop(player.send_to(&[n], at)));
    let mut buffer = [0; 100];
    for n in 0..20_u8 {
        let (len, from) = loop {
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            if len == 1 {
                break (len, from);
            }
        };
        assert_eq!(buffer[..len], [n]);
        assert!(began.elapsed() >= Duration::from_millis(30));
        server.send_to(&[n], from).unwrap();
    }
    for n in 0..20_u8 {
        let (len, _) = player.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..len], [n]);
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}

const STATUS: &[u8] = b"\xff\xff\xff\xffstatus";
const PRINT: &[u8] = b"\xff\xff\xff\xffprint\n\\mapname\\q2dm1";

/// What rq2proxy's two sides say to each other.
fn frame(words: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (16 + data.len()) as u32;
    [&length.to_be_bytes(), words, data].concat()
}

#[test]
fn descriptor_0_is_served_in_the_originals_framing() {
    let (server, target) = udp("127.0.0.1:0");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let passed: OwnedFd = listener.accept().unwrap().0.into();
    client.set_read_timeout(Some(SOON)).unwrap();
    let words = ["server", "--inetd", "--redirect", &format!("10.1.2.3:27910={target}")];
    let mut proxy = Proxy::start(&words, passed.into());
    // orig ip 10.1.2.3, client ip 192.168.1.5, client port 27901, orig port 27910.
    let quadruple = b"\x0a\x01\x02\x03\xc0\xa8\x01\x05\0\0\x6c\xfd\0\0\x6d\x06";
    let asked = frame(quadruple, STATUS);
    // A frame may come in pieces, and several may come as one.
    client.write_all(&asked[..7]).unwrap();
    client.write_all(&[&asked[7..], &asked].concat()).unwrap();
    let from = hears(&server, STATUS);
    assert_eq!(hears(&server, STATUS), from);
    server.send_to(PRINT, from).unwrap();
    let mut answer = vec![0; 4 + 16 + PRINT.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, frame(quadruple, PRINT));
    // Nobody's redirect: nothing comes of it, and the stream goes on.
    let nobody = b"\x0a\x01\x02\x03\xc0\xa8\x01\x05\0\0\x6c\xfd\0\0\x6d\x07";
    client.write_all(&[frame(nobody, b"?"), frame(quadruple, b"after")].concat()).unwrap();
    assert_eq!(hears(&server, b"after"), from);
    // Its end is the proxy's.
    drop(client);
    assert!(proxy.end().success());
}

#[test]
fn what_is_no_framing_ends_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let passed: OwnedFd = listener.accept().unwrap().0.into();
    client.set_read_timeout(Some(SOON)).unwrap();
    let mut proxy = Proxy::start(&["server", "--inetd", "--redirect", "1=127.0.0.1:1"], passed.into());
    client.write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").unwrap();
    assert!(proxy.end().success());
    // Reset, or an end; nothing is said.
    assert_eq!(client.read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn a_client_side_speaks_the_originals_framing_and_comes_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let at = SocketAddr::from(([127, 0, 0, 1], free()));
    let redirect = format!("{at}=127.0.0.1:1");
    let words = ["client", "--server", &server, "--carrier", "stream", "--redirect", &redirect, "--log", "error"];
    let _proxy = Proxy::start(&words, Stdio::null());
    let (player, me) = udp("127.0.0.1:0");
    let quadruple =
        [&[127, 0, 0, 1, 127, 0, 0, 1, 0, 0][..], &me.port().to_be_bytes(), &[0, 0], &at.port().to_be_bytes()].concat();
    for _ in 0..2 {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let want = frame(&quadruple, STATUS);
        let mut came = Vec::new();
        // It may not know yet that the way is there; and says the same each time.
        let deadline = Instant::now() + SOON;
        while came.len() < want.len() && Instant::now() < deadline {
            let _ = player.send_to(STATUS, at);
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).unwrap_or(0);
            came.extend_from_slice(&buffer[..len]);
        }
        assert!(came.len() >= want.len() && came.chunks_exact(want.len()).all(|frame| frame == want), "{came:?}");
        stream.write_all(&frame(&quadruple, PRINT)).unwrap();
        assert_eq!(hears(&player, PRINT), at);
    }
}

#[test]
fn who_has_no_answer_makes_room_when_descriptors_run_out() {
    let ((server, target), (real, _)) = (udp("127.0.0.1:0"), udp("127.0.0.1:0"));
    let at = SocketAddr::from(([127, 0, 0, 1], free()));
    let binary = env!("CARGO_BIN_EXE_gameproxy");
    let folder = std::env::temp_dir().join(format!("gameproxy-full-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let run_dir = folder.to_str().unwrap();
    let line = format!("ulimit -n 64 && exec {binary} local --redirect {at}={target} --log error --run-dir {run_dir}");
    let _proxy = Proxy(Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).spawn().unwrap());
    let first = heard(&real, at, &server, b"I join");
    server.send_to(b"welcome", first).unwrap();
    assert_eq!(hears(&real, b"welcome"), at);
    // More than there are descriptors: each takes the place of one before, and none that of who plays.
    for n in 0..200_u8 {
        let (made_up, _) = udp("127.0.0.1:0");
        heard(&made_up, at, &server, &[n; 3]);
    }
    // All places are taken, and who looks is answered.
    let looked = Command::new(binary).args(["status", "local", "--json", "--run-dir", run_dir]).output().unwrap();
    let status = String::from_utf8_lossy(&looked.stdout);
    assert!(looked.status.success() && status.contains("\"a new player needed its place\""), "{status}");
    let _ = std::fs::remove_dir_all(folder);
    assert_eq!(heard(&real, at, &server, b"I am still there"), first);
    server.send_to(b"so you are", first).unwrap();
    assert_eq!(hears(&real, b"so you are"), at);
}

#[test]
fn who_was_sent_where_nobody_is_gets_another_server() {
    let (server, target) = udp("127.0.0.1:0");
    let (at, nobody) = (SocketAddr::from(([127, 0, 0, 1], free())), free());
    let rules = std::env::temp_dir().join(format!("gameproxy-astray-{}.toml", std::process::id()));
    // Nobody is pruned meanwhile, and each server has its turn.
    let text = format!(
        "access = ['allow *']\n[[redirect]]\nfrom = '{at}'\nto = ['127.0.0.1:{nobody}', '{target}']\nprune-after = '1h'\n"
    );
    std::fs::write(&rules, text).unwrap();
    let _proxy = Proxy::start(&["local", "--config", rules.to_str().unwrap(), "--log", "error"], Stdio::null());
    let players: Vec<(UdpSocket, SocketAddr)> = (0..8).map(|_| udp("127.0.0.1:0")).collect();
    for (player, _) in &players {
        let from = heard(player, at, &server, b"I join");
        server.send_to(b"welcome", from).unwrap();
        assert_eq!(hears(player, b"welcome"), at);
    }
    let _ = std::fs::remove_file(rules);
}

/// Sends until the stream brings it; what came up to there.
fn framed(player: &UdpSocket, at: SocketAddr, stream: &mut TcpStream, words: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (deadline, mut came, mut buffer) = (Instant::now() + SOON, Vec::new(), [0; 4096]);
    while Instant::now() < deadline {
        let _ = player.send_to(words, at);
        let len = stream.read(&mut buffer).unwrap_or(0);
        came.extend_from_slice(&buffer[..len]);
        if let Some(place) = came.windows(words.len()).position(|window| window == words) {
            return came[..place + words.len()].to_vec();
        }
    }
    panic!("{words:?} did not come");
}

#[test]
fn a_client_side_with_names_in_its_file_opens_their_ports_and_lets_its_players_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let at = SocketAddr::from(([127, 0, 0, 1], free()));
    let rules = std::env::temp_dir().join(format!("gameproxy-names-{}.conf", std::process::id()));
    std::fs::write(&rules, format!("global allow localhost redirect localhost port {} to far.invalid 1", at.port()))
        .unwrap();
    let rules = rules.to_str().unwrap();
    let words =
        ["client", "--server", &server, "--carrier", "stream", "--config", rules, "--log", "error", "--drain", "1h"];
    let mut proxy = Proxy::start(&words, Stdio::null());
    let mut stream = listener.accept().unwrap().0;
    let (player, _) = udp("127.0.0.1:0");
    framed(&player, at, &mut stream, b"I join");
    let term = || assert!(Command::new("kill").args(["-TERM", &proxy.0.id().to_string()]).status().unwrap().success());
    term();
    // Until it heeds the signal others are let in, each with a socket of its own.
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "newcomers are let in");
        let (late, _) = udp("127.0.0.1:0");
        late.send_to(b"let me in", at).unwrap();
        let came = framed(&player, at, &mut stream, b"I am still there");
        if !came.windows(9).any(|window| window == b"let me in") {
            break;
        }
    }
    term();
    assert!(proxy.end().success());
    let _ = std::fs::remove_file(rules);
}

#[test]
fn who_looks_for_servers_by_broadcast_is_answered() {
    let (server, target) = udp("127.0.0.1:0");
    for (any, words) in [("", b"info 34"), ("[::]:", b"info 35")] {
        let port = free();
        let _proxy = Proxy::local(&format!("{any}{port}={target}"), &[]);
        let (player, _) = udp("127.0.0.1:0");
        player.set_broadcast(true).unwrap();
        let everybody = SocketAddr::from(([127, 255, 255, 255], port));
        let from = heard(&player, everybody, &server, words);
        server.send_to(b"a game", from).unwrap();
        assert_eq!(hears(&player, b"a game"), SocketAddr::from(([127, 0, 0, 1], port)));
    }
}
