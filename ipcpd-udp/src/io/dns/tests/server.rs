//! A zone's primary server in this process: RFC 1035 over UDP and TCP, RFC 2136 updates, RFC 8945 signatures; and every
//! kind of trouble that a server can make.
#![expect(clippy::disallowed_types, reason = "a server for tests, whose sockets nobody shuts down")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::tsig::TsigError;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigResponseContext, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::super::exchange::signer;
use super::super::wall;
use crate::machine::directory::key::Key;

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    /// So many datagrams are lost before one is heard.
    pub(super) lose: u32,
    pub(super) delay: Duration,
    /// Answers everything so.
    pub(super) code: Option<ResponseCode>,
    /// Answers over UDP are cut.
    pub(super) truncate: bool,
    /// Answers are noise.
    pub(super) noise: bool,
    /// Answers are not signed.
    pub(super) unsigned: bool,
    /// Says that it is not the zone's own.
    pub(super) foreign: bool,
    /// Seconds that its clock is ahead.
    pub(super) ahead: u64,
    /// Every name is another one's, for ever.
    pub(super) circle: bool,
    /// Somebody else writes before each of so many updates.
    pub(super) meddle: u32,
}

/// What it holds and what it heard.
#[derive(Debug)]
pub(super) struct State {
    pub(super) manners: Manners,
    pub(super) records: Vec<Record>,
    pub(super) questions: u32,
    pub(super) updates: u32,
    pub(super) over_tcp: u32,
    zone: Name,
    meddled: u32,
    lost: u32,
}

/// The server; it ends when dropped.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

pub(super) fn key(name: &str, secret: &str) -> Key {
    Key::parse(&key_text(name, secret)).unwrap()
}

pub(super) fn key_text(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{\n  algorithm hmac-sha256;\n  secret \"{secret}\";\n}};\n")
}

impl Server {
    /// Serves `zone` on a free port of the loopback.
    pub(super) async fn start(zone: &str, key: &Key) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(at).await.unwrap();
        let zone = Name::from_ascii(format!("{zone}.")).unwrap();
        let soa = SOA::new(name("ns.z"), name("admin.z"), 1, 3600, 600, 86_400, 5);
        let state = State {
            manners: Manners::default(),
            records: vec![Record::from_rdata(zone.clone(), 60, RData::SOA(soa))],
            questions: 0,
            updates: 0,
            over_tcp: 0,
            zone,
            meddled: 0,
            lost: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let signer = signer(key).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, state.clone(), signer.clone()));
        tasks.spawn(serve_tcp(tcp, state.clone(), signer));
        Self { at, state, _tasks: tasks }
    }

    pub(super) fn manners(&self, manners: Manners) {
        let mut state = self.state.lock().unwrap();
        state.lost = 0;
        state.meddled = 0;
        state.manners = manners;
    }

    pub(super) fn add(&self, owner: &str, ttl: u32, data: RData) {
        self.state.lock().unwrap().records.push(Record::from_rdata(name(owner), ttl, data));
    }

    /// The records but the zone's own, as in a zone file, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let own = |record: &&Record| record.record_type() != RecordType::SOA;
        let mut lines: Vec<String> = state.records.iter().filter(own).map(super::super::message::text_of).collect();
        lines.sort();
        lines
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

pub(super) fn a(ip: &str) -> RData {
    match ip.parse().unwrap() {
        std::net::IpAddr::V4(ip) => RData::A(A(ip)),
        std::net::IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

pub(super) fn txt(text: &str) -> RData {
    RData::TXT(TXT::new(text.split(' ').map(str::to_owned).collect()))
}

pub(super) fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 0, port, name(target)))
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>, signer: TSigner) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_535];
    let mut answers = JoinSet::new();
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let manners = {
            let mut state = state.lock().unwrap();
            state.lost += 1;
            if state.lost <= state.manners.lose {
                continue;
            }
            state.manners.clone()
        };
        let (bytes, state, signer, socket) = (buffer[..length].to_vec(), state.clone(), signer.clone(), socket.clone());
        answers.spawn(async move {
            tokio::time::timeout(manners.delay, std::future::pending::<()>()).await.unwrap_err();
            let answer = state.lock().unwrap().answer(&bytes, &signer, manners.truncate);
            let _ = socket.send_to(&answer, from).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>, signer: TSigner) {
    let mut callers = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (state, signer) = (state.clone(), signer.clone());
        callers.spawn(async move {
            while let Some(bytes) = frame(&mut stream).await {
                let answer = {
                    let mut state = state.lock().unwrap();
                    state.over_tcp += 1;
                    state.answer(&bytes, &signer, false)
                };
                let length = u16::try_from(answer.len()).unwrap();
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await;
            }
        });
    }
}

async fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

impl State {
    fn answer(&mut self, bytes: &[u8], own: &TSigner, truncate: bool) -> Vec<u8> {
        let request = Message::from_vec(bytes).unwrap();
        let now = wall() + self.manners.ahead;
        let mut response = Message::response(request.id, request.op_code);
        response.metadata.message_type = MessageType::Response;
        response.metadata.authoritative = !self.manners.foreign;
        response.add_queries(request.queries.iter().cloned());
        let context = match request.signature() {
            None => None,
            Some(record) if record.name != *own.signer_name() => {
                Some((TSigResponseContext::unknown_key(request.id, now, record.name.clone()), true))
            }
            Some(record) => Some(match own.verify_message_byte(bytes, None, true) {
                Err(_) => (TSigResponseContext::bad_signature(request.id, now, own.clone()), true),
                Ok((mac, ..)) => {
                    let late = record.data.time.abs_diff(now) > record.data.fudge.into();
                    let error = late.then_some(TsigError::BadTime);
                    (TSigResponseContext::new(request.id, now, own.clone(), mac, error), late)
                }
            }),
        };
        response.metadata.response_code = match (self.manners.code, &context) {
            (Some(code), _) => code,
            (None, Some((_, true))) => ResponseCode::NotAuth,
            (None, signed) if request.op_code == OpCode::Update => match signed {
                Some(_) => self.update(&request),
                None => ResponseCode::Refused,
            },
            (None, _) if truncate => {
                response.metadata.truncation = true;
                ResponseCode::NoError
            }
            (None, _) => self.look_up(&request.queries[0], &mut response),
        };
        if self.manners.noise {
            return [&bytes[..2], &[0x80; 40]].concat();
        }
        if let (Some((context, _)), false) = (context, self.manners.unsigned) {
            let signature = context.sign(&response.to_vec().unwrap()).unwrap();
            response.set_signature(signature);
        }
        response.to_vec().unwrap()
    }

    fn look_up(&mut self, query: &Query, response: &mut Message) -> ResponseCode {
        self.questions += 1;
        let owner = query.name();
        if self.manners.circle {
            let next = RData::CNAME(CNAME(name(&format!("x{}.z", self.questions))));
            response.add_answer(Record::from_rdata(owner.clone(), 60, next));
            return ResponseCode::NoError;
        }
        let found = self.records.iter().filter(|r| r.name == *owner && r.record_type() == query.query_type());
        response.add_answers(found.cloned().collect::<Vec<_>>());
        if !response.answers.is_empty() {
            return ResponseCode::NoError;
        }
        response.add_authority(self.records[0].clone());
        let exists = self.records.iter().any(|record| owner.zone_of(&record.name));
        if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }
    }

    fn update(&mut self, request: &Message) -> ResponseCode {
        if request.queries[0].name() != &self.zone {
            return ResponseCode::NotAuth;
        }
        if self.meddled < self.manners.meddle {
            self.meddled += 1;
            let text = txt(&format!("meddled {}", self.meddled));
            self.records.push(Record::from_rdata(request.answers[0].name.clone(), 60, text));
        }
        let data =
            |records: &[Record]| records.iter().map(|r| format!("{} {}", r.name, r.data)).collect::<BTreeSet<_>>();
        let required = &request.answers[0];
        let there: Vec<Record> = self
            .records
            .iter()
            .filter(|r| r.name == required.name && r.record_type() == RecordType::TXT)
            .cloned()
            .collect();
        if required.dns_class == DNSClass::NONE {
            if !there.is_empty() {
                return ResponseCode::YXRRSet;
            }
        } else if data(&there) != data(&request.answers) {
            return ResponseCode::NXRRSet;
        }
        self.updates += 1;
        for record in &request.authorities {
            let same = |r: &Record| r.name == record.name && r.data == record.data;
            self.records.retain(|r| !same(r));
            if record.dns_class == DNSClass::IN {
                self.records.push(record.clone());
            }
        }
        ResponseCode::NoError
    }
}
