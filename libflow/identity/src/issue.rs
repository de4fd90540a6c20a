//! What a host signs for its programs.

use std::time::{Duration, SystemTime};

use proto::Name;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer as Signer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::time::ASN1Time;

use crate::check::{CheckError, MAX_CERTIFICATES, MAX_CHAIN, check, host_key_of};
use crate::host::serial;
use crate::when::signed;
use crate::{Fingerprint, HostKey, KeyError, ProgramKey, name_uri};

/// How long a leaf is valid from when it is issued.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// It is valid since that long before, for hosts whose clocks are behind.
pub const BACKDATED: Duration = Duration::from_secs(2 * 3_600);
/// A program asks for the next one after that long.
pub const RENEWED_AFTER: Duration = Duration::from_secs(8 * 3_600);
/// Longest public key that is certified, DER of a SubjectPublicKeyInfo, bytes.
pub const MAX_PUBLIC_KEY: usize = 256;

/// What others add to a chain before it is too long: a leaf with the longest name.
const LEAF_ROOM: usize = 2 * 1024;

/// A host that certifies its programs: its key, and the certificate it shows for itself.
pub struct Issuer {
    key: HostKey,
    signer: Signer<'static, KeyPair>,
    /// The host's certificate and those that vouch for it.
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate for a program.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What the program shows: the leaf, the host's certificate, those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Until when the leaf is valid, seconds since 1970.
    pub not_after: u64,
}

/// No certificate for a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// What was shown is no key that certificates are made for.
    #[error("what is to be certified is no public key of Ed25519 or ECDSA P-256: {0}")]
    NotAKey(String),
    /// The host's clock is beyond what certificates can say.
    #[error("this host's clock says a time that no certificate can say; set it")]
    Clock,
    /// The key signed nothing.
    #[error("the host's key signs nothing: {0}")]
    Signing(String),
}

/// A certificate of a CA does not go with the host's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// It is for another key.
    #[error(
        "the first certificate is for the key {found}, and this host's is {own}; have irm identity show --request signed"
    )]
    OtherKey {
        /// This host's.
        own: Fingerprint,
        /// The certificate's.
        found: Fingerprint,
    },
    /// There is none, or too much of it.
    #[error("{0} certificates cannot be shown; install one to {most}, the host's first", most = MAX_CERTIFICATES - 1)]
    Count(usize),
    /// They are too long to be shown in a handshake.
    #[error("certificates of {0} bytes are too long for a handshake; install {most} at most", most = MAX_CHAIN - LEAF_ROOM)]
    TooLong(usize),
    /// Peers would refuse what this host signs with it.
    #[error("no peer would take it: {0}")]
    Unusable(CheckError),
    /// The key signs nothing.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nothing can be issued with it.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Issuer {
    /// A host whose certificate is signed by itself.
    pub fn new(key: HostKey) -> Result<Self, KeyError> {
        let certificate = key.certificate()?;
        let signer = signer(&key, &certificate)?;
        Ok(Self { key, signer, chain: vec![certificate] })
    }

    /// A host whose certificate a CA signed: that certificate, then those that lead to the CA. What peers would refuse is
    /// refused here; `now` is this host's clock.
    pub fn certified(key: HostKey, chain: Vec<CertificateDer<'static>>, now: SystemTime) -> Result<Self, InstallError> {
        let signer = Self::tried(&key, &chain, now)?;
        Ok(Self { key, signer, chain })
    }

    fn tried(
        key: &HostKey,
        chain: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<Signer<'static, KeyPair>, InstallError> {
        if !(1..MAX_CERTIFICATES).contains(&chain.len()) {
            return Err(InstallError::Count(chain.len()));
        }
        let bytes = chain.iter().map(|it| it.len()).sum();
        if bytes > MAX_CHAIN - LEAF_ROOM {
            return Err(InstallError::TooLong(bytes));
        }
        let (own, found) = (key.fingerprint(), host_key_of(&chain[0]).map_err(InstallError::Unusable)?);
        if found != own {
            return Err(InstallError::OtherKey { own, found });
        }
        let signer = signer(key, &chain[0])?;
        let leaf = leaf(&signer, &ProgramKey::generate()?.public_key(), None, now)?;
        let shown: Vec<_> = std::iter::once(leaf.0).chain(chain.iter().cloned()).collect();
        check(&shown, now).map_err(InstallError::Unusable)?;
        Ok(signer)
    }

    /// The host's key.
    pub fn key(&self) -> &HostKey {
        &self.key
    }

    /// The host's certificate and those that vouch for it.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Certifies a program's key (DER of a SubjectPublicKeyInfo, Ed25519 or P-256): that it runs on this host, and that
    /// it speaks for `name`, if one is given. Whether it may is for the caller to know.
    pub fn issue(&self, public_key: &[u8], name: Option<&Name>, now: SystemTime) -> Result<Issued, IssueError> {
        let (leaf, not_after) = leaf(&self.signer, public_key, name, now)?;
        Ok(Issued { chain: std::iter::once(leaf).chain(self.chain.iter().cloned()).collect(), not_after })
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("key", &self.key).field("certificates", &self.chain.len()).finish()
    }
}

/// The key with the subject that its certificate has: leafs name it as their issuer.
fn signer(key: &HostKey, certificate: &CertificateDer<'_>) -> Result<Signer<'static, KeyPair>, KeyError> {
    let again = HostKey::from_pem(&key.to_pem())?;
    Signer::from_ca_cert_der(certificate, again.into_pair()).map_err(|e| KeyError::Signing(e.to_string()))
}

fn leaf(
    signer: &Signer<'static, KeyPair>,
    public_key: &[u8],
    name: Option<&Name>,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, u64), IssueError> {
    if public_key.len() > MAX_PUBLIC_KEY {
        return Err(IssueError::NotAKey(format!("it has {} bytes", public_key.len())));
    }
    let key = SubjectPublicKeyInfo::from_der(public_key).map_err(|e| IssueError::NotAKey(e.to_string()))?;
    if ![&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256].contains(&key.algorithm()) {
        return Err(IssueError::NotAKey("it is of another kind".to_owned()));
    }
    let seconds = |of: Duration| i64::try_from(of.as_secs()).unwrap_or(0);
    let now = signed(now);
    let (from, until) = (now.saturating_sub(seconds(BACKDATED)).max(0), now.saturating_add(seconds(LIFETIME)));
    let moment = |at| ASN1Time::from_timestamp(at).map(|at| at.to_datetime()).map_err(|_| IssueError::Clock);

    let mut params = CertificateParams::default();
    params.not_before = moment(from)?;
    params.not_after = moment(until)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Flowring program");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let uri = name.map(name_uri).unwrap_or_default();
    if name.is_some() {
        let text = uri.as_str().try_into().map_err(|e: rcgen::Error| IssueError::Signing(e.to_string()))?;
        params.subject_alt_names.push(SanType::URI(text));
    }
    let mut hash = Sha256::new();
    hash.update(public_key);
    hash.update(until.to_be_bytes());
    hash.update(uri.as_bytes());
    params.serial_number = Some(serial(&hash.finalize().into()));
    let made = params.signed_by(&key, signer).map_err(|e| IssueError::Signing(e.to_string()))?;
    Ok((made.der().clone(), u64::try_from(until).unwrap_or(0)))
}
