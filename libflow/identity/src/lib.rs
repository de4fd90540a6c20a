//! Who a host is: its key, the certificates it issues to the programs that serve names on it, and how they are checked.
//!
//! A host has one Ed25519 key for good ([`HostKey`]); its [`Fingerprint`] is what people compare and pin. The host signs
//! short-lived certificates for keys that programs make and never store ([`ProgramKey`], [`Issuer::issue`]). What a program
//! shows in a handshake is a chain, DER of RFC 5280, leaf first:
//!
//! 1. the leaf: the program's key, and the name its host vouches for as the URI `flow:NAME` ([`name_uri`]), or no name;
//! 2. the host's certificate: signed by itself, or by the CA of an organisation;
//! 3. those that lead from it to the CA, if any.
//!
//! [`check()`] says whose chain it is, [`vouched`] whether a CA stands behind it. Whether it is trusted is not decided here.
//! Nothing here reads a clock or a file; keys are drawn from the operating system.

mod check;
mod fingerprint;
mod host;
mod issue;
mod pem;
mod program;
mod uri;
mod when;

pub use check::{CheckError, MAX_CERTIFICATES, MAX_CHAIN, Shown, Whose, check, vouched};
pub use fingerprint::{BadFingerprint, Fingerprint};
pub use host::{HostKey, KeyError};
pub use issue::{BACKDATED, InstallError, IssueError, Issued, Issuer, LIFETIME, MAX_PUBLIC_KEY, RENEWED_AFTER};
pub use pem::{MAX_PEM, MAX_PEM_CERTIFICATES, PemError, certificates, to_pem};
pub use program::ProgramKey;
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};
pub use uri::{name_uri, uri_name};
pub use when::{moment, unix};
