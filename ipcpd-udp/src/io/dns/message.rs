//! DNS messages to a zone's primary server: questions, updates, answers.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::machine::directory::domain::SERVICE;
use crate::machine::directory::plan::Update;
use crate::machine::directory::trouble::Trouble;

/// As DNS Flag Day 2020 recommends.
const PAYLOAD: u16 = 1_232;

/// The names an update is about.
pub(super) struct Names {
    pub(super) zone: Name,
    pub(super) domain: Name,
    pub(super) service: Name,
}

impl Names {
    pub(super) fn new(zone: &str, domain: &str) -> Result<Self, Trouble> {
        let name = |text: String| Name::from_ascii(text).map_err(|error| Trouble::Malformed(error.to_string()));
        Ok(Self {
            zone: name(format!("{zone}."))?,
            domain: name(format!("{domain}."))?,
            service: name(format!("{SERVICE}.{domain}."))?,
        })
    }
}

/// A question that is not to be answered from a cache.
pub(super) fn question(name: &Name, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message
}

/// An update's message (RFC 2136 §2).
pub(super) fn update(names: &Names, update: &Update, ttl: u32) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Update);
    message.add_query(Query::query(names.zone.clone(), RecordType::SOA));
    for strings in &update.required {
        message.add_answer(record(&names.service, 0, text(strings)));
    }
    if update.required.is_empty() {
        let mut none = Record::update0(names.service.clone(), 0, RecordType::TXT);
        none.dns_class = DNSClass::NONE;
        message.add_answer(none);
    }
    let mut out = |name: &Name, data: RData| {
        let mut gone = record(name, 0, data);
        gone.dns_class = DNSClass::NONE;
        message.add_authority(gone);
    };
    for strings in &update.texts_out {
        out(&names.service, text(strings));
    }
    for ip in &update.addresses_out {
        out(&names.domain, address(*ip));
    }
    for port in &update.ports_out {
        out(&names.service, service(*port, &names.domain));
    }
    if let Some(strings) = &update.text_in {
        message.add_authority(record(&names.service, ttl, RData::TXT(TXT::new(strings.clone()))));
    }
    if let Some(ip) = update.address_in {
        message.add_authority(record(&names.domain, ttl, address(ip)));
    }
    if let Some(port) = update.port_in {
        message.add_authority(record(&names.service, ttl, service(port, &names.domain)));
    }
    message
}

fn record(name: &Name, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name.clone(), ttl, data)
}

fn text(strings: &[Vec<u8>]) -> RData {
    RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn service(port: u16, target: &Name) -> RData {
    RData::SRV(SRV::new(0, 0, port, target.clone()))
}

/// What a response code means.
pub(super) fn trouble_of_code(code: ResponseCode) -> Trouble {
    match code {
        ResponseCode::ServFail => Trouble::ServFail,
        ResponseCode::Refused => Trouble::Refused,
        ResponseCode::NotAuth => Trouble::NotAuth,
        ResponseCode::NotImp => Trouble::NotImplemented,
        ResponseCode::FormErr => Trouble::FormErr,
        ResponseCode::NotZone => Trouble::NotZone,
        code => Trouble::Code(code.into()),
    }
}

/// A record as in a zone file, without control characters.
pub(super) fn text_of(record: &Record) -> String {
    let data = match &record.data {
        RData::TXT(text) => {
            text.txt_data.iter().map(|string| format!("\"{}\"", string.escape_ascii())).collect::<Vec<_>>().join(" ")
        }
        data => data.to_string(),
    };
    format!("{} {} {} {data}", record.name, record.ttl, record.record_type())
}
