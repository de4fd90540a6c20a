//! Properties of the rendezvous' codec, and bytes of version 1 that must read the same for ever.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proto::rendezvous::{
    Bind, Bound, Change, Changes, DATAGRAM, Envelope, Filtering, FlowIds, Head, Hello, Introduce, Introduction, Join,
    Joined, MAX_CARRIED, MAX_COOKIE, MAX_LOCALS, Malformed, Mapped, Mapping, Meet, Meeting, NameChange, NamesAt, Nat,
    Refusal, Said, Seen, SessionId, SessionKey, is_candidate, is_ours,
};
use proto::shim::Unwanted;
use proto::{BootId, HostId, Name, WireId};

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,40}".prop_map(|text| Name::new(&text).unwrap()),
        Just(Name::new(&"n".repeat(Name::MAX)).unwrap()),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from),];
    let one = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    (ip.prop_filter("one host's", one), 1u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn locals() -> impl Strategy<Value = Vec<SocketAddr>> {
    proptest::collection::vec(address(), 0..=MAX_LOCALS)
}

fn nat() -> impl Strategy<Value = Nat> {
    use Mapping::*;
    let mapping = proptest::sample::select(vec![Unknown, None, EndpointIndependent, PortDependent]);
    let filtering = proptest::sample::select(vec![Filtering::Unknown, Filtering::Open, Filtering::PortDependent]);
    (mapping, filtering, any::<i16>(), any::<bool>()).prop_map(|(mapping, filtering, step, search)| Nat {
        mapping,
        filtering,
        step,
        search,
    })
}

fn cookie() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=MAX_COOKIE)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    use Refusal::*;
    proptest::sample::select(vec![UnknownName, Silent, TooMany, Yourself, Exhausted, NoRelay, Quota, UnknownAttempt])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<u64>(), address(), locals()).prop_map(|(member, public, locals)| Change::Member {
            member: HostId(member),
            public,
            locals
        }),
        any::<u64>().prop_map(|member| Change::Left(HostId(member))),
        (any::<u64>(), name()).prop_map(|(member, name)| Change::Name(HostId(member), name)),
        (any::<u64>(), name()).prop_map(|(member, name)| Change::NameGone(HostId(member), name)),
    ]
}

prop_compose! {
    fn join()(cookie in cookie(), numbers in any::<[u64; 3]>(), at in any::<[u32; 3]>(), locals in locals(),
              names in proptest::collection::vec((any::<bool>(), name()), 0..20)) -> Said {
        let mut room = Changes::ROOM;
        let names = names.into_iter().map(|(add, name)| if add { NameChange::Add(name) } else { NameChange::Remove(name) });
        let names = names.take_while(|change| {
            let fits = change.length() <= room;
            room = room.saturating_sub(change.length());
            fits
        }).collect();
        Said::Join(Join {
            cookie, boot: BootId(numbers[0]), locals, seen: Seen { epoch: numbers[1], version: numbers[2] },
            names_at: NamesAt { generation: at[0], count: at[1] }, names, round_trip_us: at[2],
        })
    }
}

prop_compose! {
    fn joined()(public in address(), numbers in any::<[u64; 3]>(), at in any::<[u32; 3]>(), reset in any::<bool>(),
                relay in any::<u16>(), cookie in cookie(), all in proptest::collection::vec(change(), 0..30)) -> Said {
        let mut changes = Changes::default();
        for change in all {
            changes.take(change);
        }
        Said::Joined(Joined {
            public, seen: Seen { epoch: numbers[0], version: numbers[1] }, latest: numbers[2], reset,
            names_at: NamesAt { generation: at[0], count: at[1] }, refresh_ms: at[2], relay, cookie, changes: changes.taken,
        })
    }
}

prop_compose! {
    fn meeting()(peer in any::<u64>(), nonce in any::<[u8; 16]>(), public in [address(), address(), address()],
                 locals in [locals(), locals()], start_us in any::<u32>(), nat in nat(), mapped in mapped()) -> Said {
        let [public, shim_public, own_public] = public;
        let [locals, shim_locals] = locals;
        Said::Meeting(Meeting { peer: HostId(peer), nonce, public, locals, shim_public, shim_locals, own_public, nat, mapped, start_us })
    }
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<[u64; 2]>(), address(), locals()).prop_map(|([challenge, echo], seen_at, locals)| Hello {
        challenge,
        echo,
        seen_at,
        locals,
    })
}

fn introduce() -> impl Strategy<Value = Said> {
    (cookie(), name(), any::<u64>(), locals(), any::<u8>(), any::<u32>(), (nat(), mapped()), moves()).prop_map(
        |(cookie, name, peer, locals, round, round_trip_us, (nat, mapped), moves)| {
            let peer = HostId(peer);
            Said::Introduce(Introduce { cookie, name, peer, locals, round, nat, mapped, round_trip_us, moves })
        },
    )
}

