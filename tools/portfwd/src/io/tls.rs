//! TLS of clients' connections that ends here, and of connections to targets that begins here: rustls', upon a [`Socket`].
//!
//! An end without TLS' own closing word is a cut, and told as one; a half that was ended properly leaves the other one open.

mod verify;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use self::verify::Verifier;
use super::socket::Socket;
use super::wire::{Layered, Wire};
use crate::said::end::{End, Host, Place};
use crate::said::rule::{TlsClient, TlsServer};

/// Ends TLS of clients.
pub(crate) struct Acceptor(TlsAcceptor);

/// Begins TLS with a target.
pub(crate) struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Acceptor {
    /// Reads the files.
    pub(crate) fn new(tls: &TlsServer) -> anyhow::Result<Self> {
        let chain = certificates(&tls.cert)?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| {
            anyhow!("{} holds no private key as PEM ({error}); name another in tls.key", tls.key.display())
        })?;
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be used")?;
        let builder = match &tls.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider).build();
                builder.with_client_cert_verifier(verifier.with_context(|| format!("{} cannot vouch", ca.display()))?)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| {
            let (cert, key) = (tls.cert.display(), tls.key.display());
            anyhow!(
                "the certificate {cert} and the key {key} make no server ({error}); name a pair that belongs together"
            )
        })?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with a client, which the caller gives a deadline.
    pub(crate) async fn accept(&self, socket: Socket) -> io::Result<Wire> {
        Ok(Wire::Layered(Box::new(TlsStream::from(self.0.accept(socket).await?))))
    }
}

impl Connector {
    /// Reads the files. Without a name of its own a target is asked for by its host's, or its address.
    pub(crate) fn new(tls: &TlsClient, target: &End) -> anyhow::Result<Self> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be used")?;
        let verifier = match (tls.verify, &tls.ca) {
            (false, _) => Verifier::anybody(provider()),
            (true, Some(ca)) => Verifier::known(provider(), roots(ca)?, certificates(ca)?)
                .with_context(|| format!("{} cannot vouch", ca.display()))?,
            (true, None) => {
                Verifier::known(provider(), system_roots()?, Vec::new()).context("the system's CAs cannot vouch")?
            }
        };
        let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        let name = match (&tls.sni, target) {
            (Some(name), _) => ServerName::try_from(name.clone()).map_err(|_| {
                anyhow!("{name:?} is no name that a certificate could have; write another target-tls.sni")
            })?,
            (None, End::Tcp(Place { host: Host::Named(name), .. })) => ServerName::try_from(name.clone())
                .map_err(|_| anyhow!("{name} is no name that a certificate could have; add target-tls.sni"))?,
            (None, End::Tcp(Place { host: Host::Address(address, _), .. })) => ServerName::from(*address),
            (None, End::Tcp(Place { host: Host::Zoned(there), .. })) => ServerName::from(IpAddr::from(there.0)),
            (None, End::Tcp(Place { host: Host::This, .. })) => ServerName::from(IpAddr::from([127, 0, 0, 1])),
            (None, _) => bail!("{target} has no host that a certificate could be of; add target-tls.sni"),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands with a target, which the caller gives a deadline.
    pub(crate) async fn connect(&self, socket: Socket) -> io::Result<Wire> {
        let stream = self.connector.connect(self.name.clone(), socket).await?;
        Ok(Wire::Layered(Box::new(TlsStream::from(stream))))
    }
}

impl Layered for TlsStream<Socket> {
    fn reset_at_close(&mut self) {
        self.get_ref().0.reset_at_close();
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.name).finish()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let wrong = |error| anyhow!("{} holds no certificates as PEM ({error}); name another file", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if all.is_empty() {
        bail!("{} holds no certificate as PEM; name another file", file.display());
    }
    Ok(all)
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.with_context(|| format!("a certificate in {} is of no use as a CA's", file.display()))?;
    }
    Ok(roots)
}

fn system_roots() -> anyhow::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        bail!("the system has no CAs{why}; install ca-certificates, or name a file in target-tls.ca");
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use proto::forward::Broken;

