//! A client whose address changes, and a client's socket that the daemon points elsewhere.
#![expect(clippy::disallowed_methods, reason = "tests open sockets and keep their tasks")]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::Path;
use transport::quic::{Flow, accepting, asking};

use super::stage::{Scene, Shared, Told, aside, bytes, happens, soon};

/// A NAT between a client and a server: what it does to the client's source changes when it is told to.
struct Nat {
    /// Where the client sends to.
    inside: SocketAddr,
    moves: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Nat {
    /// The client is connected to `inside`; the server hears from the first of `outside`, after a move from the next.
    fn new(inside: UdpSocket, outside: Vec<UdpSocket>, client: SocketAddr, server: SocketAddr) -> Self {
        let (moves, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let address = inside.local_addr().unwrap();
        let (inside, outside) = (Arc::new(inside), Arc::new(outside));
        inside.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let up = (inside.clone(), outside.clone(), moves.clone(), over.clone());
        std::thread::Builder::new()
            .name("up".into())
            .spawn(move || {
                let (inside, outside, moves, over) = up;
                let mut buffer = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    let Ok((len, from)) = inside.recv_from(&mut buffer) else { continue };
                    if from == client {
                        let place = moves.load(Ordering::Relaxed).min(outside.len() - 1);
                        let _ = outside[place].send_to(&buffer[..len], server);
                    }
                }
            })
            .unwrap();
        for place in 0..outside.len() {
            let down = (inside.clone(), outside.clone(), moves.clone(), over.clone());
            down.1[place].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            std::thread::Builder::new()
                .name("down".into())
                .spawn(move || {
                    let (inside, outside, moves, over) = down;
                    let mut buffer = [0; 2048];
                    while !over.load(Ordering::Relaxed) {
                        let Ok((len, from)) = outside[place].recv_from(&mut buffer) else { continue };
                        // The old mapping is gone.
                        if from == server && moves.load(Ordering::Relaxed) == place {
                            let _ = inside.send_to(&buffer[..len], client);
                        }
                    }
                })
                .unwrap();
        }
        Self { inside: address, moves, over }
    }

    fn rebind(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// A flow through a NAT.
async fn through_nat(follow: bool) -> (Flow, Flow, Nat) {
    let (near, far, inside) = (bind(), bind(), bind());
    let outside: Vec<_> = (0..3).map(|_| bind()).collect();
    near.connect(inside.local_addr().unwrap()).unwrap();
    far.connect(outside[0].local_addr().unwrap()).unwrap();
    let nat = Nat::new(inside, outside, near.local_addr().unwrap(), far.local_addr().unwrap());
    assert_eq!(near.peer_addr().unwrap(), nat.inside);
    let mut scene = Scene::on([near, far]);
    scene.accepting.follow = follow;
    let scene = scene.options(|it| {
        it.idle_timeout = Duration::from_secs(2);
        it.keep_alive = Some(Duration::from_millis(200));
    });
    let (near, far) = happens(scene.flow()).await;
    (near, far, nat)
}

#[tokio::test]
async fn a_flow_follows_its_client_through_a_nat_that_rebinds() {
    let (near, far, nat) = through_nat(true).await;
    let echo = aside(async move {
        let (mut send, mut recv) = far.accept_stream().await.unwrap();
        let mut buffer = vec![0; 100_000];
        for _ in 0..3 {
            recv.read_exact(&mut buffer).await.unwrap();
            send.write_all(&buffer).await.unwrap();
        }
        send.finish().unwrap();
        let _ = send.stopped().await;
        far
    });
    let (mut send, mut recv) = near.open_stream().await.unwrap();
    for round in 0..3 {
        let payload = bytes(100_000);
        send.write_all(&payload).await.unwrap();
        let mut back = vec![0; payload.len()];
        happens(recv.read_exact(&mut back)).await.unwrap();
        assert!(back == payload, "round {round}");
        nat.rebind();
    }
    drop(send);
    drop(happens(echo).await);
}

#[tokio::test]
async fn the_server_finds_its_client_again_also_when_it_speaks_first() {
    let (near, far, nat) = through_nat(true).await;
    nat.rebind();
    // The client's keep-alive shows the new address.
    far.send_message("lost, most likely".into()).await.unwrap();
    let (mut send, _recv) = far.open_stream().await.unwrap();
    send.write_all(b"found").await.unwrap();
    send.finish().unwrap();
    let (_s, mut recv) = happens(near.accept_stream()).await.unwrap();
    let mut text = String::new();
    happens(recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "found");
}

#[tokio::test]
async fn a_flow_on_a_shared_port_stays_with_its_first_address() {
    let (near, far, nat) = through_nat(false).await;
    nat.rebind();
    assert_eq!(happens(near.closed()).await, transport::Over::TimedOut);
    assert_eq!(happens(far.closed()).await, transport::Over::TimedOut);
}

#[tokio::test]
async fn the_daemon_may_point_the_clients_socket_elsewhere() {
    // The server is behind two relays; the client's socket is moved from one to the other while a stream runs.
    let (near, far) = (bind(), bind());
    let inside = [bind(), bind()];
    let outside = [bind(), bind()];
    near.connect(inside[0].local_addr().unwrap()).unwrap();
    far.connect(outside[0].local_addr().unwrap()).unwrap();
    let second = inside[1].local_addr().unwrap();
    let (client, server) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let nats: Vec<Nat> = inside
        .into_iter()
        .zip(outside)
        .map(|(inside, outside)| Nat::new(inside, vec![outside], client, server))
        .collect();
    let scene = Scene::on([near, far]);
    let daemons = scene.sockets[0].socket.clone();
    let (near, far) = happens(scene.flow()).await;
    let (mut send, _r) = near.open_stream().await.unwrap();
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    for round in 0..2 {
        send.write_all(&bytes(300_000)).await.unwrap();
        let mut got = vec![0; 300_000];
        happens(recv.read_exact(&mut got)).await.unwrap();
        assert!(got == bytes(300_000), "round {round}");
        rustix::net::connect(&daemons, &second).unwrap();
        nats[0].over.store(true, Ordering::Relaxed);
    }
}

/// A socket of a flow that may move, as libflow has it.
struct Movable {
    told: Arc<Told>,
    goes_to: Mutex<SocketAddr>,
    strays: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
}

/// The tests' own handle of it.
struct Handle(Arc<Movable>);

impl Path for Handle {
    fn socket(&self) -> Arc<OwnedFd> {
        self.0.told.socket.clone()
    }
    fn wanted(&self, datagram: &[u8]) -> bool {
        datagram[0] != 0
    }
    fn goes_to(&self) -> Option<SocketAddr> {
        Some(*self.0.goes_to.lock().unwrap())
    }
    fn stray(&self, from: SocketAddr, datagram: &[u8]) {
        self.0.strays.lock().unwrap().push((from, datagram.to_vec()));
    }
}

/// From the first way to the second and back, while messages and a stream go both ways: nothing is lost, since the first way
/// is heard on as long as something comes there. What strangers send that is not QUIC's is handed on, with its source.
#[tokio::test]
async fn a_movable_client_goes_where_it_is_told() {
    let (near, far, stranger) = (bind(), bind(), bind());
    let (inside, outside) = ([bind(), bind()], [bind(), bind()]);
    let ways = [0, 1].map(|way| inside[way].local_addr().unwrap());
    near.connect(ways[0]).unwrap();
    far.connect(outside[0].local_addr().unwrap()).unwrap();
    let (client, server) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let nats = inside.into_iter().zip(outside);
    let nats: Vec<Nat> = nats.map(|(inside, outside)| Nat::new(inside, vec![outside], client, server)).collect();
    let Scene { asking: ours, accepting: theirs, sockets: [near, far] } = Scene::on([near, far]);
    let (goes_to, strays) = (Mutex::new(ways[0]), Mutex::default());
    let movable = Arc::new(Movable { told: near, goes_to, strays });
    let (answered, shown) = tokio::join!(
        asking(Arc::new(Handle(movable.clone())), ours, soon()),
        accepting(Arc::new(Shared(far)), theirs, soon())
    );
    let (near, far) = tokio::join!(answered.unwrap().admitted(), shown.unwrap().admit());
    let (near, far) = (near.unwrap(), far.unwrap());
    let (mut send, _r) = near.open_stream().await.unwrap();
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    for round in 0..6_u32 {
        for number in 0..50_u32 {
            let message = [round.to_be_bytes(), number.to_be_bytes()].concat();
            near.send_message(message.clone().into()).await.unwrap();
            assert_eq!(happens(far.recv_message()).await.unwrap()[..], message);
            far.send_message(message.clone().into()).await.unwrap();
            assert_eq!(happens(near.recv_message()).await.unwrap()[..], message);
            if number == 25 {
                *movable.goes_to.lock().unwrap() = ways[(round as usize + 1) % 2];
            }
        }
        send.write_all(&bytes(300_000)).await.unwrap();
        let mut got = vec![0; 300_000];
        happens(recv.read_exact(&mut got)).await.unwrap();
        assert!(got == bytes(300_000), "round {round}");
    }
    stranger.send_to(b"\0for the daemon", client).unwrap();
    let heard = async {
        while movable.strays.lock().unwrap().is_empty() {
            near.send_message(b"and on"[..].into()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    happens(heard).await;
    let stray = (stranger.local_addr().unwrap(), b"\0for the daemon".to_vec());
    assert_eq!(movable.strays.lock().unwrap()[..], [stray]);
    nats.iter().for_each(|nat| nat.over.store(true, Ordering::Relaxed));
}