fn introduction() -> impl Strategy<Value = Said> {
    (any::<[u64; 2]>(), any::<[u8; 16]>(), name(), any::<u8>(), moves()).prop_map(|(ids, nonce, name, round, moves)| {
        let [asker, attempt] = ids;
        Said::Introduction(Introduction { asker: HostId(asker), attempt: WireId(attempt), nonce, name, round, moves })
    })
}

fn mapped() -> impl Strategy<Value = Mapped> {
    let at = || proptest::option::of(address());
    (at(), at()).prop_map(|(flow, shim)| Mapped { flow, shim })
}

fn moves() -> impl Strategy<Value = Option<FlowIds>> {
    proptest::option::of(any::<([u64; 2], bool)>()).prop_map(|ids| {
        ids.map(|([asker, asked], adrift)| FlowIds { asker: WireId(asker), asked: WireId(asked), adrift })
    })
}

fn said() -> impl Strategy<Value = Said> {
    let meet = (cookie(), any::<u64>(), any::<[u8; 16]>(), locals(), any::<u32>(), nat(), mapped()).prop_map(
        |(cookie, attempt, nonce, locals, round_trip_us, nat, mapped)| {
            let attempt = WireId(attempt);
            Said::Meet(Meet { cookie, attempt, nonce, locals, nat, mapped, round_trip_us })
        },
    );
    let bind = (cookie(), any::<[u64; 2]>(), any::<[u8; 16]>()).prop_map(|(cookie, [peer, attempt], nonce)| {
        Said::Bind(Bind { cookie, peer: HostId(peer), attempt: WireId(attempt), nonce })
    });
    let bound = (any::<bool>(), any::<[u64; 2]>(), any::<u32>())
        .prop_map(|(both, [rate, left], refresh_ms)| Said::Bound(Bound { both, rate, left, refresh_ms }));
    let payload = || proptest::collection::vec(any::<u8>(), 0..=MAX_CARRIED);
    let first = prop_oneof![
        cookie().prop_map(Said::Cookie),
        Just(Said::Unknown),
        join(),
        joined(),
        (any::<u64>(), cookie()).prop_map(|(boot, cookie)| Said::Leave { boot: BootId(boot), cookie }),
        Just(Said::Left),
        any::<[u64; 2]>().prop_map(|[epoch, version]| Said::News(Seen { epoch, version })),
        introduce(),
        Just(Said::Introducing),
        refusal().prop_map(Said::NotIntroduced),
    ];
    let second = prop_oneof![
        introduction(),
        meet,
        (any::<u64>(), refusal()).prop_map(|(attempt, refusal)| Said::Decline { attempt: WireId(attempt), refusal }),
        meeting(),
        hello().prop_map(Said::Hello),
        hello().prop_map(Said::HelloAnswer),
        hello().prop_map(Said::Chosen),
    ];
    let third = prop_oneof![
        bind,
        bound,
        refusal().prop_map(Said::NotBound),
        any::<bool>().prop_map(|alternate| Said::NatProbe { alternate }),
        (address(), proptest::option::of(address()))
            .prop_map(|(public, alternate)| Said::NatSeen { public, alternate }),
        (any::<u64>(), payload()).prop_map(|(to, payload)| Said::Carry { to: HostId(to), payload }),
        payload().prop_map(Said::Carried),
        (1_024..=u16::MAX).prop_map(|port| Said::NatReach { port }),
    ];
    prop_oneof![first, second, third]
}

fn head() -> impl Strategy<Value = Head> {
    any::<[u64; 4]>().prop_map(|[session, member, sender, receiver]| Head {
        session: SessionId(session),
        member: HostId(member),
        sender: WireId(sender),
        receiver: WireId(receiver),
    })
}

fn key() -> SessionKey {
    SessionKey::new("darkreign", b"secret")
}

