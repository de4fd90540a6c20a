//! TLS 1.3 between two programs, both of which show who they are.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use identity::{CertificateDer, CheckError, PrivateKeyDer};
use noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use proto::Name;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};

use crate::machine::quic::binding::{Binding, protocol};
use crate::machine::quic::verdict::HandshakeError;

/// X25519MLKEM768 first (rustls' `prefer-post-quantum`). AES-128 before AES-256: a third less work for each byte, and as
/// strong as the elliptic curves beside it.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
});

/// What a program shows of its identity in handshakes, and the key that goes with it. Made once for many flows.
#[derive(Clone)]
pub struct Credentials(Arc<SingleCertAndKey>);

impl Credentials {
    /// `chain`: DER, leaf first, as irmd issued it; `key`: the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, HandshakeError> {
        let key = PROVIDER.key_provider.load_private_key(key).map_err(unusable)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(unusable)?;
        Ok(Self(Arc::new(certified.into())))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

fn unusable(error: impl fmt::Display) -> HandshakeError {
    HandshakeError::Unusable(error.to_string())
}

/// What the peer is told: rustls writes errors of others as for programmers.
struct Told(CheckError);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Told {}

/// Checks what the peer shows; remembers what was wrong with it, in identity's words.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The name that was asked for; the accepting side takes any.
    asked: Option<Name>,
    found: OnceLock<CheckError>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(asked: Option<Name>) -> Arc<Self> {
        let algorithms = PROVIDER.signature_verification_algorithms;
        Arc::new(Self { asked, found: OnceLock::new(), algorithms })
    }

    pub(super) fn found(&self) -> Option<CheckError> {
        self.found.get().cloned()
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let chain: Vec<_> = std::iter::once(leaf).chain(others).map(|it| CertificateDer::from(it.as_ref())).collect();
        let checked = identity::check(&chain, now)
            .and_then(|shown| self.asked.as_ref().map_or(Ok(()), |asked| shown.check_name(asked)));
        checked.map_err(|error| {
            let told = CertificateError::Other(OtherError(Arc::new(Told(error.clone()))));
            let _ = self.found.set(error);
            Error::InvalidCertificate(told)
        })
    }

    fn signed(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }
}

/// TLS 1.2 is not offered.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, others, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, others, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// TLS of the asking side.
pub(super) fn client(
    credentials: &Credentials,
    verifier: Arc<Verifier>,
    binding: &Binding,
) -> Result<QuicClientConfig, HandshakeError> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(credentials.0.clone());
    config.alpn_protocols = vec![protocol(binding)];
    config.enable_sni = false;
    // Each flow is one handshake, bound to its request.
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(unusable)
}

/// TLS of the accepting side.
pub(super) fn server(
    credentials: &Credentials,
    verifier: Arc<Verifier>,
    binding: &Binding,
) -> Result<QuicServerConfig, HandshakeError> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(credentials.0.clone());
    config.alpn_protocols = vec![protocol(binding)];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(unusable)
}
