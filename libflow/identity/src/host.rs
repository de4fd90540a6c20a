//! A host's key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::Fingerprint;

/// No key, or no use of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("no key can be made: {0}; is /dev/urandom there?")]
    NoRandomness(String),
    /// Some text is no Ed25519 key.
    #[error("it is no Ed25519 key in PKCS#8 PEM: {0}")]
    NotAKey(String),
    /// The cryptographic library refused.
    #[error("the key signs nothing: {0}")]
    Signing(String),
}

/// A host's key for good: Ed25519, the cheapest to sign and check with.
pub struct HostKey(KeyPair);

impl HostKey {
    /// A new one.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(|e| KeyError::NoRandomness(e.to_string()))
    }

    /// One that [`Self::to_pem`] wrote, or another program, as PKCS#8 (RFC 5958, RFC 8410) in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519);
        key.map(Self).map_err(|e| KeyError::NotAKey(e.to_string()))
    }

    /// PKCS#8 in PEM: the secret itself.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// DER of its SubjectPublicKeyInfo.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// What others know it by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_public_key(&self.public_key())
    }

    /// Its certificate, signed by itself: the same bytes each time. It may sign leafs and nothing else, and has no end
    /// (RFC 5280 §4.1.2.5).
    pub fn certificate(&self) -> Result<CertificateDer<'static>, KeyError> {
        let made = self.params().self_signed(&self.0).map_err(|e| KeyError::Signing(e.to_string()))?;
        Ok(made.der().clone())
    }

    /// A request that a CA signs a certificate for it (PKCS #10, RFC 2986), in PEM. It asks for CA:true and pathlen 0, for
    /// the host signs the leafs of its programs.
    pub fn request(&self) -> Result<String, KeyError> {
        let signing = |e: rcgen::Error| KeyError::Signing(e.to_string());
        // The CA chooses the serial number.
        let mut params = self.params();
        params.serial_number = None;
        params.serialize_request(&self.0).and_then(|request| request.pem()).map_err(signing)
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.0
    }

    fn params(&self) -> CertificateParams {
        let fingerprint = self.fingerprint();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // Each host another subject: so are paths found where somebody trusts several.
        params.distinguished_name.push(DnType::CommonName, format!("Flowring {fingerprint}"));
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after =
            x509_parser::time::ASN1Time::from_timestamp(NO_END).map_or(params.not_after, |at| at.to_datetime());
        params.serial_number = Some(serial(&fingerprint.0));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }
}

/// 99991231235959Z.
const NO_END: i64 = 253_402_300_799;

/// A serial number of 16 bytes, positive as RFC 5280 §4.1.2.2 has it.
pub(crate) fn serial(hash: &[u8; 32]) -> SerialNumber {
    let mut bytes = hash[..16].to_vec();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from(bytes)
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}
