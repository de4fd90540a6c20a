//! Lines as JSON.

use std::net::SocketAddr;

use proto::shim::{Answer, Control, ControlKind, Request, VERSION};
use serde::Serialize;

use super::tap::{Carried, Flow, Heard};
use super::{hex, words};

/// One line of `flowdump --json`: a datagram. What is not said is `null`.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// The packet's number in the file, from 1; null for hex digits.
    pub number: Option<u64>,
    /// Seconds since 1970 with nine decimals, as text; null where the file does not say.
    pub time: Option<String>,
    /// Source.
    pub from: Option<SocketAddr>,
    /// Destination.
    pub to: Option<SocketAddr>,
    kind: &'static str,
    bytes: usize,
    name: Option<String>,
    version: Option<u8>,
    host: Option<String>,
    boot: Option<String>,
    client_id: Option<String>,
    server_id: Option<String>,
    source: Option<String>,
    qos: Option<Qos>,
    deadline_ms: Option<u32>,
    listen_port: Option<u16>,
    direct: Option<bool>,
    verdict: Option<&'static str>,
    reason: Option<String>,
    server_port: Option<u16>,
    data: Option<String>,
    cookie: Option<String>,
    control: Option<&'static str>,
    died: Option<bool>,
    sender_id: Option<String>,
    receiver_id: Option<String>,
    by_client: Option<bool>,
    malformed: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Qos {
    cube: &'static str,
    timeout_ms: u32,
    keepalive_ms: u32,
}

impl Row {
    /// Of a datagram with so many bytes.
    pub fn new(heard: &Heard, flows: &[Flow], bytes: usize) -> Self {
        let mut row = Self { kind: words::kind(heard), bytes, ..Self::default() };
        match heard {
            Heard::Request(request) => row.request(request),
            Heard::Answer(name, answer) => {
                row.name = Some(name.to_string());
                row.answer(answer);
            }
            Heard::Control(control) => row.control(control),
            Heard::Data { flow, by_client } => {
                row.name = Some(flows[*flow].name.clone());
                row.by_client = Some(*by_client);
            }
            Heard::Malformed(why) => row.malformed = Some(why.as_str()),
        }
        row
    }

    fn request(&mut self, request: &Request) {
        match request {
            Request::Classic(name) => self.name = Some(name.to_string()),
            Request::OtherVersion { name, version, client } => {
                self.name = Some(name.to_string());
                (self.version, self.client_id) = (Some(*version), Some(client.to_string()));
            }
            Request::Extended(name, asked) => {
                let qos = asked.qos;
                let qos = Qos { cube: qos.cube.as_str(), timeout_ms: qos.timeout_ms, keepalive_ms: qos.keepalive_ms };
                self.name = Some(name.to_string());
                self.version = Some(VERSION);
                self.host = Some(asked.host.to_string());
                self.boot = Some(asked.boot.to_string());
                self.client_id = Some(asked.client.to_string());
                self.source = (!asked.source.is_empty()).then(|| asked.source.clone());
                self.qos = Some(qos);
                self.deadline_ms = Some(asked.deadline_ms);
                self.listen_port = Some(asked.listen_port);
                self.direct = Some(asked.direct);
                self.data = Some(hex::write(&asked.data));
                self.cookie = Some(hex::write(&asked.cookie));
            }
        }
    }

    fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::ClassicEcho => {}
            Answer::Returned(client) => self.client_id = Some(client.to_string()),
            Answer::OtherVersion { version, client } => {
                (self.version, self.client_id) = (Some(*version), Some(client.to_string()));
            }
            Answer::Extended { host, boot, client, server, verdict, reason, data, cookie, server_port } => {
                self.version = Some(VERSION);
                self.host = Some(host.to_string());
                self.boot = Some(boot.to_string());
                self.client_id = Some(client.to_string());
                self.server_id = (server.0 != 0).then(|| server.to_string());
                self.verdict = Some(words::verdict(*verdict));
                self.reason = (!reason.is_empty()).then(|| reason.clone());
                self.data = Some(hex::write(data));
                self.cookie = Some(hex::write(cookie));
                self.server_port = *server_port;
            }
        }
    }

    fn control(&mut self, control: &Control) {
        self.version = Some(VERSION);
        self.host = Some(control.host.to_string());
        self.boot = Some(control.boot.to_string());
        self.control = Some(words::control(control.kind));
        if let ControlKind::Dealloc { died } = control.kind {
            self.died = Some(died);
        }
        self.sender_id = Some(control.sender.to_string());
        self.receiver_id = Some(control.receiver.to_string());
    }
}

/// One line of `flowdump --json` at the end: a flow, and what it carried.
#[derive(Debug, Serialize)]
pub struct Total<'a> {
    kind: &'static str,
    name: &'a str,
    cube: Option<&'static str>,
    client: SocketAddr,
    server: SocketAddr,
    client_sent: Sent,
    server_sent: Sent,
}

#[derive(Debug, Serialize)]
struct Sent {
    datagrams: u64,
    bytes: u64,
    keepalives: u64,
}

impl From<Carried> for Sent {
    fn from(Carried { datagrams, bytes, keepalives }: Carried) -> Self {
        Self { datagrams, bytes, keepalives }
    }
}

impl<'a> From<&'a Flow> for Total<'a> {
    fn from(flow: &'a Flow) -> Self {
        Self {
            kind: "flow",
            name: &flow.name,
            cube: flow.cube.map(proto::Cube::as_str),
            client: flow.client,
            server: flow.server,
            client_sent: flow.up.into(),
            server_sent: flow.down.into(),
        }
    }
}
