//! Whom a target may be.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a target has to show. Whoever it is, it signs for the certificate that it shows.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    trusts: Trusts,
}

#[derive(Debug)]
enum Trusts {
    /// As `verify = false` says.
    Anybody,
    /// Whom a CA vouches for, and who shows one of these itself: those that `openssl req -x509` makes for a server are marked as a
    /// CA's, too, and rustls takes no CA for a server.
    Known(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
}

impl Verifier {
    /// Takes anybody.
    pub(super) fn anybody(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, trusts: Trusts::Anybody }
    }

    /// Takes whom a root vouches for, and who shows one of `known`. There has to be a root.
    pub(super) fn known(
        provider: Arc<CryptoProvider>,
        roots: RootCertStore,
        known: Vec<CertificateDer<'static>>,
    ) -> Result<Self, VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        Ok(Self { provider, trusts: Trusts::Known(inner, known) })
    }
}

/// Whether all that is wrong is that it is a CA's, too: its time is looked at before that.
fn is_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trusts::Known(inner, all) = &self.trusts else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(shown, chain, name, ocsp, now) {
            Err(error) if is_ca(&error) && all.iter().any(|known| known == shown) => {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