proptest! {
    #[test]
    fn what_is_said_survives(head in head(), said in said()) {
        let datagram = head.encode(&key(), &said);
        prop_assert!(datagram.len() <= DATAGRAM && (!said.is_asked() || datagram.len() == DATAGRAM));
        prop_assert!(is_ours(&datagram));
        let envelope = Envelope::read(&datagram).unwrap();
        prop_assert_eq!(envelope.head, head);
        prop_assert_eq!(envelope.of(&key()), Ok(said.clone()));
        prop_assert_eq!(envelope.of(&SessionKey::new("darkreign", b"other")), Err(Malformed::Seal));
        prop_assert_eq!(envelope.of(&SessionKey::new("other", b"secret")), Err(Malformed::Seal));
        prop_assert_eq!(envelope.unsealed(), Ok(said));
    }

    #[test]
    fn two_members_seal_with_their_attempts_key(head in head(), hello in hello(), ids in any::<[u64; 3]>(), nonce in any::<[u8; 16]>(), turn in 0..4usize) {
        let [asker, attempt, asked] = ids;
        let made = |ids: [u64; 3], nonce| key().attempt(HostId(ids[0]), WireId(ids[1]), HostId(ids[2]), &nonce);
        let datagram = head.encode_between(&made(ids, nonce), &Said::Hello(hello.clone()));
        let envelope = Envelope::read(&datagram).unwrap();
        prop_assert_eq!(envelope.between(&made([asker, attempt, asked], nonce)), Ok(Said::Hello(hello)));
        let (mut other, mut nonce) = (ids, nonce);
        if turn < 3 { other[turn] ^= 1 } else { nonce[3] ^= 1 }
        prop_assert_eq!(envelope.between(&made(other, nonce)), Err(Malformed::Seal));
    }

    /// Whatever bit is changed before the zeros: the seal is broken, or the header makes no sense.
    #[test]
    fn a_changed_datagram_is_not_believed(head in head(), said in said(), at in any::<usize>(), bit in 0..8u32) {
        let mut datagram = head.encode(&key(), &said);
        let sealed = 42 + usize::from(u16::from_be_bytes([datagram[40], datagram[41]])) + 16;
        datagram[at % sealed] ^= 1u8 << bit;
        prop_assert!(Envelope::read(&datagram).and_then(|envelope| envelope.of(&key())).is_err());
    }

    /// One that comes late to a flow's socket is no SDU.
    #[test]
    fn a_program_never_sees_one(head in head(), said in said()) {
        prop_assume!(head.receiver != WireId(0));
        prop_assert!(Unwanted::control(head.receiver).matches(&head.encode(&key(), &said)));
    }

    #[test]
    fn decoding_is_total(mut noise in proptest::collection::vec(any::<u8>(), 0..1400), kind in 32..60u8, length in 0..200u16) {
        if let Ok(envelope) = Envelope::read(&noise) {
            let _ = envelope.unsealed();
        }
        noise.resize(noise.len().clamp(300, DATAGRAM), 0);
        noise[..6].copy_from_slice(b"\0Flow\x01");
        noise[6] = kind;
        noise[40..42].copy_from_slice(&length.to_be_bytes());
        let envelope = Envelope::read(&noise).unwrap();
        let _ = (envelope.unsealed(), envelope.cookie(), envelope.of(&key()));
    }

    /// The server is no amplifier, headers of IPv6 and UDP counted: all that one question brings forth.
    #[test]
    fn answers_together_are_not_larger_than_their_question(
        joined in joined(), meetings in [meeting(), meeting()], introduction in introduction(),
    ) {
        let length = |said: &Said| Head { session: SessionId(1), member: HostId(0), sender: WireId(1), receiver: WireId(2) }
            .encode(&key(), said).len() + 48;
        prop_assert!(length(&joined) <= DATAGRAM + 48);
        prop_assert!(length(&introduction) + length(&Said::Introducing) <= DATAGRAM + 48);
        prop_assert!(meetings.iter().map(length).sum::<usize>() <= DATAGRAM + 48);
    }
}

/// Bytes of version 1. A later version must read them the same.
#[test]
fn version_1_bytes() {
    assert_eq!(SessionId::of("darkreign").to_string(), SESSION);
    let head = Head { session: SessionId(0x11), member: HostId(0x22), sender: WireId(0x33), receiver: WireId(0) };
    let said = Said::Introduce(Introduce {
        cookie: b"cookie".to_vec(),
        name: Name::new("alice.chat").unwrap(),
        peer: HostId(0),
        locals: vec!["192.168.1.2:4000".parse().unwrap(), "[fd00::2]:4000".parse().unwrap()],
        round: 1,
        nat: Nat::default(),
        mapped: Mapped::default(),
        round_trip_us: 20_000,
        moves: None,
    });
    let mut want = b"\0Flow\x01\x27\0".to_vec();
    [0x11, 0x22, 0x33, 0u64].iter().for_each(|number| want.extend(number.to_be_bytes()));
    want.extend(b"\0\x3e\x01\0\x06cookie\x07\0\x0aalice.chat\x03\0\x1a");
    want.extend(b"\x04\xc0\xa8\x01\x02\x0f\xa0\x06\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x0f\xa0");
    want.extend(b"\x08\0\x01\x01\x06\0\x04\0\0\x4e\x20");
    want.extend(SEAL);
    want.resize(DATAGRAM, 0);
    assert!(head.encode(&key(), &said) == want);
    assert_eq!(Envelope::read(&want).unwrap().of(&key()), Ok(said));
}

