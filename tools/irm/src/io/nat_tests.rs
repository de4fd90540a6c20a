//! A rendezvous that sees sockets as a NAT with several addresses, or of low ports, would show them.

use super::*;

/// What the NAT does with the `n`th socket, whose own port is this.
type Shown = fn(usize, u16) -> SocketAddr;

/// Answers as a rendezvous does. NAT REACH goes to a port of the address that asks.
async fn pretend(shown: Shown) -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (at, mut known) = (socket.local_addr().unwrap(), Vec::<SocketAddr>::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; DATAGRAM + 1];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let envelope = Envelope::read(&buffer[..length]).unwrap();
            if !known.contains(&from) {
                known.push(from);
            }
            let public = |of: &SocketAddr| shown(known.iter().position(|known| known == of).unwrap(), of.port());
            let to = match envelope.unsealed().unwrap() {
                Said::NatReach { port } => {
                    let at = SocketAddr::new(public(&from).ip(), port);
                    known.iter().copied().find(|known| public(known) == at)
                }
                _ => Some(from),
            };
            let Some(to) = to else { continue };
            let said = Said::NatSeen { public: public(&to), alternate: None };
            let receiver = envelope.head.sender;
            let head = Head { session: SessionId::of(""), member: HostId(0), sender: WireId(0), receiver };
            socket.send_to(&head.encode_bare(&said), to).await.unwrap();
        }
    });
    (at, tasks)
}

async fn measured(shown: Shown) -> Lifetime {
    let (server, _tasks) = pretend(shown).await;
    lives(server, Duration::from_secs(1)).await.unwrap()
}

fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    (ip, port).into()
}

#[tokio::test]
async fn a_mapping_is_asked_for_from_its_own_address() {
    let more = Lifetime::More { lived: Duration::from_secs(1) };
    assert_eq!(measured(|_, port| at([192, 0, 2, 1], port)).await, more);
    // One of five after the other.
    assert_eq!(measured(|n, port| at([192, 0, 2, (n % 5) as u8], port)).await, more);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_not_called_dead() {
    let another_each = |n, port| at([192, 0, (n >> 8) as u8, n as u8], port);
    assert_eq!(measured(another_each).await, Lifetime::Unknown { why: Hindrance::OtherAddress });
    let low = |n, _| at([192, 0, 2, 1], n as u16 + 1);
    assert_eq!(measured(low).await, Lifetime::Unknown { why: Hindrance::LowPorts });
    // Where some are low, others are taken.
    let some = |n, port| at([192, 0, 2, 1], if n % 3 == 0 { n as u16 + 1 } else { port });
    assert_eq!(measured(some).await, Lifetime::More { lived: Duration::from_secs(1) });
}
