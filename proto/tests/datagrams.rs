//! Properties of the datagram codecs, and bytes of version 1 that must read the same for ever.

use proptest::prelude::*;
use proto::shim::{
    Answer, Control, ControlKind, DATAGRAM, Extension, MAX_COOKIE, MAX_DATA, MAX_REASON, Malformed, PORT, Peek,
    Request, Unwanted, Verdict, answer_prefix, control_prefix,
};
use proto::{BootId, Cube, HostId, Name, Qos, WireId};

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "[a-z][a-z0-9.-]{0,40}".prop_map(|text| Name::new(&text).unwrap()),
        Just(Name::new(&"n".repeat(Name::MAX)).unwrap()),
    ]
}

fn qos() -> impl Strategy<Value = Qos> {
    (prop_oneof![Just(Cube::Raw), Just(Cube::Message), Just(Cube::Stream)], any::<u32>(), any::<u32>())
        .prop_map(|(cube, timeout_ms, keepalive_ms)| Qos { cube, timeout_ms, keepalive_ms })
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), Just(vec![0; longest])]
}

prop_compose! {
    fn extension()(
        ids in any::<[u64; 3]>(), source in prop_oneof![Just(String::new()), "[a-z]{1,20}", Just("s".repeat(Name::MAX))],
        qos in qos(), deadline_ms in any::<u32>(), listen_port in any::<u16>(), direct in any::<bool>(), data in bytes(MAX_DATA), cookie in bytes(MAX_COOKIE)
            .prop_map(|mut cookie| { cookie.truncate(MAX_COOKIE); cookie }),
    ) -> Extension {
        let [host, boot, client] = ids;
        Extension {
            host: HostId(host), boot: BootId(boot), client: WireId(client), source, qos, deadline_ms, listen_port, direct, data,
            cookie,
        }
    }
}

const VERDICTS: [Verdict; 11] = [
    Verdict::Pending,
    Verdict::Accepted,
    Verdict::Refused,
    Verdict::UnknownName,
    Verdict::NobodyAccepts,
    Verdict::NotPermitted,
    Verdict::UnsupportedQos,
    Verdict::Exhausted,
    Verdict::Version,
    Verdict::Recovering,
    Verdict::Cookie,
];

prop_compose! {
    fn answer()(
        ids in any::<[u64; 4]>(), verdict in proptest::sample::select(&VERDICTS[..]), data in bytes(MAX_DATA),
        reason in prop_oneof!["[a-z ]{0,30}", Just("r".repeat(MAX_REASON))], server_port in any::<Option<u16>>(),
    ) -> Answer {
        let [host, boot, client, server] = ids;
        Answer::Extended {
            host: HostId(host), boot: BootId(boot), client: WireId(client), server: WireId(server),
            verdict, reason, data, cookie: vec![3; 8], server_port,
        }
    }
}

