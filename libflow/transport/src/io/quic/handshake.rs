//! From a socket to a flow: two programs show each other who they are, and the accepting one lets the other in.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use identity::CertificateDer;
use noq::{
    ClientConfig, Connecting, Connection, ConnectionError, ConnectionId, Endpoint, NoneTokenStore, ServerConfig,
    TokioRuntime,
};
use proto::Name;

use super::config::{self, Options};
use super::flow::Flow;
use super::link::Link;
use super::socket::Socket;
use super::tls::{self, Credentials, Verifier};
use crate::Path;
use crate::machine::quic::binding::{Binding, first_id};
use crate::machine::quic::verdict::{HandshakeError, NONSENSE, REFUSED, failed};
use crate::machine::quic::welcome::{self, Welcome, cut};

/// The library wants a name for its records; the name that counts is checked against the certificate.
const SERVER: &str = "flowring.invalid";
/// First packets of others than the client that wait for a look.
const STRANGERS: usize = 4;
/// What a client may send before it is looked at, bytes.
const UNSEEN: u64 = 16 << 10;
/// How long a refusal is repeated to a client that does not confirm it.
const REFUSAL_WITHIN: Duration = Duration::from_secs(2);

/// What the asking side of a flow brings along.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The name that was asked for: the peer must be certified for it.
    pub name: Name,
    /// What both sides act upon (`proto::shim::Binding`).
    pub binding: Binding,
    /// Who this program is.
    pub credentials: Credentials,
    /// How the flow behaves.
    pub options: Options,
}

/// What the accepting side of a flow brings along.
#[derive(Clone, Debug)]
pub struct Accepting {
    /// What both sides act upon (`proto::shim::Binding`).
    pub binding: Binding,
    /// Who this program is: a certificate for the name that was asked for.
    pub credentials: Credentials,
    /// The client is let in by [`Shown::admit`] only; else it is welcome at once, which saves it a round trip.
    pub judged: bool,
    /// The socket is this flow's alone: once the client has shown that it is the client, datagrams may come from
    /// elsewhere, and the flow follows a client whose address changes.
    pub follow: bool,
    /// How the flow behaves.
    pub options: Options,
}

/// A handshake that has come so far that the other side is known.
struct Known {
    connection: Connection,
    endpoint: Endpoint,
    link: Arc<Link>,
    chain: Vec<CertificateDer<'static>>,
    deadline: Instant,
    options: Options,
}

/// The asking side knows whom it talks to.
pub struct Answered(Known);

/// The accepting side knows who asks.
pub struct Shown {
    known: Known,
    welcomed: bool,
}

/// Asks on `path`'s socket, which is connected to the peer, until `deadline`; who answered has the key of a certificate
/// for the name. Whether that is trusted is for the caller to find out.
pub async fn asking(path: Arc<dyn Path>, asking: Asking, deadline: Instant) -> Result<Answered, HandshakeError> {
    let Asking { name, binding, credentials, options } = asking;
    let link = Link::new(path, false).map_err(unusable_socket)?;
    let verifier = Verifier::new(Some(name));
    let mut config = ClientConfig::new(Arc::new(tls::client(&credentials, verifier.clone(), &binding)?));
    let id = ConnectionId::new(&first_id(&binding));
    config
        .initial_dst_cid_provider(Arc::new(move || id))
        .transport_config(config::transport(&options, &link))
        .token_store(Arc::new(NoneTokenStore));
    let endpoint = endpoint(&link, None)?;
    let connecting = endpoint
        .connect_with(config, link.peer(), SERVER)
        .map_err(|error| HandshakeError::Socket(error.to_string()))?;
    let connection = within(deadline, &link, connecting).await?.map_err(|error| fail(&error, &verifier, &link))?;
    let known = Known::of(connection, endpoint, link, &verifier, deadline, options)?;
    if known.link.is_directed() {
        known.link.dissolve().map_err(unusable_socket)?;
    }
    Ok(Answered(known))
}

