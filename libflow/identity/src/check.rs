//! Whose chain of certificates it is, and who vouches for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::Name;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::when::{Moment, signed};
use crate::{Fingerprint, uri_name};

/// Most certificates of a chain.
pub const MAX_CERTIFICATES: usize = 6;
/// Longest chain, bytes of DER of all certificates.
pub const MAX_CHAIN: usize = 16 * 1024;

/// Who a chain says its owner is. The handshake shows that it has the leaf's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The host.
    pub host: Fingerprint,
    /// The name that the host vouches for; a program that asks may have none.
    pub name: Option<Name>,
}

/// A chain of certificates is not taken. Said of the peer that showed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// There is none.
    #[error("it shows no identity; the program there needs an irmd that certifies it")]
    NoChain,
    /// More than is looked at.
    #[error("it shows {certificates} certificates of {bytes} bytes, more than {MAX_CERTIFICATES} or {MAX_CHAIN} bytes")]
    TooMuch {
        /// How many.
        certificates: usize,
        /// How long they are together.
        bytes: usize,
    },
    /// A certificate is none of a flow's.
    #[error("its certificate number {which} is broken: {what}")]
    Broken {
        /// Which, from 1, the leaf.
        which: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The host's key did not sign the leaf.
    #[error("its certificate is not signed by the host {host} that it names")]
    NotSigned {
        /// The host.
        host: Fingerprint,
    },
    /// A certificate is over.
    #[error(
        "{whose} certificate ended at {}, and this host's clock says {}; set the clock that is wrong, here or there, or renew the certificate",
        Moment(*.not_after), Moment(*.now)
    )]
    Expired {
        /// "its" or "its host's".
        whose: Whose,
        /// When, seconds since 1970.
        not_after: i64,
        /// This host's clock.
        now: i64,
    },
    /// A certificate has not begun.
    #[error(
        "{whose} certificate begins at {}, and this host's clock says {}; set the clock that is wrong, here or there",
        Moment(*.not_before), Moment(*.now)
    )]
    NotYet {
        /// "its" or "its host's".
        whose: Whose,
        /// When, seconds since 1970.
        not_before: i64,
        /// This host's clock.
        now: i64,
    },
    /// It is for another name, or none.
    #[error("it is certified for {}, not for {asked}; is the name registered for the right host?", shown_name(.shown))]
    OtherName {
        /// The name that was asked for.
        asked: Name,
        /// The one it shows.
        shown: Option<Name>,
    },
    /// No CA that is trusted signed its host's certificate; in brackets what else is wrong, or nothing.
    #[error("none of the CAs trusted with it stands behind the certificate of its host{0}")]
    NotVouched(String),
}

/// Whose certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The program's.
    Program,
    /// Its host's, or a CA's.
    Host,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Program => "its",
            Self::Host => "its host's",
        })
    }
}

fn shown_name(name: &Option<Name>) -> String {
    name.as_ref().map_or_else(|| "no name".to_owned(), Name::to_string)
}

impl Shown {
    /// Whether it is the name that was asked for.
    pub fn check_name(&self, asked: &Name) -> Result<(), CheckError> {
        if self.name.as_ref() == Some(asked) {
            return Ok(());
        }
        Err(CheckError::OtherName { asked: asked.clone(), shown: self.name.clone() })
    }
}

/// Whether a chain, leaf first, is well-formed and signed by the host in it, and whose it is. `now` is this host's clock.
/// Whether the host is trusted is another question.
///
/// Of the host's certificate only the key and that it may sign count here, not its own end: a key is known by its
/// fingerprint, and [`vouched`] judges the rest.
pub fn check(chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Shown, CheckError> {
    let [leaf_der, host_der, ..] = chain else {
        return Err(match chain.len() {
            0 => CheckError::NoChain,
            _ => CheckError::Broken { which: 1, what: "it comes without its host's".to_owned() },
        });
    };
    check_size(chain)?;
    let (leaf, host) = (parse(leaf_der, 1)?, host_of(host_der)?);
    let name = leaf_name(&leaf)?;
    check_leaf_time(&leaf, now)?;
    let fingerprint = Fingerprint::of_public_key(host.public_key().raw);
    let broken = |which| move |e: webpki::Error| CheckError::Broken { which, what: format!("{e:?}") };
    let anchor = anchor_from_trusted_cert(host_der).map_err(broken(2))?;
    let entity = EndEntityCert::try_from(leaf_der).map_err(broken(1))?;
    let anchors = [anchor];
    let verified =
        entity.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], time(now), KeyUsage::server_auth(), None, None);
    match verified {
        Ok(_) => Ok(Shown { host: fingerprint, name }),
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            Err(CheckError::NotSigned { host: fingerprint })
        }
        Err(error) => Err(broken(1)(error)),
    }
}

