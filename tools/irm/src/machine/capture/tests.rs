use proto::shim::{Extension, PORT, Verdict};
use proto::{BootId, Cube, HostId, Qos};

use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn info() -> v1::FlowInfo {
    v1::FlowInfo {
        flow_id: 12,
        name: "echo".into(),
        layer: "net".into(),
        ipcp: "udp0".into(),
        state: v1::FlowState::Allocated.into(),
        local_address: "10.0.0.1:40000".into(),
        peer_address: "10.0.0.2:41000".into(),
        wire_id: 3,
        peer_wire_id: 4,
        ..Default::default()
    }
}

fn request(asked: &str, client: u64) -> Vec<u8> {
    let extension = Extension {
        host: HostId(1),
        boot: BootId(2),
        client: WireId(client),
        source: String::new(),
        qos: Qos::from(Cube::Raw),
        deadline_ms: 0,
        listen_port: PORT,
        direct: false,
        data: vec![],
        cookie: vec![],
    };
    Request::Extended(name(asked), extension).encode()
}

fn accepted(asked: &str, client: u64, server: u64) -> Vec<u8> {
    let answer = Answer::Extended {
        host: HostId(9),
        boot: BootId(8),
        client: WireId(client),
        server: WireId(server),
        verdict: Verdict::Accepted,
        reason: String::new(),
        data: vec![],
        cookie: vec![],
        server_port: None,
    };
    answer.encode(&name(asked))
}

fn control(kind: ControlKind, sender: u64, receiver: u64) -> Vec<u8> {
    let (sender, receiver) = (WireId(sender), WireId(receiver));
    Control { kind, host: HostId(1), boot: BootId(2), sender, receiver }.encode().to_vec()
}

#[test]
fn a_flow_s_datagrams_are_told_from_others() {
    let flow = Flow::new(&info(), at("10.0.0.1:3359")).unwrap();
    assert_eq!(flow.label.to_string(), "Flowring flow 12 raw 10.0.0.1:40000 <-> 10.0.0.2:41000 layer net name echo");
    let mut subject = Subject::Flow(flow);
    assert_eq!(subject.places(), [("10.0.0.1".parse().unwrap(), Some([40_000, 3_359]))]);
    let (cp, sp, shim, peer) = ("10.0.0.1:40000", "10.0.0.2:41000", "10.0.0.1:3359", "10.0.0.2:3359");
    let table = [
        (cp, sp, b"sdu".to_vec(), true),
        (sp, cp, vec![], true),
        (cp, peer, request("echo", 3), true),
        (peer, cp, accepted("echo", 3, 4), true),
        (shim, peer, control(ControlKind::Probe, 3, 4), true),
        (peer, shim, control(ControlKind::Alive, 4, 3), true),
        // Behind its NAT the peer's shim has another address.
        ("192.0.2.1:99", shim, control(ControlKind::DeallocAck, 4, 3), true),
        (peer, shim, control(ControlKind::Probe, 5, 6), false),
        ("10.0.0.2:50000", shim, request("echo", 7), false),
        ("10.0.0.2:50000", shim, b"echo".to_vec(), false),
    ];
    for (from, to, payload, want) in table {
        assert_eq!(subject.wants(at(from), at(to), &payload), want, "{from} {to} {payload:?}");
    }
    assert!(subject.is_outbound(at(cp), at(sp)) && !subject.is_outbound(at(sp), at(cp)));
    assert!(subject.is_outbound(at(shim), at(peer)) && !subject.is_outbound(at(peer), at(shim)));
}

#[test]
fn a_flow_on_the_listen_port_is_its_two_addresses() {
    let info = v1::FlowInfo { local_address: "10.0.0.1:3359".into(), accepting: true, ..info() };
    let mut subject = Subject::Flow(Flow::new(&info, at("10.0.0.1:3359")).unwrap());
    assert!(subject.wants(at("10.0.0.2:41000"), at("10.0.0.1:3359"), b"sdu"));
    assert!(!subject.wants(at("10.0.0.2:41001"), at("10.0.0.1:3359"), b"another flow's"));
}