/// Answers whoever asks on `path`'s socket, which is connected to the client, until `deadline`. The client has the key of
/// its certificate; whether it may come in is for the caller to find out, if [`Accepting::judged`].
pub async fn accepting(path: Arc<dyn Path>, accepting: Accepting, deadline: Instant) -> Result<Shown, HandshakeError> {
    let Accepting { binding, credentials, judged, follow, options } = accepting;
    let link = Link::new(path, true).map_err(unusable_socket)?;
    let verifier = Verifier::new(None);
    let mut config = ServerConfig::with_crypto(Arc::new(tls::server(&credentials, verifier.clone(), &binding)?));
    config
        .transport_config(config::transport(&options, &link))
        .migration(follow)
        .max_incoming(STRANGERS)
        .incoming_buffer_size(UNSEEN)
        .incoming_buffer_size_total(UNSEEN);
    let endpoint = endpoint(&link, Some(config))?;
    let mut strange = false;
    let id = ConnectionId::new(&first_id(&binding));
    let connecting = match within(deadline, &link, first(&endpoint, id, &mut strange)).await {
        Err(HandshakeError::Silent) if strange => return Err(HandshakeError::Changed),
        other => other?.map_err(|error| fail(&error, &verifier, &link))?,
    };
    // Whoever else sends a first packet gets no answer.
    link.hush();
    let Ok((connection, finished)) = connecting.into_0rtt() else {
        return Err(HandshakeError::Protocol("it has no keys".to_owned()));
    };
    link.carries(&connection);
    let both = async {
        let welcome = async {
            if !judged {
                say(&connection, &Welcome::ComeIn).await?;
            }
            Ok(())
        };
        tokio::join!(finished, welcome).1
    };
    let welcomed: Result<(), ConnectionError> = within(deadline, &link, both).await?;
    welcomed.map_err(|error| fail(&error, &verifier, &link))?;
    if let Some(error) = connection.close_reason() {
        return Err(fail(&error, &verifier, &link));
    }
    if follow {
        link.dissolve().map_err(unusable_socket)?;
    }
    let known = Known::of(connection, endpoint, link, &verifier, deadline, options)?;
    Ok(Shown { known, welcomed: !judged })
}

impl Known {
    fn of(
        connection: Connection,
        endpoint: Endpoint,
        link: Arc<Link>,
        verifier: &Verifier,
        deadline: Instant,
        options: Options,
    ) -> Result<Self, HandshakeError> {
        if let Some(error) = connection.close_reason() {
            return Err(fail(&error, verifier, &link));
        }
        link.carries(&connection);
        let chain = connection.peer_identity().and_then(|it| it.downcast::<Vec<CertificateDer<'static>>>().ok());
        // The verifiers take no handshake without.
        let chain = *chain.ok_or_else(|| HandshakeError::Protocol("it shows no identity".to_owned()))?;
        Ok(Self { connection, endpoint, link, chain, deadline, options })
    }

    fn into_flow(self) -> Flow {
        Flow::new(self.connection, self.endpoint, self.link, self.options.close_within)
    }

    /// Says no, and sees that it is heard.
    async fn refuse(self, words: &str) {
        self.connection.close(REFUSED, cut(words).as_bytes());
        let _ = tokio::time::timeout(REFUSAL_WITHIN, self.endpoint.wait_all_draining()).await;
    }
}

impl Answered {
    /// Certificates of who answered, DER, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Waits until the peer lets this side in.
    pub async fn admitted(self) -> Result<Flow, HandshakeError> {
        let known = &self.0;
        let heard = async {
            let mut stream = known.connection.accept_uni().await.map_err(Deaf::Gone)?;
            stream.read_to_end(welcome::MAX).await.map_err(Deaf::Read)
        };
        match within(known.deadline, &known.link, heard).await? {
            Ok(bytes) => match Welcome::decode(&bytes) {
                Ok(Welcome::ComeIn) => Ok(self.0.into_flow()),
                Ok(Welcome::Refused(words)) => Err(HandshakeError::Refused(words)),
                Err(nonsense) => {
                    known.connection.close(NONSENSE, nonsense.to_string().as_bytes());
                    Err(HandshakeError::Protocol(nonsense.to_string()))
                }
            },
            Err(deaf) => Err(deaf.say(&known.connection, &known.link)),
        }
    }