proptest! {
    #[test]
    fn an_extended_request_survives(name in name(), extension in extension()) {
        let request = Request::Extended(name, extension);
        let datagram = request.encode();
        prop_assert_eq!(datagram.len(), DATAGRAM);
        prop_assert_eq!(Request::decode(&datagram), Ok(request));
    }

    #[test]
    fn an_extended_answer_survives_and_begins_as_its_prefix_says(name in name(), answer in answer()) {
        let datagram = answer.encode(&name);
        let Answer::Extended { client, .. } = answer else { unreachable!() };
        for (at, part) in answer_prefix(&name, client) {
            prop_assert_eq!(&datagram[at..at + part.len()], &part[..]);
        }
        prop_assert_eq!(Answer::decode(&datagram, &name), Ok(answer.clone()));
        prop_assert_eq!(Answer::overhear(&datagram), Ok((name, answer)));
    }

    /// What a loaded server peeks at is what it would decode.
    #[test]
    fn a_peek_sees_what_decoding_does(name in name(), extension in extension(), flip in 0..DATAGRAM, bit in 0..8u32) {
        let mut datagram = Request::Extended(name, extension).encode();
        for _ in 0..2 {
            if let Ok(Request::Extended(name, extension)) = Request::decode(&datagram) {
                let peek = Peek::read(&datagram);
                let want = Peek { name: name.as_str().as_bytes(), client: extension.client, cookie: &extension.cookie };
                prop_assert_eq!(peek, Some(want));
            }
            datagram[flip] ^= 1u8 << bit;
        }
        prop_assert_eq!(Peek::read(&datagram[..flip]), None);
    }

    /// The listen port is no amplifier: PENDING and the longest final answer, each with IPv6 and UDP headers, stay
    /// below one request with one such header; so do two acceptances where name and data are short. Whether a second
    /// one fits, the machine looks at each time.
    #[test]
    fn answers_together_are_not_larger_than_their_request(name in name()) {
        let length = |verdict, reason: String, data: Vec<u8>| {
            let (host, boot, client, server) = (HostId(1), BootId(2), WireId(3), WireId(4));
            let cookie = vec![];
            Answer::Extended { host, boot, client, server, verdict, reason, data, cookie, server_port: Some(1) }
                .encode(&name)
                .len()
        };
        let pending = length(Verdict::Pending, String::new(), vec![]);
        let accepted = length(Verdict::Accepted, String::new(), vec![1; MAX_DATA]);
        let refused = length(Verdict::Refused, "r".repeat(MAX_REASON), vec![]);
        prop_assert!(pending + accepted.max(refused) + 2 * 48 <= DATAGRAM + 48);
    }

    #[test]
    fn control_survives(ids in any::<[u64; 4]>(), died in any::<bool>()) {
        use ControlKind::*;
        for kind in [Dealloc { died }, DeallocAck, Probe, Alive, NoSuchFlow, Recovering, Open, Opened, Moved] {
            let [host, boot, sender, receiver] = ids;
            let control = Control {
                kind, host: HostId(host), boot: BootId(boot), sender: WireId(sender), receiver: WireId(receiver),
            };
            let datagram = control.encode();
            for (at, part) in control_prefix(WireId(receiver)) {
                prop_assert_eq!(&datagram[at..at + part.len()], &part[..]);
            }
            prop_assert_eq!(Control::decode(&datagram), Ok(control));
        }
    }

    /// A program drops what a socket filter would.
    #[test]
    fn unwanted_is_what_has_its_prefixes(name in name(), id in 1u64.., answer in answer(), flip in 0..DATAGRAM, far in any::<bool>()) {
        let control = Control {
            kind: ControlKind::Opened, host: HostId(1), boot: BootId(2), sender: WireId(3), receiver: WireId(id),
        };
        let Answer::Extended { client, .. } = &answer else { unreachable!() };
        for unwanted in [Unwanted::control(WireId(id)), Unwanted::answers(&name, WireId(id)), Unwanted::answers(&name, *client)] {
            prop_assert_eq!(Unwanted::from_parts(unwanted.parts().0, unwanted.parts().1), Some(unwanted));
            for mut payload in [control.encode().to_vec(), answer.encode(&name), vec![0; 40]] {
                for _ in 0..2 {
                    let has = |(at, part): &(usize, Vec<u8>)| payload.get(*at..at + part.len()) == Some(part);
                    let want = unwanted.prefixes().iter().any(|parts| parts.iter().all(has));
                    prop_assert_eq!(unwanted.matches(&payload), want);
                    prop_assert_eq!(unwanted.matches(&payload[..unwanted.tells().min(payload.len())]), want);
                    let at = if far { flip % payload.len() } else { flip % 64 % payload.len() };
                    payload[at] ^= 1;
                }
            }
            prop_assert!(unwanted.matches(&[]));
        }
    }

    #[test]
    fn decoding_is_total(mut noise in proptest::collection::vec(any::<u8>(), 0..1400), name in name()) {
        let _ = Request::decode(&noise);
        let _ = Answer::decode(&noise, &name);
        let _ = Answer::overhear(&noise);
        let _ = Control::decode(&noise);
        noise.resize(DATAGRAM, 0);
        let _ = Peek::read(&noise);
        // Noise behind a true beginning gets further into the decoders.
        let start = [name.as_str().as_bytes(), b"\0Flow\x01"].concat();
        noise.splice(..0, start);
        let _ = Request::decode(&noise);
        let _ = Answer::decode(&noise, &name);
        let _ = Control::decode(&[b"\0Flow\x01", &noise[..]].concat());
    }

    #[test]
    fn a_cut_or_flipped_request_is_never_read_as_another_flow(
        extension in extension(), name in name(), cut in 0..DATAGRAM, flip in 0..DATAGRAM, bit in 0..8u32,
    ) {
        let client = extension.client;
        let mut datagram = Request::Extended(name.clone(), extension).encode();
        let _ = Request::decode(&datagram[..cut]);
        datagram[flip] ^= 1u8 << bit;
        if let Ok(Request::Extended(told, extension)) = Request::decode(&datagram)
            && told == name && extension.client != client {
            let start = name.as_str().len() + 1 + 24;
            prop_assert!((start..start + 8).contains(&flip), "only its own bytes change the id");
        }
    }
}