#[test]
fn a_name_s_flows_are_followed() {
    let mut subject = Subject::Name(Named::new(name("echo"), vec![at("10.0.0.1:3359")]));
    assert_eq!(subject.places(), [("10.0.0.1".parse().unwrap(), None)]);
    let (cp, sp, shim, listen, nat) =
        ("10.0.0.2:40000", "10.0.0.1:41000", "10.0.0.2:3359", "10.0.0.1:3359", "192.0.2.9:7");
    let story = [
        (cp, sp, b"before".to_vec(), false),
        (cp, listen, request("other", 8), false),
        (cp, listen, request("echo", 3), true),
        (sp, cp, accepted("echo", 3, 4), true),
        (cp, sp, b"sdu".to_vec(), true),
        (nat, sp, b"not yet".to_vec(), false),
        (nat, sp, control(ControlKind::Open, 3, 4), true),
        (nat, sp, b"sdu".to_vec(), true),
        (listen, shim, control(ControlKind::Dealloc { died: false }, 4, 3), true),
        (listen, shim, control(ControlKind::Probe, 5, 6), false),
        ("10.0.0.3:1000", listen, b"echo".to_vec(), true),
        ("10.0.0.1:42000", "10.0.0.3:1000", b"echo".to_vec(), true),
        ("10.0.0.4:1000", listen, b"other".to_vec(), false),
        ("10.0.0.4:1000", sp, b"echo".to_vec(), false),
    ];
    for (from, to, payload, want) in story {
        assert_eq!(subject.wants(at(from), at(to), &payload), want, "{from} {to} {payload:?}");
    }
}

#[test]
fn what_is_kept_in_mind_is_bounded() {
    let mut recent = Recent::default();
    for n in 0..3 * MOST {
        recent.add(n);
        recent.add(n);
    }
    assert_eq!((recent.order.len(), recent.all.len()), (MOST, MOST));
    assert!(recent.has(&(3 * MOST - 1)) && !recent.has(&0));
}

#[test]
fn what_cannot_be_captured_says_why() {
    let listen = at("10.0.0.1:3359");
    let table = [
        (v1::FlowInfo { ipcp: String::new(), ..info() }, Unfit::Local, "stays within this host"),
        (v1::FlowInfo { state: v1::FlowState::Pending.into(), ..info() }, Unfit::Pending, "--name NAME"),
        (v1::FlowInfo { state: v1::FlowState::Ending.into(), ..info() }, Unfit::Over, "is over"),
        (v1::FlowInfo { state: v1::FlowState::Ended.into(), ..info() }, Unfit::Over, "is over"),
        (v1::FlowInfo { peer_address: String::new(), ..info() }, Unfit::Unknown, "whether its IPCP is up"),
    ];
    for (info, want, words) in table {
        let unfit = Flow::new(&info, listen).unwrap_err();
        assert!(unfit.text(12).contains(words), "{}", unfit.text(12));
        assert_eq!(unfit, want);
    }
}

/// Classic BPF, as the kernel runs it, on a frame whose network header begins at `net`.
fn run(program: &[filter::Instruction], frame: &[u8], net: usize, [protocol, kind, hardware, tagged]: [u32; 4]) -> u32 {
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    let load = |offset: u32, length: usize| -> Option<u32> {
        let place = match offset.cast_signed() {
            -0x1000 => return Some(protocol),
            -0xffc => return Some(kind),
            -0xfe4 => return Some(hardware),
            -0xfd0 => return Some(tagged),
            signed if signed >= 0 => signed as usize,
            signed => net + usize::try_from(signed + 0x10_0000).ok()?,
        };
        frame.get(place..place + length).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    };
    loop {
        let one = program[at];
        at += 1;
        let loaded = match one.code {
            0x20 => load(one.k, 4),
            0x28 => load(one.k, 2),
            0x30 => load(one.k, 1),
            0x48 => load(one.k.wrapping_add(x), 2),
            0xb1 => match load(one.k, 1) {
                Some(byte) => {
                    x = 4 * (byte & 15);
                    Some(a)
                }
                None => None,
            },
            0x01 => {
                x = one.k;
                Some(a)
            }
            0x05 => {
                at += one.k as usize;
                Some(a)
            }
            0x15 | 0x45 => {
                let holds = if one.code == 0x15 { a == one.k } else { a & one.k != 0 };
                at += usize::from(if holds { one.then } else { one.other });
                Some(a)
            }
            0x06 => return one.k,
            code => panic!("no such instruction: {code:#x}"),
        };
        match loaded {
            Some(value) => a = value,
            None => return 0,
        }
    }
}

