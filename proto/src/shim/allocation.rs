//! Requests and answers of flow allocation.

use super::header::{self, Header, Kind, Read};
use super::{DATAGRAM, MAX_COOKIE, MAX_DATA, MAX_REASON, Malformed, PORT, field};
use crate::{BootId, Cube, HostId, Name, Qos, WireId};

/// What an extended request says beside the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The sender's host.
    pub host: HostId,
    /// The sender's ipcpd since its start.
    pub boot: BootId,
    /// The client's id of the flow.
    pub client: WireId,
    /// Who asks, at most 255 bytes; may be empty.
    pub source: String,
    /// What is asked of the flow.
    pub qos: Qos,
    /// The client gives up this long after its first request, milliseconds.
    pub deadline_ms: u32,
    /// Where the sender takes control datagrams; said only where it is not [`PORT`].
    pub listen_port: u16,
    /// What the server sends from the flow's own port has reached the sender before: no middlebox of its side drops it.
    pub direct: bool,
    /// Piggy-back for the accepting program, at most [`MAX_DATA`] bytes, unauthenticated.
    pub data: Vec<u8>,
    /// The cookie of an earlier answer, at most [`MAX_COOKIE`] bytes; empty without one.
    pub cookie: Vec<u8>,
}

/// A datagram that asks for a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The bare name, or the name, a NUL and bytes that are no extension.
    Classic(Name),
    /// The name and an extension of this version.
    Extended(Name, Extension),
    /// The name and an extension of another version: to be refused by [`Verdict::Version`].
    OtherVersion {
        /// The name asked for.
        name: Name,
        /// The version it speaks.
        version: u8,
        /// The client's id of the flow.
        client: WireId,
    },
}

/// What an extended server says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Being decided; ask again later, before your deadline.
    Pending,
    /// The program accepted; the flow's socket is connected.
    Accepted,
    /// The program said no; the reason field may say why.
    Refused,
    /// This host does not serve the name.
    UnknownName,
    /// No program took the flow before the deadline.
    NobodyAccepts,
    /// The caller may not allocate to the name.
    NotPermitted,
    /// The name is not served with this QoS.
    UnsupportedQos,
    /// Out of descriptors, ports or a quota.
    Exhausted,
    /// This shim does not speak the request's version.
    Version,
    /// The server restarted and does not know yet; ask again.
    Recovering,
    /// Ask again with the cookie of this answer.
    Cookie,
}

impl Verdict {
    const CODES: [(u8, Self); 11] = [
        (1, Self::Pending),
        (2, Self::Accepted),
        (3, Self::Refused),
        (4, Self::UnknownName),
        (5, Self::NobodyAccepts),
        (6, Self::NotPermitted),
        (7, Self::UnsupportedQos),
        (8, Self::Exhausted),
        (9, Self::Version),
        (10, Self::Recovering),
        (11, Self::Cookie),
    ];

    fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, verdict)| *verdict == self).map_or(0, |(code, _)| *code)
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, verdict)| *verdict)
    }

    /// Whether the server has made up its mind.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Recovering | Self::Cookie)
    }
}

/// A datagram that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bare name: a classic shim's echo.
    ClassicEcho,
    /// Our own request, unchanged, by a shim that copies without reading. Carries our id of the flow.
    Returned(WireId),
    /// An extended server's.
    Extended {
        /// The server's host.
        host: HostId,
        /// The server's ipcpd since its start.
        boot: BootId,
        /// The client's id of the flow, from the request.
        client: WireId,
        /// The server's id of the flow.
        server: WireId,
        /// What it says.
        verdict: Verdict,
        /// The program's words, at most [`MAX_REASON`] bytes.
        reason: String,
        /// Piggy-back of the accepting program, at most [`MAX_DATA`] bytes, unauthenticated.
        data: Vec<u8>,
        /// To be sent with the next request; empty without one.
        cookie: Vec<u8>,
        /// The port of the flow at the server, when the answer does not come from it.
        server_port: Option<u16>,
    },
    /// An extended server of another version.
    OtherVersion {
        /// The version it speaks.
        version: u8,
        /// The client's id of the flow.
        client: WireId,
    },
}