/// Bytes of version 1. A later version must read them the same.
#[test]
fn version_1_bytes() {
    let echo = Name::new("echo").unwrap();
    let request = Request::Extended(
        echo.clone(),
        Extension {
            host: HostId(0x0102_0304_0506_0708),
            boot: BootId(0x1112_1314_1516_1718),
            client: WireId(0x2122_2324_2526_2728),
            source: "me".into(),
            qos: Qos { cube: Cube::Raw, timeout_ms: 30_000, keepalive_ms: 0 },
            deadline_ms: 5_000,
            listen_port: PORT,
            direct: false,
            data: b"hi".to_vec(),
            cookie: vec![],
        },
    );
    let mut want = b"echo\0Flow\x01\x01\x00\x45".to_vec();
    want.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
    want.extend([0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0, 0, 0, 0, 0, 0, 0, 0]);
    want.extend(b"\x01\x00\x02me\x02\x00\x09\x01\x00\x00\x75\x30\x00\x00\x00\x00\x03\x00\x04\x00\x00\x13\x88");
    want.extend(b"\x04\x00\x02hi");
    want.resize(DATAGRAM, 0);
    assert_eq!(request.encode(), want);
    assert_eq!(Request::decode(&want), Ok(request));

    let answer = Answer::Extended {
        host: HostId(1),
        boot: BootId(2),
        client: WireId(3),
        server: WireId(4),
        verdict: Verdict::Refused,
        reason: "no".into(),
        data: vec![],
        cookie: vec![],
        server_port: None,
    };
    let mut want = b"echo\0Flow\x01\x02\x00\x31".to_vec();
    for number in 1..=4u64 {
        want.extend(number.to_be_bytes());
    }
    want.extend(b"\x06\x00\x01\x03\x07\x00\x02no");
    assert_eq!(answer.encode(&echo), want);

    let control = Control {
        kind: ControlKind::Dealloc { died: true },
        host: HostId(1),
        boot: BootId(2),
        sender: WireId(3),
        receiver: WireId(4),
    };
    let mut want = b"\0Flow\x01\x01\x01".to_vec();
    for number in 1..=4u64 {
        want.extend(number.to_be_bytes());
    }
    assert_eq!(control.encode().to_vec(), want);
}

/// A loaded server's answer, and the request that brings its cookie back.
#[test]
fn version_1_bytes_of_cookies() {
    let echo = Name::new("echo").unwrap();
    let cookie: Vec<u8> = (0x40..0x51).collect();
    let wanted = Answer::Extended {
        host: HostId(1),
        boot: BootId(2),
        client: WireId(3),
        server: WireId(0),
        verdict: Verdict::Cookie,
        reason: String::new(),
        data: vec![],
        cookie: cookie.clone(),
        server_port: None,
    };
    let mut want = b"echo\0Flow\x01\x02\x00\x40".to_vec();
    for number in [1, 2, 3, 0u64] {
        want.extend(number.to_be_bytes());
    }
    want.extend(b"\x06\x00\x01\x0b\x05\x00\x11");
    want.extend(&cookie);
    assert_eq!(wanted.encode(&echo), want);
    assert_eq!(Answer::decode(&want, &echo), Ok(wanted));

    let extension = Extension {
        host: HostId(5),
        boot: BootId(6),
        client: WireId(3),
        source: String::new(),
        qos: Qos { cube: Cube::Raw, timeout_ms: 0, keepalive_ms: 0 },
        deadline_ms: 5_000,
        listen_port: PORT,
        data: vec![],
        cookie: cookie.clone(),
        direct: false,
    };
    let again = Request::Extended(echo, extension);
    let mut want = b"echo\0Flow\x01\x01\x00\x4f".to_vec();
    for number in [5, 6, 3, 0u64] {
        want.extend(number.to_be_bytes());
    }
    want.extend(b"\x02\x00\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x04\x00\x00\x13\x88\x05\x00\x11");
    want.extend(&cookie);
    want.resize(DATAGRAM, 0);
    assert_eq!(again.encode(), want);
    assert_eq!(Request::decode(&want), Ok(again));
}

