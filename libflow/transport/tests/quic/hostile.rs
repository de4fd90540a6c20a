//! Strangers, noise, and peers that stall.
#![expect(clippy::disallowed_methods, reason = "tests open sockets, read the clock and keep their tasks")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use identity::{CertificateDer, HostKey, Issuer, ProgramKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use transport::quic::{Flow, HandshakeError, accepting, asking};
use transport::{Over, StreamError};

use super::stage::{BINDING, Scene, Shared, Told, aside, bytes, credentials, happens, now, sockets, soon};

/// A first packet of a client as anybody may send it: long header, version 1, ids, 1,200 bytes.
fn initial(id: [u8; 16]) -> Vec<u8> {
    let mut packet = vec![0xc0, 0, 0, 0, 1, 16];
    packet.extend(id);
    packet.extend([0, 0, 0x44, 0x96]);
    packet.resize(1200, 0x5a);
    packet
}

#[tokio::test]
async fn a_client_that_stalls_costs_its_deadline_and_nobody_else() {
    let [near, far] = sockets("127.0.0.1");
    let scene = Scene::new();
    let deadline = Instant::now() + Duration::from_millis(300);
    let stalled = aside(accepting(Arc::new(Shared(Told::new(far))), scene.accepting.clone(), deadline));
    near.send(&initial([1; 16])).unwrap();
    // Another one is accepted meanwhile.
    happens(Scene::new().flow()).await;
    assert_eq!(happens(stalled).await.unwrap().err(), Some(HandshakeError::Silent));
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_costs_its_deadline() {
    // Through a relay that passes only the client's first flight.
    let (near, far, relay) = (bind(), bind(), [bind(), bind()]);
    near.connect(relay[0].local_addr().unwrap()).unwrap();
    far.connect(relay[1].local_addr().unwrap()).unwrap();
    let (client, server) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let passing = relay.each_ref().map(|it| it.try_clone().unwrap());
    let [inside, outside] = relay;
    std::thread::Builder::new()
        .name("relay".into())
        .spawn(move || {
            let mut buffer = [0; 2048];
            inside.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            for _ in 0..2 {
                let Ok((len, from)) = inside.recv_from(&mut buffer) else { return };
                assert_eq!(from, client);
                outside.send_to(&buffer[..len], server).unwrap();
            }
        })
        .unwrap();
    let mut scene = Scene::on([near, far]);
    scene.accepting.judged = true;
    let deadline = Instant::now() + Duration::from_millis(500);
    let [near, far] = scene.sockets;
    let (asked, accepted) = happens(async {
        tokio::join!(
            asking(Arc::new(Shared(near)), scene.asking, deadline),
            accepting(Arc::new(Shared(far)), scene.accepting, deadline)
        )
    })
    .await;
    assert_eq!(asked.err(), Some(HandshakeError::Silent));
    assert_eq!(accepted.err(), Some(HandshakeError::Silent));
    drop(passing);
}

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_deadline() {
    let [near, _far] = sockets("127.0.0.1");
    let scene = Scene::new();
    let deadline = Instant::now() + Duration::from_millis(200);
    let asked = happens(asking(Arc::new(Shared(Told::new(near))), scene.asking, deadline)).await;
    assert_eq!(asked.err(), Some(HandshakeError::Silent));
}

#[tokio::test]
async fn a_socket_shut_in_the_handshake_ends_it() {
    for side in [0, 1] {
        let scene = Scene::new();
        let socket = scene.sockets[side].clone();
        let other = Scene::new();
        let hands = aside(async move {
            match side {
                0 => asking(Arc::new(Shared(scene.sockets[0].clone())), scene.asking, soon()).await.err(),
                _ => accepting(Arc::new(Shared(scene.sockets[1].clone())), scene.accepting, soon()).await.err(),
            }
        });
        happens(other.flow()).await;
        rustix::net::shutdown(&socket.socket, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(happens(hands).await.unwrap(), Some(HandshakeError::SocketClosed));
    }
}

#[tokio::test]
async fn strangers_get_no_answer_and_do_not_hinder_the_flow() {
    let scene = Scene::new();
    let sockets = scene.sockets.clone();
    let (near, far) = happens(scene.flow()).await;
    let server = rustix::net::getsockname(&sockets[1].socket).unwrap();
    let server = std::net::SocketAddr::try_from(server).unwrap();
    let stranger = bind();
    stranger.connect(server).unwrap();
    for round in 0..200u8 {
        // A first packet, one of an unknown version, one of an open connection, the daemons' own, noise, nothing.
        stranger.send(&initial([round; 16])).unwrap();
        let mut unknown = initial([round; 16]);
        unknown[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, 0x3a]);
        stranger.send(&unknown).unwrap();
        stranger.send(&[&[0x40, round][..], &bytes(800)].concat()).unwrap();
        stranger.send(&[0, 1, 2, 3]).unwrap();
        stranger.send(&bytes(usize::from(round) + 1)).unwrap();
        stranger.send(&[]).unwrap();
        near.send_message(vec![1, round].into()).await.unwrap();
        assert_eq!(happens(far.recv_message()).await.unwrap(), [1, round].as_slice());
    }
    stranger.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2048];
    assert_eq!(stranger.recv(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(sockets[1].closed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn noise_from_the_peers_own_address_does_no_harm() {
    let scene = Scene::new();
    let sockets = scene.sockets.clone();
    let (near, far) = happens(scene.flow()).await;
    for round in 0..200u8 {
        for side in [0, 1] {
            for noise in
                [bytes(usize::from(round) + 1), vec![0, round], Vec::new(), initial([round; 16]), vec![0x45; 60]]
            {
                let to = rustix::net::getsockname(&sockets[1 - side].socket).unwrap();
                rustix::net::sendto(&sockets[side].socket, &noise, rustix::net::SendFlags::empty(), &to).unwrap();
            }
        }
        near.send_message(vec![1, round].into()).await.unwrap();
        assert_eq!(happens(far.recv_message()).await.unwrap(), [1, round].as_slice());
    }
    let (mut send, _r) = near.open_stream().await.unwrap();
    send.finish().unwrap();
    assert_eq!(happens(send.stopped()).await, Ok(None));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_suspected() {
    let [near, far] = sockets("127.0.0.1");
    drop(far);
    let told = Told::new(near);
    let scene = Scene::new();
    let deadline = Instant::now() + Duration::from_millis(500);
    let asked = happens(asking(Arc::new(Shared(told.clone())), scene.asking, deadline)).await;
    assert_eq!(asked.err(), Some(HandshakeError::Silent));
    assert!(told.suspected.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn another_protocol_of_the_same_request_is_a_changed_one() {
    // Who alters request or answer may alter the first id, too: then the application protocol differs still.
    let scene = Scene::new();
    let mut accepting_with = scene.accepting;
    accepting_with.credentials = credentials(Some(&scene.asking.name));
    let [near, far] = scene.sockets;
    let client = aside(plain_client(near));
    let shown = happens(accepting(Arc::new(Shared(far)), accepting_with, soon())).await;
    assert_eq!(shown.err(), Some(HandshakeError::Changed));
    // noq tells nothing to a client that has shown no more than a first packet: it waits for its deadline.
    client.abort();
}

/// Offers "flowring/1" alone, to the right first id.
async fn plain_client(socket: Arc<Told>) {
    let _ = hand_made(socket, b"flowring/1".to_vec()).await;
}

/// A client by the library alone, which knows the binding and shows an identity.
async fn hand_made(socket: Arc<Told>, protocol: Vec<u8>) -> Result<noq::Connection, noq::ConnectionError> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new().chain_update(b"flowring dcid").chain_update(BINDING).finalize();
    let id = noq::ConnectionId::new(&digest[..16]);
    let host = Issuer::new(HostKey::generate().unwrap()).unwrap();
    let key = ProgramKey::generate().unwrap();
    let shown = host.issue(&key.public_key(), None, now()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(shown.chain, key.private_key())
        .unwrap();
    tls.alpn_protocols = vec![protocol];
    let tls = noq::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = noq::ClientConfig::new(Arc::new(tls));
    config.initial_dst_cid_provider(Arc::new(move || id));
    let peer = rustix::net::getpeername(&socket.socket).unwrap().unwrap();
    let twin = std::net::UdpSocket::from(socket.socket.try_clone().unwrap());
    let runtime = noq::default_runtime().unwrap();
    let endpoint = noq::Endpoint::new(noq::EndpointConfig::default(), None, twin, runtime).unwrap();
    endpoint.connect_with(config, peer.try_into().unwrap(), "echo").unwrap().await
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A flow whose client is made by hand.
async fn with_hand_made() -> (noq::Connection, Flow) {
    let scene = Scene::new();
    let [near, far] = scene.sockets;
    let protocol: String = BINDING.iter().fold("flowring/1 ".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let (client, shown) = happens(async {
        tokio::join!(hand_made(near, protocol.into_bytes()), accepting(Arc::new(Shared(far)), scene.accepting, soon()))
    })
    .await;
    (client.unwrap(), happens(shown.unwrap().admit()).await.unwrap())
}

#[tokio::test]
async fn a_stream_that_begins_with_another_byte_is_nonsense() {
    let (client, flow) = with_hand_made().await;
    let (mut send, _recv) = client.open_bi().await.unwrap();
    send.write_all(&[9, 9]).await.unwrap();
    let (_send, mut recv) = happens(flow.accept_stream()).await.unwrap();
    let error = happens(recv.read_chunk(10)).await.unwrap_err();
    assert!(matches!(error, StreamError::Over(Over::Protocol(_))), "{error}");
    let told = happens(client.closed()).await.to_string();
    assert!(told.contains("without announcing"), "{told}");
}

#[tokio::test]
async fn a_client_that_floods_a_flow_stays_within_its_windows() {
    let (client, flow) = with_hand_made().await;
    // Streams of both kinds, messages, none of them taken, until nothing more is let through.
    let flood = async {
        let mut kept = Vec::new();
        while let Ok(opened) = tokio::time::timeout(Duration::from_millis(200), client.open_bi()).await {
            let (mut send, recv) = opened.unwrap();
            send.write_all(&[0; 20_000]).await.unwrap();
            kept.push((send, recv));
        }
        kept
    };
    let kept = happens(flood).await;
    assert!(kept.len() >= transport::quic::MAX_STREAMS as usize && kept.len() < 1200, "{}", kept.len());
    let open_uni = async {
        let mut kept = Vec::new();
        while let Ok(opened) = tokio::time::timeout(Duration::from_millis(200), client.open_uni()).await {
            kept.push(opened.unwrap());
        }
        kept
    };
    assert!(happens(open_uni).await.len() <= 4);
    // An empty message is none.
    client.send_datagram(Vec::new().into()).unwrap();
    client.send_datagram("one".into()).unwrap();
    assert_eq!(happens(flow.recv_message()).await.unwrap(), "one");
    let (_send, mut recv) = happens(flow.accept_stream()).await.unwrap();
    assert!(happens(recv.read_chunk(10)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_flow_that_is_over_stays_over() {
    let (near, far) = Scene::new().flow().await;
    near.abort();
    happens(near.close()).await;
    near.abort();
    assert_eq!(near.closed().await, Over::Closed);
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
    happens(far.close()).await;
    assert_eq!(far.closed().await, Over::PeerClosed);
}
