//! What binds a handshake to its request and answer: bytes that stay for ever, and that whatever is changed on the path
//! changes it.

use proptest::prelude::*;
use proto::shim::{Answer, Asked, Binding, DATAGRAM, Extension, PORT, Request, Verdict};
use proto::{BootId, Cube, HostId, Name, Qos, WireId};

fn extension() -> Extension {
    Extension {
        host: HostId(0x0102_0304_0506_0708),
        boot: BootId(0x1112_1314_1516_1718),
        client: WireId(0x2122_2324_2526_2728),
        source: "me".into(),
        qos: Qos { cube: Cube::Stream, timeout_ms: 30_000, keepalive_ms: 15_000 },
        deadline_ms: 5_000,
        listen_port: PORT,
        direct: false,
        data: b"hi".to_vec(),
        cookie: vec![],
    }
}

fn answer() -> Answer {
    Answer::Extended {
        host: HostId(1),
        boot: BootId(2),
        client: extension().client,
        server: WireId(4),
        verdict: Verdict::Accepted,
        reason: String::new(),
        data: b"welcome".to_vec(),
        cookie: vec![],
        server_port: None,
    }
}

fn name() -> Name {
    Name::new("echo").unwrap()
}

/// As either side gets it: from what it sent and what it heard.
fn binding(name: &Name, said: &Extension, answer: &Answer) -> Binding {
    let Answer::Extended { host, boot, server, data, .. } = answer else { panic!("an extended one") };
    Asked::new(name, said).answered(*host, *boot, *server, data)
}

#[test]
fn version_1_bindings() {
    let bound = binding(&name(), &extension(), &answer());
    assert_eq!(bound.to_string(), "2836bfde2c35f6649738bbc8f10514338c2cfd09d7dd2bac3801db300082afe7");
    assert_eq!(Binding::from_bytes(&bound.0), Some(bound));
    assert_eq!(Binding::from_bytes(&bound.0[1..]), None);
    assert_eq!(Binding::from_bytes(b""), None);
    let least = Extension {
        host: HostId(0),
        boot: BootId(0),
        client: WireId(0),
        source: String::new(),
        qos: Qos::message(),
        data: vec![],
        ..extension()
    };
    let bound = Asked::new(&name(), &least).answered(HostId(0), BootId(0), WireId(0), b"");
    assert_eq!(bound.to_string(), "6e65cac23ef60d3b9779b5b08992c1a46d333082a7e3d4defc4de1a3440fa524");
}

#[test]
fn what_differs_from_one_repetition_to_the_next_is_not_of_it() {
    let bound = binding(&name(), &extension(), &answer());
    let again = Extension { deadline_ms: 1, listen_port: 3400, direct: true, cookie: vec![7; 17], ..extension() };
    let mut aside = answer();
    if let Answer::Extended { server_port, .. } = &mut aside {
        *server_port = Some(40_000);
    }
    assert_eq!(binding(&name(), &again, &aside), bound);
}

/// Text and data have their lengths before them: no byte goes from one to the next unnoticed.
#[test]
fn nothing_moves_from_one_part_to_the_next() {
    let with = |name: &str, source: &str, data: &[u8], answered: &[u8]| {
        let said = Extension { source: source.into(), data: data.to_vec(), ..extension() };
        Asked::new(&Name::new(name).unwrap(), &said).answered(HostId(1), BootId(2), WireId(3), answered)
    };
    let all = [
        with("ab", "cd", b"ef", b"gh"),
        with("a", "bcd", b"ef", b"gh"),
        with("abc", "d", b"ef", b"gh"),
        with("ab", "cde", b"f", b"gh"),
        with("ab", "cd", b"efgh", b""),
        with("ab", "cd", b"", b"efgh"),
    ];
    for (n, one) in all.iter().enumerate() {
        assert!(all[n + 1..].iter().all(|other| other != one), "{n}");
    }
}

proptest! {
    /// Whoever changes a bit of the request on its way changes the binding, or nothing that a program acts upon.
    #[test]
    fn a_changed_request_is_seen(at in 0..DATAGRAM, bit in 0..8u32) {
        let mut datagram = Request::Extended(name(), extension()).encode();
        datagram[at] ^= 1u8 << bit;
        if let Ok(Request::Extended(heard, said)) = Request::decode(&datagram) {
            let of_none = Extension { deadline_ms: 0, listen_port: 0, direct: false, cookie: vec![], ..said.clone() };
            let sent = Extension { deadline_ms: 0, listen_port: 0, direct: false, cookie: vec![], ..extension() };
            let same = heard == name() && of_none == sent;
            prop_assert_eq!(binding(&heard, &said, &answer()) == binding(&name(), &extension(), &answer()), same);
        }
    }

    #[test]
    fn a_changed_answer_is_seen(at in 0..90usize, bit in 0..8u32) {
        let mut datagram = answer().encode(&name());
        let at = at % datagram.len();
        datagram[at] ^= 1u8 << bit;
        if let Ok(changed @ Answer::Extended { verdict: Verdict::Accepted, client, .. }) = Answer::decode(&datagram, &name())
            && client == extension().client
        {
            let parts = |answer: &Answer| match answer.clone() {
                Answer::Extended { host, boot, server, data, .. } => (host, boot, server, data),
                _ => unreachable!(),
            };
            let same = parts(&changed) == parts(&answer());
            let (heard, sent) = (binding(&name(), &extension(), &changed), binding(&name(), &extension(), &answer()));
            prop_assert_eq!(heard == sent, same);
        }
    }
}
