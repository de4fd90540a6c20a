//! Fields, as what is said.

use std::net::SocketAddr;

use super::field::{self, Fields};
use super::said::{
    Bind, Bound, Change, Hello, Introduce, Introduction, Join, Joined, Mapped, Meet, Meeting, NameChange, NamesAt,
    Refusal,
};
use super::said::{Filtering, FlowIds, Mapping, Nat};
use super::{MAX_CARRIED, MAX_COOKIE, Malformed, Said, Seen, address};
use crate::{BootId, HostId, Name, WireId};

impl Said {
    /// Reads the fields of a datagram of some kind.
    pub(super) fn read(kind: u8, fields: &Fields<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            32 => Self::Cookie(cookie(fields)?),
            33 => Self::Unknown,
            34 => Self::Join(join(fields)?),
            35 => Self::Joined(joined(fields)?),
            36 => Self::Leave { boot: boot(fields)?, cookie: cookie(fields)? },
            37 => Self::Left,
            38 => Self::News(fields.must(field::SEEN, seen)?),
            39 => Self::Introduce(introduce(fields)?),
            40 => Self::Introducing,
            41 => Self::NotIntroduced(fields.must(field::REFUSAL, refusal)?),
            42 => Self::Introduction(introduction(fields)?),
            43 => Self::Meet(meet(fields)?),
            44 => Self::Decline { attempt: attempt(fields)?, refusal: fields.must(field::REFUSAL, refusal)? },
            45 => Self::Meeting(meeting(fields)?),
            46 => Self::Hello(hello(fields)?),
            47 => Self::HelloAnswer(hello(fields)?),
            48 => Self::Chosen(hello(fields)?),
            49 => Self::Bind(bind(fields)?),
            50 => Self::Bound(bound(fields)?),
            51 => Self::NotBound(fields.must(field::REFUSAL, refusal)?),
            52 => Self::NatProbe { alternate: fields.or(field::ALTERNATE, false, flag)? },
            53 => Self::NatSeen {
                public: fields.must(field::PUBLIC, address::one)?,
                alternate: fields.or(field::ALTERNATE, None, |value| address::one(value).map(Some))?,
            },
            54 => Self::Carry { to: member(fields)?, payload: fields.must(field::PAYLOAD, payload)? },
            55 => Self::Carried(fields.must(field::PAYLOAD, payload)?),
            56 => Self::NatReach { port: fields.must(field::PORT, port)? },
            _ => return Err(Malformed::Header),
        })
    }
}

/// Below, services listen that nobody wants to be sent to.
fn port(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes).filter(|port| *port >= 1_024)
}

fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn u64_of(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

fn flag(value: &[u8]) -> Option<bool> {
    value.is_empty().then_some(true)
}

fn byte(value: &[u8]) -> Option<u8> {
    if let [byte] = value { Some(*byte) } else { None }
}

fn cookie(fields: &Fields<'_>) -> Result<Vec<u8>, Malformed> {
    fields.or(field::COOKIE, Vec::new(), |value| (value.len() <= MAX_COOKIE).then(|| value.to_vec()))
}

fn payload(value: &[u8]) -> Option<Vec<u8>> {
    (value.len() <= MAX_CARRIED).then(|| value.to_vec())
}

fn refusal(value: &[u8]) -> Option<Refusal> {
    byte(value).and_then(Refusal::from_code)
}

fn name(value: &[u8]) -> Option<Name> {
    Name::from_bytes(value).ok()
}

fn boot(fields: &Fields<'_>) -> Result<BootId, Malformed> {
    fields.must(field::BOOT, u64_of).map(BootId)
}

fn member(fields: &Fields<'_>) -> Result<HostId, Malformed> {
    fields.must(field::PEER, u64_of).map(HostId)
}

fn attempt(fields: &Fields<'_>) -> Result<WireId, Malformed> {
    fields.must(field::ATTEMPT, u64_of).map(WireId)
}

fn nonce(fields: &Fields<'_>) -> Result<[u8; 16], Malformed> {
    fields.must(field::NONCE, |value| value.try_into().ok())
}

fn locals(fields: &Fields<'_>, kind: u8) -> Result<Vec<SocketAddr>, Malformed> {
    fields.or(kind, Vec::new(), address::read_list)
}

fn round_trip(fields: &Fields<'_>) -> Result<u32, Malformed> {
    fields.or(field::ROUND_TRIP, 0, u32_of)
}

/// What a later version may say beyond is not known here.
fn nat(fields: &Fields<'_>) -> Result<Nat, Malformed> {
    let step = fields.or(field::STEP, 0, |value| value.try_into().ok().map(i16::from_be_bytes))?;
    let search = fields.or(field::SEARCH, false, flag)?;
    let (mapping, filtering) = fields.or(field::NAT, Default::default(), |value| {
        let [mapping, filtering] = value else { return None };
        let mapping = match mapping {
            1 => Mapping::None,
            2 => Mapping::EndpointIndependent,
            3 => Mapping::PortDependent,
            _ => Mapping::Unknown,
        };
        let filtering = match filtering {
            1 => Filtering::Open,
            2 => Filtering::PortDependent,
            _ => Filtering::Unknown,
        };
        Some((mapping, filtering))
    })?;
    Ok(Nat { mapping, filtering, step, search })
}

/// What each address is to, and the address; of what a later version may say beyond, nothing is known here.
fn mapped(fields: &Fields<'_>) -> Result<Mapped, Malformed> {
    fields.or(field::MAPPED, Mapped::default(), |mut value| {
        let mut mapped = Mapped::default();
        while let Some((to, rest)) = value.split_first() {
            let (at, rest) = address::take(rest)?;
            value = rest;
            match to {
                1 => mapped.flow = Some(at),
                2 => mapped.shim = Some(at),
                _ => {}
            }
        }
        Some(mapped)
    })
}

fn seen(value: &[u8]) -> Option<Seen> {
    let (epoch, version) = value.split_at_checked(8)?;
    Some(Seen { epoch: u64_of(epoch)?, version: u64_of(version)? })
}

fn names_at(value: &[u8]) -> Option<NamesAt> {
    let (generation, count) = value.split_at_checked(4)?;
    Some(NamesAt { generation: u32_of(generation)?, count: u32_of(count)? })
}

fn join(fields: &Fields<'_>) -> Result<Join, Malformed> {
    let mut names = Vec::new();
    for (kind, value) in fields.many() {
        match kind {
            field::ADD_NAME => names.push(NameChange::Add(name(value).ok_or(Malformed::Field)?)),
            field::REMOVE_NAME => names.push(NameChange::Remove(name(value).ok_or(Malformed::Field)?)),
            _ => {}
        }
    }
    Ok(Join {
        cookie: cookie(fields)?,
        boot: boot(fields)?,
        locals: locals(fields, field::LOCALS)?,
        seen: fields.must(field::SEEN, seen)?,
        names_at: fields.must(field::NAMES, names_at)?,
        names,
        round_trip_us: round_trip(fields)?,
    })
}

fn joined(fields: &Fields<'_>) -> Result<Joined, Malformed> {
    let mut changes = Vec::new();
    for (kind, value) in fields.many() {
        if (field::MEMBER..=field::MEMBER_NAME_GONE).contains(&kind) {
            changes.push(change(kind, value).ok_or(Malformed::Field)?);
        }
    }
    Ok(Joined {
        public: fields.must(field::PUBLIC, address::one)?,
        seen: fields.must(field::SEEN, seen)?,
        latest: fields.must(field::LATEST, u64_of)?,
        reset: fields.or(field::RESET, false, flag)?,
        names_at: fields.must(field::NAMES, names_at)?,
        refresh_ms: fields.must(field::REFRESH, u32_of)?,
        relay: fields.or(field::RELAY, 0, |value| value.try_into().ok().map(u16::from_be_bytes))?,
        cookie: cookie(fields)?,
        changes,
    })
}

fn change(kind: u8, value: &[u8]) -> Option<Change> {
    let (member, rest) = value.split_first_chunk()?;
    let member = HostId(u64::from_be_bytes(*member));
    Some(match kind {
        field::MEMBER => {
            let (public, rest) = address::take(rest)?;
            Change::Member { member, public, locals: address::read_list(rest)? }
        }
        field::MEMBER_LEFT if rest.is_empty() => Change::Left(member),
        field::MEMBER_NAME => Change::Name(member, name(rest)?),
        field::MEMBER_NAME_GONE => Change::NameGone(member, name(rest)?),
        _ => return None,
    })
}

fn introduce(fields: &Fields<'_>) -> Result<Introduce, Malformed> {
    Ok(Introduce {
        cookie: cookie(fields)?,
        name: fields.must(field::NAME, name)?,
        peer: fields.or(field::PEER, 0, u64_of).map(HostId)?,
        locals: locals(fields, field::LOCALS)?,
        round: fields.must(field::ROUND, byte)?,
        nat: nat(fields)?,
        mapped: mapped(fields)?,
        round_trip_us: round_trip(fields)?,
        moves: moves(fields)?,
    })
}

fn moves(fields: &Fields<'_>) -> Result<Option<FlowIds>, Malformed> {
    let adrift = fields.or(field::ADRIFT, false, flag)?;
    fields.or(field::MOVES, None, |value| {
        let (asker, asked) = value.split_at_checked(8)?;
        Some(Some(FlowIds { asker: WireId(u64_of(asker)?), asked: WireId(u64_of(asked)?), adrift }))
    })
}

fn introduction(fields: &Fields<'_>) -> Result<Introduction, Malformed> {
    Ok(Introduction {
        asker: member(fields)?,
        attempt: attempt(fields)?,
        nonce: nonce(fields)?,
        name: fields.must(field::NAME, name)?,
        round: fields.must(field::ROUND, byte)?,
        moves: moves(fields)?,
    })
}

fn meet(fields: &Fields<'_>) -> Result<Meet, Malformed> {
    Ok(Meet {
        cookie: cookie(fields)?,
        attempt: attempt(fields)?,
        nonce: nonce(fields)?,
        locals: locals(fields, field::LOCALS)?,
        nat: nat(fields)?,
        mapped: mapped(fields)?,
        round_trip_us: round_trip(fields)?,
    })
}

fn meeting(fields: &Fields<'_>) -> Result<Meeting, Malformed> {
    Ok(Meeting {
        peer: member(fields)?,
        nonce: nonce(fields)?,
        public: fields.must(field::PUBLIC, address::one)?,
        locals: locals(fields, field::LOCALS)?,
        shim_public: fields.must(field::SHIM_PUBLIC, address::one)?,
        shim_locals: locals(fields, field::SHIM_LOCALS)?,
        own_public: fields.must(field::SEEN_AT, address::one)?,
        nat: nat(fields)?,
        mapped: mapped(fields)?,
        start_us: fields.must(field::START, u32_of)?,
    })
}

fn hello(fields: &Fields<'_>) -> Result<Hello, Malformed> {
    Ok(Hello {
        challenge: fields.must(field::CHALLENGE, u64_of)?,
        echo: fields.or(field::ECHO, 0, u64_of)?,
        seen_at: fields.must(field::SEEN_AT, address::one)?,
        locals: locals(fields, field::LOCALS)?,
    })
}

fn bind(fields: &Fields<'_>) -> Result<Bind, Malformed> {
    Ok(Bind { cookie: cookie(fields)?, peer: member(fields)?, attempt: attempt(fields)?, nonce: nonce(fields)? })
}

fn bound(fields: &Fields<'_>) -> Result<Bound, Malformed> {
    let quota = |value: &[u8]| {
        let (both, rest) = value.split_first()?;
        let (rate, left) = rest.split_at_checked(8)?;
        Some((*both == 1, u64_of(rate)?, u64_of(left)?))
    };
    let (both, rate, left) = fields.must(field::QUOTA, quota)?;
    Ok(Bound { both, rate, left, refresh_ms: fields.must(field::REFRESH, u32_of)? })
}
