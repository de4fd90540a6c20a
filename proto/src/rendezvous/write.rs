//! What is said, as fields.

use super::field::{self, put};
use super::said::{
    Bind, Change, Hello, Introduce, Introduction, Join, Joined, Mapped, Meet, Meeting, NameChange, NamesAt,
};
use super::said::{Filtering, FlowIds, Mapping, Nat};
use super::{MAX_CARRIED, MAX_COOKIE, Said, Seen, address};

impl Said {
    /// Appends the fields.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unknown | Self::Left | Self::Introducing => {}
            Self::Cookie(cookie) => put_cookie(out, cookie),
            Self::Join(join) => write_join(out, join),
            Self::Joined(joined) => write_joined(out, joined),
            Self::Leave { boot, cookie } => {
                put(out, field::BOOT, &boot.0.to_be_bytes());
                put_cookie(out, cookie);
            }
            Self::News(seen) => put_seen(out, *seen),
            Self::Introduce(introduce) => write_introduce(out, introduce),
            Self::NotIntroduced(refusal) | Self::NotBound(refusal) => put(out, field::REFUSAL, &[refusal.code()]),
            Self::Introduction(introduction) => write_introduction(out, introduction),
            Self::Meet(meet) => write_meet(out, meet),
            Self::Decline { attempt, refusal } => {
                put(out, field::ATTEMPT, &attempt.0.to_be_bytes());
                put(out, field::REFUSAL, &[refusal.code()]);
            }
            Self::Meeting(meeting) => write_meeting(out, meeting),
            Self::Hello(hello) | Self::HelloAnswer(hello) | Self::Chosen(hello) => write_hello(out, hello),
            Self::Bind(bind) => write_bind(out, bind),
            Self::Bound(bound) => {
                let mut value = vec![u8::from(bound.both)];
                value.extend(bound.rate.to_be_bytes());
                value.extend(bound.left.to_be_bytes());
                put(out, field::QUOTA, &value);
                put(out, field::REFRESH, &bound.refresh_ms.to_be_bytes());
            }
            Self::Carry { to, payload } => {
                put(out, field::PEER, &to.0.to_be_bytes());
                put_payload(out, payload);
            }
            Self::Carried(payload) => put_payload(out, payload),
            Self::NatProbe { alternate } => {
                if *alternate {
                    put(out, field::ALTERNATE, &[]);
                }
            }
            Self::NatReach { port } => put(out, field::PORT, &port.to_be_bytes()),
            Self::NatSeen { public, alternate } => {
                put_address(out, field::PUBLIC, *public);
                if let Some(alternate) = alternate {
                    put_address(out, field::ALTERNATE, *alternate);
                }
            }
        }
    }
}

fn put_cookie(out: &mut Vec<u8>, cookie: &[u8]) {
    assert!(cookie.len() <= MAX_COOKIE, "a cookie is bounded by its maker");
    if !cookie.is_empty() {
        put(out, field::COOKIE, cookie);
    }
}

fn put_payload(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= MAX_CARRIED, "what is carried is bounded by its sender");
    put(out, field::PAYLOAD, payload);
}

fn put_seen(out: &mut Vec<u8>, seen: Seen) {
    put(out, field::SEEN, &[seen.epoch.to_be_bytes(), seen.version.to_be_bytes()].concat());
}

fn put_names_at(out: &mut Vec<u8>, at: NamesAt) {
    put(out, field::NAMES, &[at.generation.to_be_bytes(), at.count.to_be_bytes()].concat());
}

fn put_address(out: &mut Vec<u8>, kind: u8, at: std::net::SocketAddr) {
    let mut value = Vec::with_capacity(19);
    address::put(&mut value, at);
    put(out, kind, &value);
}

fn put_list(out: &mut Vec<u8>, kind: u8, addresses: &[std::net::SocketAddr]) {
    if !addresses.is_empty() {
        put(out, kind, &address::list(addresses));
    }
}

fn put_round_trip(out: &mut Vec<u8>, microseconds: u32) {
    if microseconds != 0 {
        put(out, field::ROUND_TRIP, &microseconds.to_be_bytes());
    }
}

/// Two bytes: mapping, filtering; what is known beyond. Not said where nothing is known.
fn put_nat(out: &mut Vec<u8>, nat: Nat) {
    let mapping = match nat.mapping {
        Mapping::Unknown => 0,
        Mapping::None => 1,
        Mapping::EndpointIndependent => 2,
        Mapping::PortDependent => 3,
    };
    let filtering = match nat.filtering {
        Filtering::Unknown => 0,
        Filtering::Open => 1,
        Filtering::PortDependent => 2,
    };
    if (mapping, filtering) != (0, 0) {
        put(out, field::NAT, &[mapping, filtering]);
    }
    if nat.step != 0 {
        put(out, field::STEP, &nat.step.to_be_bytes());
    }
    if nat.search {
        put(out, field::SEARCH, &[]);
    }
}

/// One byte, what it is to, and the address. Not said where there is none.
fn put_mapped(out: &mut Vec<u8>, mapped: Mapped) {
    let mut value = Vec::new();
    for (to, at) in [(1, mapped.flow), (2, mapped.shim)] {
        if let Some(at) = at {
            value.push(to);
            address::put(&mut value, at);
        }
    }
    if !value.is_empty() {
        put(out, field::MAPPED, &value);
    }
}