    use super::*;
    use crate::machine::cause::Cause;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["good", "other"] {
                let made = rcgen::generate_simple_self_signed(vec!["web.test".to_owned()]).unwrap();
                std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
                std::fs::write(folder.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
            }
            std::fs::write(folder.path().join("empty"), "").unwrap();
            Self { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn server(&self, client_ca: Option<&str>) -> Acceptor {
            let client_ca = client_ca.map(|ca| self.path(ca));
            Acceptor::new(&TlsServer { cert: self.path("good.pem"), key: self.path("good.key"), client_ca }).unwrap()
        }

        fn client(&self, ca: &str, sni: &str) -> Connector {
            let tls = TlsClient { verify: true, ca: Some(self.path(ca)), sni: Some(sni.to_owned()) };
            Connector::new(&tls, &"7005".parse().unwrap()).unwrap()
        }
    }

    fn pair() -> (Socket, Socket) {
        let (a, b) = UnixStream::pair().unwrap();
        let socket = |stream: UnixStream| {
            stream.set_nonblocking(true).unwrap();
            Socket::new(stream.into(), false).unwrap()
        };
        (socket(a), socket(b))
    }

    /// Both sides of a handshake.
    async fn shaken(server: &Acceptor, client: &Connector) -> (io::Result<Wire>, io::Result<Wire>) {
        let (a, b) = pair();
        tokio::join!(server.accept(a), client.connect(b))
    }

    async fn read(wire: &mut Wire) -> Result<Vec<u8>, Cause> {
        let mut buffer = [0; 100];
        let len = poll_fn(|cx| wire.poll_read(cx, &mut buffer)).await?;
        Ok(buffer[..len].to_vec())
    }

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn an_end_is_an_end_and_a_cut_is_a_cut() {
        run(async {
            let files = Files::new();
            let (server, client) = (files.server(None), files.client("good.pem", "web.test"));
            let (Ok(mut server_wire), Ok(mut client_wire)) = shaken(&server, &client).await else {
                panic!("no handshake")
            };
            client_wire.write_all(b"question").await.unwrap();
            poll_fn(|cx| client_wire.poll_finish(cx)).await.unwrap();
            assert_eq!(read(&mut server_wire).await.unwrap(), b"question");
            assert_eq!(read(&mut server_wire).await.unwrap(), b"", "its half is over");
            server_wire.write_all(b"answer").await.unwrap();
            assert_eq!(read(&mut client_wire).await.unwrap(), b"answer", "the other is not");
            drop(server_wire);
            assert_eq!(read(&mut client_wire).await.unwrap_err().broken, Broken::Truncated);
        });
    }

    #[test]
    fn who_is_not_vouched_for_is_refused() {
        run(async {
            let files = Files::new();
            for (ca, name, want) in [("other.pem", "web.test", "certificate"), ("good.pem", "mail.test", "certificate")]
            {
                let (_, client) = shaken(&files.server(None), &files.client(ca, name)).await;
                let said = client.map(|_| ()).unwrap_err().to_string();
                assert!(said.contains(want), "{said}");
            }
            let (server, _) = shaken(&files.server(Some("good.pem")), &files.client("good.pem", "web.test")).await;
            let said = server.map(|_| ()).unwrap_err().to_string();
            assert!(said.contains("sent no certificates"), "{said}");
        });
    }

    /// As `openssl req -x509` makes them: a server's certificate that may also be a CA's.
    #[test]
    fn a_certificate_that_is_named_itself_is_taken_and_no_other_of_its_kind() {
        let files = Files::new();
        for name in ["good", "other"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            std::fs::write(files.path(&format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        run(async {
            let table = [("good.pem", "web.test", None), ("good.pem", "mail.test", Some("not valid for name"))];
            for (ca, name, wrong) in table.into_iter().chain([("other.pem", "web.test", Some("invalid peer"))]) {
                let (_, client) = shaken(&files.server(None), &files.client(ca, name)).await;
                let said = client.map(|_| ()).err().map(|error| error.to_string());
                assert_eq!(said.is_some(), wrong.is_some(), "{ca} {name}: {said:?}");
                assert!(wrong.is_none_or(|wrong| said.as_ref().is_some_and(|said| said.contains(wrong))), "{said:?}");
            }
        });
    }

    #[test]
    fn files_that_are_wrong_are_named() {
        let files = Files::new();
        let server = |cert: &str, key: &str| {
            let made = Acceptor::new(&TlsServer { cert: files.path(cert), key: files.path(key), client_ca: None });
            format!("{:#}", made.unwrap_err())
        };
        let rows = [
            (server("none", "good.key"), "none holds no certificates"),
            (server("empty", "good.key"), "empty holds no certificate"),
            (server("good.pem", "empty"), "empty holds no private key"),
            (server("good.pem", "good.pem"), "good.pem holds no private key"),
            (server("good.pem", "other.key"), "make no server"),
        ];
        for (said, want) in rows {
            assert!(said.contains(want), "{said}");
        }
        let plain = TlsClient { verify: false, ca: None, sni: None };
        for (end, good) in
            [("web.test:1", true), ("10.0.0.1:1", true), ("[::1]:1", true), ("7005", true), ("unix:/a", false)]
        {
            assert_eq!(Connector::new(&plain, &end.parse().unwrap()).is_ok(), good, "{end}");
        }
    }
}