    /// Does not want to talk to who answered; says so, with reasons.
    pub async fn refuse(self, words: &str) {
        self.0.refuse(words).await;
    }
}

impl Shown {
    /// Certificates of who asks, DER, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.known.chain
    }

    /// Lets the client in.
    pub async fn admit(self) -> Result<Flow, HandshakeError> {
        let known = &self.known;
        if !self.welcomed {
            let said = within(known.deadline, &known.link, say(&known.connection, &Welcome::ComeIn)).await?;
            said.map_err(|error| failed(&error, None, known.link.is_shut()))?;
        }
        Ok(self.known.into_flow())
    }

    /// Does not let the client in; says so, with reasons, on a stream, where they are repeated until they arrive.
    pub async fn refuse(self, words: &str) {
        let known = self.known;
        if !self.welcomed {
            let refusal = Welcome::Refused(words.to_owned());
            let said = async {
                if let Ok(stream) = say(&known.connection, &refusal).await {
                    let _ = stream.stopped().await;
                }
            };
            let _ = tokio::time::timeout(REFUSAL_WITHIN, said).await;
        }
        known.refuse(words).await;
    }
}

/// Why the welcome was not heard.
enum Deaf {
    Gone(ConnectionError),
    Read(noq::ReadToEndError),
}

impl Deaf {
    fn say(self, connection: &Connection, link: &Link) -> HandshakeError {
        match (self, connection.close_reason()) {
            (Self::Gone(error), _) | (_, Some(error)) => failed(&error, None, link.is_shut()),
            (Self::Read(error), None) => {
                connection.close(NONSENSE, b"its welcome cannot be read");
                HandshakeError::Protocol(format!("its welcome cannot be read: {error}"))
            }
        }
    }
}

fn unusable_socket(error: io::Error) -> HandshakeError {
    HandshakeError::Socket(error.to_string())
}

fn fail(error: &ConnectionError, verifier: &Verifier, link: &Link) -> HandshakeError {
    failed(error, verifier.found(), link.is_shut())
}

/// The one endpoint of the socket.
fn endpoint(link: &Arc<Link>, server: Option<ServerConfig>) -> Result<Endpoint, HandshakeError> {
    let socket = Socket::new(link.clone()).map_err(unusable_socket)?;
    Endpoint::new_with_abstract_socket(config::endpoint(), server, Box::new(socket), Arc::new(TokioRuntime))
        .map_err(unusable_socket)
}

/// The client of this flow. One that means another request, or another answer to it, has another first id, and is told at
/// once; since anybody may send such a packet in the client's name, the right one is waited for (`strange`).
async fn first(endpoint: &Endpoint, id: ConnectionId, strange: &mut bool) -> Result<Connecting, ConnectionError> {
    while let Some(incoming) = endpoint.accept().await {
        if incoming.orig_dst_cid() == id {
            return incoming.accept();
        }
        *strange = true;
        incoming.refuse();
    }
    Err(ConnectionError::LocallyClosed)
}

/// Says the server's word, on its first unidirectional stream.
async fn say(connection: &Connection, word: &Welcome) -> Result<noq::SendStream, ConnectionError> {
    let mut stream = connection.open_uni().await?;
    // Shorter than any window; an error means that the connection is gone, which whoever waits on it finds.
    if stream.write_all(&word.encode()).await.is_ok() {
        let _ = stream.finish();
    }
    Ok(stream)
}

/// What `act` comes to, unless the deadline or the socket's end comes first.
async fn within<T>(deadline: Instant, link: &Link, act: impl Future<Output = T>) -> Result<T, HandshakeError> {
    tokio::select! {
        biased;
        done = act => Ok(done),
        () = link.shut() => Err(HandshakeError::SocketClosed),
        () = tokio::time::sleep_until(deadline.into()) => Err(HandshakeError::Silent),
    }
}
