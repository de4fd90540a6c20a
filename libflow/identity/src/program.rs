//! The key of one program, for as long as it runs.

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::KeyError;

/// A key that a program makes for itself and never stores: Ed25519. It is not sent anywhere; the host certifies its public
/// half ([`crate::Issuer::issue`]).
pub struct ProgramKey(KeyPair);

impl ProgramKey {
    /// A new one.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(|e| KeyError::NoRandomness(e.to_string()))
    }

    /// DER of its SubjectPublicKeyInfo, for the host to certify.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The private half, as rustls takes it.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

impl std::fmt::Debug for ProgramKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProgramKey({})", crate::Fingerprint::of_public_key(&self.public_key()))
    }
}