fn write_join(out: &mut Vec<u8>, join: &Join) {
    put_cookie(out, &join.cookie);
    put(out, field::BOOT, &join.boot.0.to_be_bytes());
    put_list(out, field::LOCALS, &join.locals);
    put_seen(out, join.seen);
    put_names_at(out, join.names_at);
    put_round_trip(out, join.round_trip_us);
    for change in &join.names {
        let (kind, name) = match change {
            NameChange::Add(name) => (field::ADD_NAME, name),
            NameChange::Remove(name) => (field::REMOVE_NAME, name),
        };
        put(out, kind, name.as_str().as_bytes());
    }
}

fn write_joined(out: &mut Vec<u8>, joined: &Joined) {
    put_address(out, field::PUBLIC, joined.public);
    put_seen(out, joined.seen);
    put(out, field::LATEST, &joined.latest.to_be_bytes());
    if joined.reset {
        put(out, field::RESET, &[]);
    }
    put_names_at(out, joined.names_at);
    put(out, field::REFRESH, &joined.refresh_ms.to_be_bytes());
    if joined.relay != 0 {
        put(out, field::RELAY, &joined.relay.to_be_bytes());
    }
    put_cookie(out, &joined.cookie);
    for change in &joined.changes {
        write_change(out, change);
    }
}

fn write_change(out: &mut Vec<u8>, change: &Change) {
    let with_name =
        |member: &crate::HostId, name: &crate::Name| [&member.0.to_be_bytes()[..], name.as_str().as_bytes()].concat();
    match change {
        Change::Member { member, public, locals } => {
            let mut value = member.0.to_be_bytes().to_vec();
            address::put(&mut value, *public);
            value.extend(address::list(locals));
            put(out, field::MEMBER, &value);
        }
        Change::Left(member) => put(out, field::MEMBER_LEFT, &member.0.to_be_bytes()),
        Change::Name(member, name) => put(out, field::MEMBER_NAME, &with_name(member, name)),
        Change::NameGone(member, name) => put(out, field::MEMBER_NAME_GONE, &with_name(member, name)),
    }
}

fn write_introduce(out: &mut Vec<u8>, introduce: &Introduce) {
    put_cookie(out, &introduce.cookie);
    put(out, field::NAME, introduce.name.as_str().as_bytes());
    if introduce.peer.0 != 0 {
        put(out, field::PEER, &introduce.peer.0.to_be_bytes());
    }
    put_list(out, field::LOCALS, &introduce.locals);
    put(out, field::ROUND, &[introduce.round]);
    put_nat(out, introduce.nat);
    put_mapped(out, introduce.mapped);
    put_round_trip(out, introduce.round_trip_us);
    put_moves(out, introduce.moves);
}

fn put_moves(out: &mut Vec<u8>, moves: Option<FlowIds>) {
    if let Some(FlowIds { asker, asked, adrift }) = moves {
        put(out, field::MOVES, &[asker.0.to_be_bytes(), asked.0.to_be_bytes()].concat());
        if adrift {
            put(out, field::ADRIFT, &[]);
        }
    }
}

fn write_introduction(out: &mut Vec<u8>, introduction: &Introduction) {
    put(out, field::PEER, &introduction.asker.0.to_be_bytes());
    put(out, field::ATTEMPT, &introduction.attempt.0.to_be_bytes());
    put(out, field::NONCE, &introduction.nonce);
    put(out, field::NAME, introduction.name.as_str().as_bytes());
    put(out, field::ROUND, &[introduction.round]);
    put_moves(out, introduction.moves);
}

fn write_meet(out: &mut Vec<u8>, meet: &Meet) {
    put_cookie(out, &meet.cookie);
    put(out, field::ATTEMPT, &meet.attempt.0.to_be_bytes());
    put(out, field::NONCE, &meet.nonce);
    put_list(out, field::LOCALS, &meet.locals);
    put_nat(out, meet.nat);
    put_mapped(out, meet.mapped);
    put_round_trip(out, meet.round_trip_us);
}

fn write_meeting(out: &mut Vec<u8>, meeting: &Meeting) {
    put(out, field::PEER, &meeting.peer.0.to_be_bytes());
    put(out, field::NONCE, &meeting.nonce);
    put_address(out, field::PUBLIC, meeting.public);
    put_list(out, field::LOCALS, &meeting.locals);
    put_address(out, field::SHIM_PUBLIC, meeting.shim_public);
    put_list(out, field::SHIM_LOCALS, &meeting.shim_locals);
    put_address(out, field::SEEN_AT, meeting.own_public);
    put_nat(out, meeting.nat);
    put_mapped(out, meeting.mapped);
    put(out, field::START, &meeting.start_us.to_be_bytes());
}

fn write_hello(out: &mut Vec<u8>, hello: &Hello) {
    put(out, field::CHALLENGE, &hello.challenge.to_be_bytes());
    if hello.echo != 0 {
        put(out, field::ECHO, &hello.echo.to_be_bytes());
    }
    put_address(out, field::SEEN_AT, hello.seen_at);
    put_list(out, field::LOCALS, &hello.locals);
}

fn write_bind(out: &mut Vec<u8>, bind: &Bind) {
    put_cookie(out, &bind.cookie);
    put(out, field::PEER, &bind.peer.0.to_be_bytes());
    put(out, field::ATTEMPT, &bind.attempt.0.to_be_bytes());
    put(out, field::NONCE, &bind.nonce);
}