/// The datagrams that take a flow through middleboxes and keep its hosts' path; bytes of version 1.
#[test]
fn version_1_bytes_of_paths() {
    let echo = Name::new("echo").unwrap();
    let numbers = |text: &[u8]| {
        let mut bytes = text.to_vec();
        (1..=4u64).for_each(|number| bytes.extend(number.to_be_bytes()));
        bytes
    };
    // The acceptance as it comes from the listen port: it names the flow's port.
    let accepted = Answer::Extended {
        host: HostId(1),
        boot: BootId(2),
        client: WireId(3),
        server: WireId(4),
        verdict: Verdict::Accepted,
        reason: String::new(),
        data: b"hi".to_vec(),
        cookie: vec![],
        server_port: Some(50_000),
    };
    let mut want = numbers(b"echo\0Flow\x01\x02\x00\x36");
    want.extend(b"\x06\x00\x01\x02\x04\x00\x02hi\x08\x00\x02\xc3\x50");
    assert_eq!(accepted.encode(&echo), want);
    assert_eq!(Answer::decode(&want, &echo), Ok(accepted));

    // A request of a client that hears the flow's port itself.
    let request = Request::Extended(
        echo,
        Extension {
            host: HostId(1),
            boot: BootId(2),
            client: WireId(3),
            source: String::new(),
            qos: Qos::raw(),
            deadline_ms: 0,
            listen_port: PORT,
            direct: true,
            data: vec![],
            cookie: vec![],
        },
    );
    let mut want = b"echo\0Flow\x01\x01\x00\x3e".to_vec();
    [1, 2, 3, 0u64].iter().for_each(|number| want.extend(number.to_be_bytes()));
    want.extend(b"\x02\x00\x09\x01\0\0\0\0\0\0\0\0\x03\x00\x04\0\0\0\0\x0a\x00\x00");
    want.resize(DATAGRAM, 0);
    assert_eq!(request.encode(), want);
    assert_eq!(Request::decode(&want), Ok(request));

    let table = [
        (ControlKind::Probe, 3),
        (ControlKind::Alive, 4),
        (ControlKind::NoSuchFlow, 5),
        (ControlKind::Recovering, 6),
        (ControlKind::Open, 7),
        (ControlKind::Opened, 8),
    ];
    for (kind, code) in table {
        let (host, boot, sender, receiver) = (HostId(1), BootId(2), WireId(3), WireId(4));
        let want = numbers(&[0, b'F', b'l', b'o', b'w', 1, code, 0]);
        assert_eq!(Control { kind, host, boot, sender, receiver }.encode().to_vec(), want);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let echo = Name::new("echo").unwrap();
    let with = |tail: &[u8]| [b"echo\0Flow", tail].concat();
    let header = |version: u8, kind: u8, length: u16| {
        let mut bytes = with(&[version, kind]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([9; 32]);
        bytes
    };
    let field = |bytes: &[u8]| {
        let mut datagram = header(1, 1, 40 + bytes.len() as u16);
        datagram.extend(bytes);
        datagram
    };
    let table: [(&str, Vec<u8>, Result<(), Malformed>); 15] = [
        ("no bytes", vec![], Err(Malformed::Empty)),
        ("a NUL first", vec![0, 1], Err(Malformed::Name)),
        ("not text", vec![0xff, 0xfe], Err(Malformed::Name)),
        ("a name of 256 bytes", vec![b'a'; 256], Err(Malformed::Name)),
        ("more than a datagram", vec![b'a'; 65_507], Err(Malformed::TooLong)),
        ("magic only", with(&[]), Err(Malformed::Truncated)),
        ("unknown kind", header(1, 7, 40), Err(Malformed::Header)),
        ("an answer where a request belongs", header(1, 2, 40), Err(Malformed::Header)),
        ("a length below the header's own", header(1, 1, 39), Err(Malformed::Header)),
        ("a length beyond the datagram", header(1, 1, 41), Err(Malformed::Truncated)),
        ("a field beyond the fields", field(&[4, 0, 9, 1]), Err(Malformed::Truncated)),
        ("a field twice", field(&[4, 0, 1, 1, 4, 0, 1, 1]), Err(Malformed::Field)),
        ("a cube of no version", field(&[2, 0, 9, 77, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::Field)),
        ("an unknown field that must be understood", field(&[0x80, 0, 0]), Err(Malformed::Field)),
        ("an unknown field that may be skipped", field(&[0x7f, 0, 1, 1]), Ok(())),
    ];
    for (what, datagram, want) in table {
        assert_eq!(Request::decode(&datagram).map(|_| ()), want, "{what}");
    }
    let later = Request::decode(&header(2, 1, 40)).unwrap();
    assert_eq!(later, Request::OtherVersion { name: echo, version: 2, client: WireId(0x0909_0909_0909_0909) });
}