/// Whether one of the certificates `cas` stands behind the host of a chain, over those that the chain has. To be asked
/// of a chain that [`check()`] takes; `now` is this host's clock.
pub fn vouched(chain: &[CertificateDer<'_>], cas: &[CertificateDer<'_>], now: SystemTime) -> Result<(), CheckError> {
    check_size(chain)?;
    let [leaf, others @ ..] = chain else { return Err(CheckError::NoChain) };
    let entity = EndEntityCert::try_from(leaf).map_err(|e| CheckError::Broken { which: 1, what: format!("{e:?}") })?;
    let anchors: Vec<_> = cas.iter().filter_map(|ca| anchor_from_trusted_cert(ca).ok()).collect();
    let verified = entity.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        others,
        time(now),
        KeyUsage::server_auth(),
        None,
        None,
    );
    let seconds = |at: UnixTime| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    match verified {
        Ok(_) => Ok(()),
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Err(CheckError::Expired { whose: Whose::Host, not_after: seconds(not_after), now: signed(now) })
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(CheckError::NotYet { whose: Whose::Host, not_before: seconds(not_before), now: signed(now) })
        }
        Err(webpki::Error::UnknownIssuer) => Err(CheckError::NotVouched(String::new())),
        Err(error) => Err(CheckError::NotVouched(format!(" ({error:?})"))),
    }
}

/// The key of a host's certificate, which must be one that may sign.
pub(crate) fn host_key_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, CheckError> {
    Ok(Fingerprint::of_public_key(host_of(certificate)?.public_key().raw))
}

fn check_size(chain: &[CertificateDer<'_>]) -> Result<(), CheckError> {
    let (certificates, bytes) = (chain.len(), chain.iter().map(|it| it.len()).sum());
    if certificates > MAX_CERTIFICATES || bytes > MAX_CHAIN {
        return Err(CheckError::TooMuch { certificates, bytes });
    }
    Ok(())
}

fn parse<'a>(der: &'a CertificateDer<'_>, which: usize) -> Result<X509Certificate<'a>, CheckError> {
    let broken = |what: &str| CheckError::Broken { which, what: what.to_owned() };
    let (rest, found) = x509_parser::parse_x509_certificate(der).map_err(|_| broken("it is no X.509 certificate"))?;
    if !rest.is_empty() {
        return Err(broken("something follows it"));
    }
    Ok(found)
}

/// A host's certificate: a CA's, whose key may sign certificates.
fn host_of<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CheckError> {
    let broken = |what: &str| CheckError::Broken { which: 2, what: what.to_owned() };
    let host = parse(der, 2)?;
    let constraints = host.basic_constraints().map_err(|_| broken("its basic constraints are none"))?;
    if !constraints.is_some_and(|it| it.value.ca) {
        return Err(broken("a host's is one of a CA (CA:true), which signs those of its programs"));
    }
    let usage = host.key_usage().map_err(|_| broken("its key usage is none"))?;
    if usage.is_some_and(|it| !it.value.key_cert_sign()) {
        return Err(broken("its key may not sign certificates (keyCertSign)"));
    }
    Ok(host)
}

/// The one name of a leaf: none without alternative names, else exactly one URI that is a flow's.
fn leaf_name(leaf: &X509Certificate<'_>) -> Result<Option<Name>, CheckError> {
    let broken = |what: &str| CheckError::Broken { which: 1, what: what.to_owned() };
    let names = leaf.subject_alternative_name().map_err(|_| broken("its alternative names are none"))?;
    let Some(names) = names else { return Ok(None) };
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri_name(uri).map(Some).ok_or_else(|| broken("its URI is not one of a flow's name")),
        _ => Err(broken("it has other names than the one URI of a flow's name")),
    }
}

fn check_leaf_time(leaf: &X509Certificate<'_>, now: SystemTime) -> Result<(), CheckError> {
    let (validity, now) = (leaf.validity(), signed(now));
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if now > not_after {
        return Err(CheckError::Expired { whose: Whose::Program, not_after, now });
    }
    if now < not_before {
        return Err(CheckError::NotYet { whose: Whose::Program, not_before, now });
    }
    Ok(())
}

fn time(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
