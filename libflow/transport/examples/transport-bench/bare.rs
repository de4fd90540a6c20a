//! The library on its own socket, with the same windows, congestion control and ciphers as a flow.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};

use identity::{CertificateDer, HostKey, PrivateKeyDer};
use noq::congestion::{Bbr3Config, ControllerFactory, CubicConfig, NewRenoConfig};
use noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use noq::{Endpoint, EndpointConfig, MtuDiscoveryConfig, TransportConfig};
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use transport::Congestion;

/// The ciphers of a flow.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
});

/// A self-signed certificate and its key. What it is good for is not what is measured.
pub(crate) struct Own {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Own {
    pub(crate) fn new() -> Self {
        let key = HostKey::generate().expect("a key");
        let certificate = key.certificate().expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes()).expect("a key");
        Self { certificate, key }
    }
}

pub(crate) fn client_tls() -> rustls::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    tls.alpn_protocols = vec![b"bench".to_vec()];
    tls
}

pub(crate) fn server_tls(own: &Own) -> rustls::ServerConfig {
    let mut tls = rustls::ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![own.certificate.clone()], own.key.clone_key())
        .expect("a certificate");
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"bench".to_vec()];
    tls
}

fn transport(congestion: Congestion) -> Arc<TransportConfig> {
    let defaults = transport::quic::Options::default();
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
        Congestion::Bbr3 => Arc::new(Bbr3Config::default()),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::NewReno => Arc::new(NewRenoConfig::default()),
    };
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(1472);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(defaults.stream_window.into())
        .receive_window(defaults.flow_window.into())
        .send_window(defaults.send_window.into())
        .initial_rtt(defaults.first_rtt)
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(controller);
    Arc::new(config)
}

fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket")
}

fn endpoint(server: Option<noq::ServerConfig>) -> Endpoint {
    let runtime = noq::default_runtime().expect("a runtime");
    Endpoint::new(EndpointConfig::default(), server, socket(), runtime).expect("an endpoint")
}

pub(crate) fn server(own: &Own, congestion: Congestion) -> Endpoint {
    let tls = QuicServerConfig::try_from(server_tls(own)).expect("TLS of QUIC");
    let mut config = noq::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport(congestion));
    endpoint(Some(config))
}

pub(crate) async fn connect(to: SocketAddr, congestion: Congestion) -> noq::Connection {
    let mut config = noq::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls()).expect("TLS of QUIC")));
    config.transport_config(transport(congestion));
    endpoint(None).connect_with(config, to, "bench").expect("an address").await.expect("a connection")
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