impl Request {
    /// The datagram. An extended one is padded to [`DATAGRAM`] bytes.
    ///
    /// # Panics
    /// Where the extension breaks its documented bounds.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Classic(name) | Self::OtherVersion { name, .. } => name.as_str().as_bytes().to_vec(),
            Self::Extended(name, extension) => {
                let mut out = Vec::with_capacity(DATAGRAM);
                out.extend_from_slice(name.as_str().as_bytes());
                out.push(0);
                extension.write(&mut out);
                assert!(out.len() <= DATAGRAM, "an extension within its bounds fits");
                out.resize(DATAGRAM, 0);
                out
            }
        }
    }

    /// Reads a datagram that arrived on the listen port and does not begin with NUL.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (name, rest) = split_name(bytes)?;
        match Header::read(rest)? {
            None => Ok(Self::Classic(name)),
            Some(Read::Other { version, client }) => Ok(Self::OtherVersion { name, version, client }),
            Some(Read::This(header, fields)) if header.kind == Kind::Request => {
                Ok(Self::Extended(name, Extension::read(&header, fields)?))
            }
            Some(Read::This(..)) => Err(Malformed::Header),
        }
    }
}

/// The name up to the first NUL, and what follows that NUL.
fn split_name(bytes: &[u8]) -> Result<(Name, &[u8]), Malformed> {
    match bytes.len() {
        0 => return Err(Malformed::Empty),
        n if n > DATAGRAM => return Err(Malformed::TooLong),
        _ => {}
    }
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let name = Name::from_bytes(&bytes[..end]).map_err(|_| Malformed::Name)?;
    Ok((name, bytes.get(end + 1..).unwrap_or(&[])))
}

impl Extension {
    fn write(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::with_capacity(128);
        if !self.source.is_empty() {
            assert!(self.source.len() <= Name::MAX, "a source name is a name");
            field::put(&mut fields, field::SOURCE, self.source.as_bytes());
        }
        field::put(&mut fields, field::QOS, &qos_bytes(self.qos));
        field::put(&mut fields, field::DEADLINE, &self.deadline_ms.to_be_bytes());
        if self.listen_port != PORT {
            field::put(&mut fields, field::LISTEN_PORT, &self.listen_port.to_be_bytes());
        }
        if self.direct {
            field::put(&mut fields, field::DIRECT, &[]);
        }
        put_data(&mut fields, &self.data);
        put_cookie(&mut fields, &self.cookie);
        let header =
            Header { kind: Kind::Request, host: self.host, boot: self.boot, client: self.client, server: WireId(0) };
        header.write(&fields, out);
    }

    fn read(header: &Header, fields: &[u8]) -> Result<Self, Malformed> {
        let mut extension = Self {
            host: header.host,
            boot: header.boot,
            client: header.client,
            source: String::new(),
            qos: Qos::raw(),
            deadline_ms: 0,
            listen_port: PORT,
            direct: false,
            data: Vec::new(),
            cookie: Vec::new(),
        };
        field::each(fields, |kind, value| match kind {
            field::SOURCE => Name::from_bytes(value).map(|name| extension.source = name.to_string()).is_ok(),
            field::QOS => read_qos(value).map(|qos| extension.qos = qos).is_some(),
            field::DEADLINE => value.try_into().map(|ms| extension.deadline_ms = u32::from_be_bytes(ms)).is_ok(),
            field::LISTEN_PORT => value.try_into().map(|port| extension.listen_port = u16::from_be_bytes(port)).is_ok(),
            field::DIRECT => {
                extension.direct = true;
                value.is_empty()
            }
            field::DATA => read_bytes(value, MAX_DATA, &mut extension.data),
            field::COOKIE => read_bytes(value, MAX_COOKIE, &mut extension.cookie),
            _ => true,
        })?;
        Ok(extension)
    }
}

impl Answer {
    /// An extended answer with a cookie to be sent with the next request, at most [`MAX_COOKIE`] bytes; others
    /// stay as they are.
    #[must_use]
    pub fn with_cookie(mut self, baked: &[u8]) -> Self {
        if let Self::Extended { cookie, .. } = &mut self {
            *cookie = baked.to_vec();
        }
        self
    }

    /// The datagram that answers a request for `name`.
    ///
    /// # Panics
    /// Where an extended answer breaks its documented bounds.
    pub fn encode(&self, name: &Name) -> Vec<u8> {
        let mut out = name.as_str().as_bytes().to_vec();
        let Self::Extended { host, boot, client, server, verdict, reason, data, cookie, server_port } = self else {
            return out;
        };
        let mut fields = Vec::with_capacity(16 + reason.len() + data.len());
        field::put(&mut fields, field::VERDICT, &[verdict.code()]);
        if !reason.is_empty() {
            assert!(reason.len() <= MAX_REASON, "a reason is bounded by its maker");
            field::put(&mut fields, field::REASON, reason.as_bytes());
        }
        put_data(&mut fields, data);
        put_cookie(&mut fields, cookie);
        if let Some(port) = server_port {
            field::put(&mut fields, field::SERVER_PORT, &port.to_be_bytes());
        }
        out.push(0);
        let header = Header { kind: Kind::Answer, host: *host, boot: *boot, client: *client, server: *server };
        header.write(&fields, &mut out);
        out
    }

