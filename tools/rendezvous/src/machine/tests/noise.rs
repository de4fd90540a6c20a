//! Sealed nonsense: every kind, with fields of every type, from members and strangers, at every port. No panic, nothing larger
//! than what it answers ([`World::give`] adds it up), nothing kept for ever.

use std::time::Duration;

use proptest::prelude::*;
use proto::HostId;
use proto::rendezvous::{DATAGRAM, Said};

use super::super::*;
use super::world::*;

/// A field: its type, and what its bytes are made of.
type Field = (u8, Vec<u8>);

#[derive(Clone, Debug)]
struct Step {
    who: u64,
    port: u16,
    role: Role,
    kind: u8,
    id: u64,
    fields: Vec<Field>,
    padded: bool,
    wait: u64,
}

fn field() -> impl Strategy<Value = Field> {
    // Lengths that fields have, and others.
    let length = prop_oneof![Just(0), Just(1), Just(2), Just(4), Just(7), Just(8), Just(16), Just(17), 0..40_usize];
    (prop_oneof![1..30_u8, 64..70_u8, any::<u8>()], length, any::<u8>())
        .prop_map(|(kind, length, byte)| (kind, (0..length).map(|n| [4, byte % 3, byte, 0][n % 4]).collect()))
}

fn step() -> impl Strategy<Value = Step> {
    let role = prop_oneof![4 => Just(Role::Main), 1 => Just(Role::Other), 2 => Just(Role::Relay)];
    let fields = proptest::collection::vec(field(), 0..8);
    (0..5_u64, 1..4_u16, role, 30..58_u8, 0..20_u64, fields, any::<bool>(), 0..30_u64).prop_map(
        |(who, port, role, kind, id, fields, padded, wait)| Step { who, port, role, kind, id, fields, padded, wait },
    )
}

/// A datagram of that kind with these fields, a good cookie before them and a good seal behind.
fn datagram(peer: &Peer, step: &Step) -> Vec<u8> {
    let mut bytes = peer.head(step.id).encode_bare(&Said::Unknown);
    bytes.truncate(42);
    bytes[6] = step.kind;
    let mut put = |kind: u8, value: &[u8]| {
        if bytes.len() + value.len() + 3 + 16 <= DATAGRAM {
            bytes.push(kind);
            bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(value);
        }
    };
    put(1, &peer.cookie);
    step.fields.iter().for_each(|(kind, value)| put(*kind, value));
    let length = u16::try_from(bytes.len() - 42).unwrap();
    bytes[40..42].copy_from_slice(&length.to_be_bytes());
    bytes.extend(peer.key().seal(&bytes));
    bytes.resize(if step.padded { DATAGRAM } else { bytes.len() }, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sealed_nonsense_does_no_harm(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(Rules { relay: Some(RelayRules::default()), ..rules() });
        let (alice, bob, _) = world.introduced();
        for step in &steps {
            world.pass(Duration::from_secs(step.wait));
            let mut peer = if step.who % 2 == 0 { alice.clone() } else { bob.clone() };
            peer.host = HostId(step.who);
            let from = std::net::SocketAddr::new(peer.at.ip(), if step.port == 1 { peer.at.port() } else { step.port });
            // A good cookie, whatever the time.
            let probe = Step { kind: 34, fields: Vec::new(), padded: true, role: Role::Main, ..step.clone() };
            peer.cookie = vec![0; 17];
            world.give(Role::Main, from, &datagram(&peer, &probe));
            if let [Said::Cookie(cookie)] = &world.answers(&peer, from)[..] {
                peer.cookie.clone_from(cookie);
            }
            world.give(step.role, from, &datagram(&peer, step));
            let _ = world.events();
        }
        world.pass(Duration::from_secs(3_600));
        prop_assert_eq!(world.server.timers.len(), 0, "something is kept for ever");
        prop_assert_eq!(world.server.status(world.now, None).members, 0);
    }
}
