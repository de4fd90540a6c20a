//! Tests of [`super`].
#![expect(clippy::disallowed_methods, reason = "sockets of a test")]

use std::net::UdpSocket;

use super::*;

fn bound(at: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn receive(batch: &mut Batch, socket: &UdpSocket, bytes: usize) {
    let readable = |socket: &UdpSocket| {
        let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0
    };
    let all = |batch: &Batch| (0..batch.len()).map(|place| batch.get(place).1.len()).sum::<usize>();
    while all(batch) < bytes {
        assert!(readable(socket), "{} of {bytes} bytes came", all(batch));
        batch.receive(socket.as_fd()).unwrap();
    }
}

#[test]
fn datagrams_go_and_come_with_their_addresses() {
    for (any, one) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let (server, address) = bound(any);
        say_local(&server, address.is_ipv6()).unwrap();
        let ip: IpAddr = one.parse().unwrap();
        let (client, from) = bound(&SocketAddr::new(ip, 0).to_string());
        client.connect(SocketAddr::new(ip, address.port())).unwrap();
        let sending: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n)]).collect();
        let mut batch = Batch::new();
        for half in sending.chunks(20) {
            let half: Vec<Sending<'_>> =
                half.iter().map(|bytes| Sending { bytes, segment: 0, to: None, from: None }).collect();
            assert_eq!(send(client.as_fd(), &half).unwrap(), 20);
            batch.clear();
            receive(&mut batch, &server, half.iter().map(|sending| sending.bytes.len()).sum());
            for (place, sent) in half.iter().enumerate() {
                let (received, bytes) = batch.get(place);
                assert_eq!(bytes, sent.bytes);
                let sender = received.from.unwrap();
                assert_eq!((sender.ip().to_canonical(), sender.port()), (ip, from.port()));
                assert_eq!(received.to.unwrap().to_canonical(), ip, "{any}");
            }
        }
        // The answer comes from where the client sent to, though the socket is of all addresses.
        let (received, _) = batch.get(0);
        let back = Sending { bytes: b"back", segment: 0, to: received.from, from: received.to };
        assert_eq!(send(server.as_fd(), &[back]).unwrap(), 1);
        let mut answer = [0; 10];
        assert_eq!(client.recv(&mut answer).unwrap(), 4, "a connected socket takes it from its peer only");
    }
}

#[test]
fn joined_datagrams_stay_joined_and_keep_their_bounds() {
    let (server, address) = bound("127.0.0.1:0");
    join(&server);
    let (client, _) = bound("127.0.0.1:0");
    let bytes: Vec<u8> = (0..5_u8).flat_map(|n| vec![n; if n < 4 { 1000 } else { 300 }]).collect();
    let all = Sending { bytes: &bytes, segment: 1000, to: Some(address), from: None };
    assert_eq!(send(client.as_fd(), &[all]).unwrap(), 1);
    let mut batch = Batch::new();
    receive(&mut batch, &server, bytes.len());
    let mut datagrams = Vec::new();
    for place in 0..batch.len() {
        let (received, bytes) = batch.get(place);
        let size = if received.segment > 0 { received.segment } else { bytes.len() };
        datagrams.extend(bytes.chunks(size).map(<[u8]>::to_vec));
    }
    assert_eq!(datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 1000, 1000, 300]);
    assert_eq!(datagrams.concat(), bytes);
}

#[test]
fn a_full_batch_takes_no_more_and_nothing_is_lost() {
    let (server, address) = bound("127.0.0.1:0");
    let (client, _) = bound("127.0.0.1:0");
    for n in 0..40_u8 {
        client.send_to(&[n], address).unwrap();
    }
    let mut batch = Batch::new();
    receive(&mut batch, &server, MANY);
    assert!(batch.is_full());
    assert_eq!(batch.receive(server.as_fd()).unwrap_or(0), 0);
    batch.clear();
    receive(&mut batch, &server, 8);
    assert_eq!(batch.get(0).1, [32]);
}