/// What is asked for a flow that there is must be understood by all: a field that others refuse, once.
#[test]
fn a_flow_that_moves_has_a_field_of_its_own() {
    let head = Head { session: SessionId(1), member: HostId(0), sender: WireId(0), receiver: WireId(0) };
    let moves = Some(FlowIds { asker: WireId(0x0102), asked: WireId(0x0304), adrift: false });
    let (asker, attempt, name) = (HostId(2), WireId(3), Name::new("web").unwrap());
    let said = Said::Introduction(Introduction { asker, attempt, nonce: [4; 16], name, round: 0, moves });
    let bytes = head.encode(&key(), &said);
    let field = b"\x80\0\x10\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04";
    let at = bytes.len() - 16 - field.len();
    assert_eq!(bytes[at..at + field.len()], *field);
    assert_eq!(Envelope::read(&bytes).unwrap().of(&key()), Ok(said));
    let mut twice = bytes.clone();
    twice.splice(at..at, *field);
    let length = u16::from_be_bytes([twice[40], twice[41]]) + field.len() as u16;
    twice[40..42].copy_from_slice(&length.to_be_bytes());
    assert_eq!(Envelope::read(&twice).and_then(|it| it.unsealed()), Err(Malformed::Field));
}

/// That its path is gone is said beside it; who does not know the word relays nothing, and no more.
#[test]
fn a_flow_that_is_adrift_says_so_beside() {
    let head = Head { session: SessionId(1), member: HostId(0), sender: WireId(0), receiver: WireId(0) };
    let moves = Some(FlowIds { asker: WireId(1), asked: WireId(2), adrift: true });
    let (asker, attempt, name) = (HostId(2), WireId(3), Name::new("web").unwrap());
    let said = Said::Introduction(Introduction { asker, attempt, nonce: [4; 16], name, round: 0, moves });
    let bytes = head.encode(&key(), &said);
    let at = bytes.len() - 16 - 3;
    assert_eq!(bytes[at..at + 3], *b"\x28\0\0");
    assert_eq!(Envelope::read(&bytes).unwrap().of(&key()), Ok(said));
}

/// These two were computed by another program than ours.
const SESSION: &str = "016d06bf799d06fd";
const SEAL: [u8; 16] = [0x0a, 0xc6, 0x79, 0x45, 0x36, 0x41, 0x56, 0x76, 0x7f, 0x99, 0xd4, 0xf1, 0xd6, 0xae, 0x76, 0x1b];

#[test]
fn what_is_wrong_is_named() {
    let head = Head { session: SessionId(1), member: HostId(2), sender: WireId(3), receiver: WireId(0) };
    let good = head.encode(&key(), &Said::News(Seen { epoch: 1, version: 2 }));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let read = |bytes: &[u8]| Envelope::read(bytes).and_then(|envelope| envelope.unsealed()).map(|_| ());
    let table = [
        (good.clone(), Ok(())),
        (vec![], Err(Malformed::Empty)),
        (vec![0; 1300], Err(Malformed::TooLong)),
        (with(0, b'x'), Err(Malformed::NotControl)),
        (with(5, 2), Err(Malformed::NotControl)),
        (with(6, 31), Err(Malformed::Header)),
        (with(6, 99), Err(Malformed::Header)),
        (with(41, 255), Err(Malformed::Truncated)),
        (good[..good.len() - 1].to_vec(), Err(Malformed::Truncated)),
        (with(44, 15), Err(Malformed::Truncated)),
        // Another kind's field only, a field that must be understood.
        (with(42, 7), Err(Malformed::Field)),
        (with(42, 200), Err(Malformed::Field)),
    ];
    for (bytes, want) in table {
        assert_eq!(read(&bytes), want, "{bytes:02x?}");
    }
}

#[test]
fn hellos_go_to_hosts_only() {
    let table = [
        ("192.168.1.2:4000", true),
        ("203.0.113.5:1", true),
        ("[fd00::2]:4000", true),
        ("127.0.0.1:4000", false),
        ("[::1]:4000", false),
        ("[::ffff:127.0.0.1]:4000", false),
        ("[fe80::1]:4000", false),
        ("0.0.0.0:4000", false),
        ("0.1.2.3:4000", false),
        ("224.0.0.251:5353", false),
        ("240.0.0.1:4000", false),
        ("255.255.255.255:4000", false),
        ("192.168.1.2:0", false),
    ];
    for (address, want) in table {
        assert_eq!(is_candidate(address.parse().unwrap()), want, "{address}");
    }
}