#[test]
fn the_kernel_lets_through_what_is_ours() {
    let places = [("10.0.0.1".parse().unwrap(), Some([40_000, 3_359])), ("fd00::1".parse().unwrap(), None)];
    let program = filter::program(&places);
    let v4 = |source: [u8; 4], destination: [u8; 4], ports: [u16; 2], protocol: u8, fragment: u16, options: usize| {
        let mut ip = vec![0u8; 20 + options];
        ip[0] = 0x45 + (options / 4) as u8;
        ip[6..8].copy_from_slice(&fragment.to_be_bytes());
        ip[9] = protocol;
        ip[12..16].copy_from_slice(&source);
        ip[16..20].copy_from_slice(&destination);
        ip.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        ip.extend([0; 4]);
        ip
    };
    let v6 = |last: [u8; 2]| {
        let mut ip = vec![0u8; 48];
        ip[6] = 17;
        for (at, last) in [(8, last[0]), (24, last[1])] {
            ip[at] = 0xfd;
            ip[at + 15] = last;
        }
        ip
    };
    let (us, them) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let table = [
        (0x0800, v4(us, them, [40_000, 9], 17, 0x4000, 0), true),
        (0x0800, v4(them, us, [9, 40_000], 17, 0, 0), true),
        (0x0800, v4(them, us, [9, 3_359], 17, 0, 8), true),
        (0x0800, v4(us, them, [3_359, 3_359], 17, 0, 40), true),
        // Our address with the peer's port; another protocol; a later piece; strangers.
        (0x0800, v4(us, them, [9, 40_000], 17, 0, 0), false),
        (0x0800, v4(us, them, [40_000, 9], 6, 0, 0), false),
        (0x0800, v4(us, them, [40_000, 9], 17, 100, 0), false),
        (0x0800, v4(us, them, [40_000, 9], 17, 0x2000, 0), true),
        (0x0800, v4(them, [10, 0, 0, 3], [40_000, 3_359], 17, 0, 0), false),
        (0x86dd, v6([1, 2]), true),
        (0x86dd, v6([2, 1]), true),
        (0x86dd, v6([2, 3]), false),
        (0x0806, v4(us, them, [40_000, 9], 17, 0, 0), false),
    ];
    for (number, (protocol, ip, want)) in table.into_iter().enumerate() {
        // Ethernet; the loopback, as it comes; a tunnel without header; something with a longer one.
        for (hardware, net) in [(1, 14), (772, 14), (65_534, 0), (512, 32)] {
            let frame = [vec![0; net], ip.clone()].concat();
            let passes = |kind, tagged| run(&program, &frame, net, [protocol, kind, hardware, tagged]) > 0;
            assert_eq!(passes(0, 0), want, "packet {number} of hardware {hardware}");
            assert!(!passes(0, 1), "packet {number}: it passes at the VLAN's device");
            assert_eq!(passes(4, 0), want && hardware != 772, "packet {number} as it leaves");
        }
    }
    let longest: Vec<_> = (0..32).map(|n| (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]), Some([1, 2]))).collect();
    assert!(filter::program(&longest).len() < 4_096, "the kernel's longest");
}