    /// Reads a datagram that arrived on the port from which `name` was asked for.
    pub fn decode(bytes: &[u8], name: &Name) -> Result<Self, Malformed> {
        let (told, rest) = split_name(bytes)?;
        if told != *name { Err(Malformed::OtherName) } else { Self::read(rest) }
    }

    /// Reads an answer of which it is not known what was asked for: somebody else's, in a capture. A classic echo and a
    /// classic request have the same bytes; both give [`ClassicEcho`](Self::ClassicEcho).
    pub fn overhear(bytes: &[u8]) -> Result<(Name, Self), Malformed> {
        let (told, rest) = split_name(bytes)?;
        Ok((told, Self::read(rest)?))
    }

    /// What stands behind the name's NUL.
    fn read(rest: &[u8]) -> Result<Self, Malformed> {
        match Header::read(rest)? {
            None => Ok(Self::ClassicEcho),
            Some(Read::Other { version, client }) => Ok(Self::OtherVersion { version, client }),
            Some(Read::This(header, _)) if header.kind == Kind::Request => Ok(Self::Returned(header.client)),
            Some(Read::This(header, fields)) => read_answer(&header, fields),
        }
    }
}

fn read_answer(header: &Header, fields: &[u8]) -> Result<Answer, Malformed> {
    let (mut told, mut reason, mut data, mut cookie, mut server_port) =
        (None, String::new(), Vec::new(), Vec::new(), None);
    field::each(fields, |kind, value| match kind {
        field::VERDICT => match value {
            [code] => Verdict::from_code(*code).map(|verdict| told = Some(verdict)).is_some(),
            _ => false,
        },
        field::REASON => field::text(value, MAX_REASON).map(|text| reason = text.to_owned()).is_some(),
        field::DATA => read_bytes(value, MAX_DATA, &mut data),
        field::COOKIE => read_bytes(value, MAX_COOKIE, &mut cookie),
        field::SERVER_PORT => value.try_into().map(|port| server_port = Some(u16::from_be_bytes(port))).is_ok(),
        _ => true,
    })?;
    Ok(Answer::Extended {
        host: header.host,
        boot: header.boot,
        client: header.client,
        server: header.server,
        verdict: told.ok_or(Malformed::Field)?,
        reason,
        data,
        cookie,
        server_port,
    })
}

/// The bytes with which every answer to (`name`, `client`) begins, as (offset, bytes) pairs that a socket filter
/// can compare: magic, then the client's id. Drops late answers before a program could read one as an SDU.
pub fn answer_prefix(name: &Name, client: WireId) -> [(usize, Vec<u8>); 2] {
    answer_prefix_at(name.as_str().len() + 1, client)
}

/// The same for a header that begins at `start`.
pub(super) fn answer_prefix_at(start: usize, client: WireId) -> [(usize, Vec<u8>); 2] {
    [(start, header::MAGIC.to_vec()), (start + header::CLIENT_ID, client.0.to_be_bytes().to_vec())]
}

fn qos_bytes(qos: Qos) -> [u8; 9] {
    let mut bytes = [qos.cube.code(); 9];
    bytes[1..5].copy_from_slice(&qos.timeout_ms.to_be_bytes());
    bytes[5..].copy_from_slice(&qos.keepalive_ms.to_be_bytes());
    bytes
}

fn read_qos(value: &[u8]) -> Option<Qos> {
    let value: &[u8; 9] = value.try_into().ok()?;
    let number = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    Some(Qos { cube: Cube::from_code(value[0])?, timeout_ms: number(1), keepalive_ms: number(5) })
}

fn put_data(fields: &mut Vec<u8>, data: &[u8]) {
    assert!(data.len() <= MAX_DATA, "piggy-back is bounded by its maker");
    if !data.is_empty() {
        field::put(fields, field::DATA, data);
    }
}

fn put_cookie(fields: &mut Vec<u8>, cookie: &[u8]) {
    assert!(cookie.len() <= MAX_COOKIE, "cookies are bounded by their maker");
    if !cookie.is_empty() {
        field::put(fields, field::COOKIE, cookie);
    }
}

fn read_bytes(value: &[u8], longest: usize, out: &mut Vec<u8>) -> bool {
    let fits = value.len() <= longest;
    if fits {
        out.extend_from_slice(value);
    }
    fits
}
