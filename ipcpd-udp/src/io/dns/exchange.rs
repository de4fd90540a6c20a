//! One question to one name server, signed: over UDP, and over TCP where it or its answer is too long for that.
#![expect(clippy::disallowed_methods, reason = "io owns sockets")]
#![expect(clippy::disallowed_types, reason = "nobody shuts these sockets down: they are used once and closed")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_resolver::proto::rr::{Name, TSigVerifier, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::trouble_of_code;
use super::wall;
use crate::machine::directory::key::{Algorithm, Key};
use crate::machine::directory::trouble::Trouble;

/// A question is repeated after each of these.
const TRIES: [Duration; 3] = [Duration::from_millis(400), Duration::from_millis(800), Duration::from_millis(1200)];
const TCP: Duration = Duration::from_secs(3);
/// Longer ones go over TCP.
const LONGEST: usize = 1_232;
/// Clocks may differ so many seconds (RFC 8945 §10).
const FUDGE: u16 = 300;

/// The key as hickory signs with it.
pub(super) fn signer(key: &Key) -> Result<TSigner, Trouble> {
    let algorithm = match key.algorithm {
        Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
        Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
        Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
    };
    let fail = |error: String| Trouble::Key(format!("the key {} cannot be used ({error})", key.name));
    let name = Name::from_ascii(format!("{}.", key.name)).map_err(|error| fail(error.to_string()))?;
    TSigner::new(key.secret.clone(), algorithm, name, FUDGE).map_err(|error| fail(error.to_string()))
}

/// The server's answer, its signature checked. Response codes that deny what was asked are answers, too.
pub(super) async fn exchange(server: SocketAddr, mut message: Message, signer: &TSigner) -> Result<Message, Trouble> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| Trouble::Unreachable(error.to_string()))?;
    message.metadata.id = u16::from_be_bytes(id);
    let malformed = |error: String| Trouble::Malformed(error);
    let verifier = message.finalize(signer, wall()).map_err(|error| malformed(error.to_string()))?;
    let bytes = message.to_vec().map_err(|error| malformed(error.to_string()))?;
    let question = Question { id: message.id, bytes: &bytes, message: &message };
    let answer = if bytes.len() > LONGEST {
        question.over_tcp(server).await?
    } else {
        match question.over_udp(server).await? {
            (_, answer) if answer.truncation => question.over_tcp(server).await?,
            answer => answer,
        }
    };
    check(answer, verifier, signer)
}

struct Question<'a> {
    id: u16,
    bytes: &'a [u8],
    message: &'a Message,
}

type Answer = (Vec<u8>, Message);

impl Question<'_> {
    async fn over_udp(&self, server: SocketAddr) -> Result<Answer, Trouble> {
        let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((own, 0)).await.map_err(unreachable)?;
        // Then the kernel lets in only what comes from there, and says when nobody is.
        socket.connect(server).await.map_err(unreachable)?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut last = Trouble::NoAnswer;
        for wait in TRIES {
            socket.send(self.bytes).await.map_err(unreachable)?;
            match timeout(wait, self.hear(&socket, &mut buffer)).await {
                Ok(Ok(answer)) => return Ok(answer),
                // A server in mid-restart is there again a moment later.
                Ok(Err(trouble)) => {
                    last = trouble;
                    tokio::time::sleep(wait / 4).await;
                }
                Err(_) => last = Trouble::NoAnswer,
            }
        }
        Err(last)
    }

    async fn hear(&self, socket: &UdpSocket, buffer: &mut [u8]) -> Result<Answer, Trouble> {
        loop {
            let length = socket.recv(buffer).await.map_err(unreachable)?;
            // What is not the answer may be forged: the answer may still come.
            if let Ok(answer) = self.read(&buffer[..length]) {
                return Ok(answer);
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr) -> Result<Answer, Trouble> {
        let work = async {
            let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
            let length = u16::try_from(self.bytes.len()).map_err(|_| Trouble::TooMany)?;
            let framed = [&length.to_be_bytes()[..], self.bytes].concat();
            stream.write_all(&framed).await.map_err(unreachable)?;
            let length = stream.read_u16().await.map_err(unreachable)?;
            let mut answer = vec![0; length.into()];
            stream.read_exact(&mut answer).await.map_err(unreachable)?;
            self.read(&answer)
        };
        timeout(TCP, work).await.unwrap_or(Err(Trouble::NoAnswer))
    }

    fn read(&self, bytes: &[u8]) -> Result<Answer, Trouble> {
        let answer = Message::from_vec(bytes).map_err(|error| Trouble::Malformed(error.to_string()))?;
        let fits = answer.id == self.id
            && answer.message_type == MessageType::Response
            && answer.op_code == self.message.op_code
            // An error may come without the question.
            && (answer.queries.is_empty() || answer.queries == self.message.queries);
        if fits { Ok((bytes.to_vec(), answer)) } else { Err(Trouble::Malformed("it answers another question".into())) }
    }
}

fn unreachable(error: std::io::Error) -> Trouble {
    Trouble::Unreachable(error.to_string())
}

fn check((bytes, answer): Answer, verifier: Option<TSigVerifier>, signer: &TSigner) -> Result<Message, Trouble> {
    let key = || signer.signer_name().to_ascii().trim_end_matches('.').to_owned();
    if let Some(error) = answer.signature().and_then(|record| record.data.error) {
        let other = &answer.signature().map(|record| record.data.other.clone()).unwrap_or_default();
        return Err(match error {
            TsigError::BadKey => Trouble::BadKey(key()),
            TsigError::BadSig | TsigError::BadTrunc => Trouble::BadSig(key()),
            TsigError::BadTime => {
                let theirs = other.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
                Trouble::BadTime((other.len() == 6).then_some(theirs))
            }
            TsigError::Unknown(code) => Trouble::Code(code),
        });
    }
    let signed = verifier.is_some_and(|mut verifier| verifier.verify(&bytes).is_ok());
    match answer.response_code {
        _ if signed => Ok(answer),
        // A server that knows no keys at all cannot sign that it says no.
        ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::NXRRSet | ResponseCode::YXRRSet => {
            Err(Trouble::NotSigned)
        }
        code => Err(trouble_of_code(code)),
    }
}
