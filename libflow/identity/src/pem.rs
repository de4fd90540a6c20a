//! Certificates in files.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Longest file of certificates that is read, bytes.
pub const MAX_PEM: usize = 1 << 20;
/// Most certificates in it.
pub const MAX_PEM_CERTIFICATES: usize = 256;

/// A file is no file of certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing of the kind in it.
    #[error("it holds no certificate; a file of certificates has parts that begin with -----BEGIN CERTIFICATE-----")]
    None,
    /// Not PEM (RFC 7468). What it holds is not repeated: it may be a secret.
    #[error("it is not PEM; is it the right file?")]
    Broken,
    /// A part is no certificate.
    #[error("its certificate number {0} is broken; make the file anew")]
    Certificate(usize),
    /// More than is read.
    #[error("it holds more than {MAX_PEM_CERTIFICATES} certificates or {MAX_PEM} bytes; name only those that matter")]
    TooMuch,
}

/// The certificates of a PEM file, in their order. Other parts are passed over.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    if pem.len() > MAX_PEM {
        return Err(PemError::TooMuch);
    }
    let mut found = Vec::new();
    for part in CertificateDer::pem_slice_iter(pem) {
        if found.len() == MAX_PEM_CERTIFICATES {
            return Err(PemError::TooMuch);
        }
        found.push(part.map_err(|_| PemError::Broken)?);
    }
    if found.is_empty() {
        return Err(PemError::None);
    }
    for (index, certificate) in found.iter().enumerate() {
        let whole = x509_parser::parse_x509_certificate(certificate).is_ok_and(|(rest, _)| rest.is_empty());
        if !whole || webpki::anchor_from_trusted_cert(certificate).is_err() {
            return Err(PemError::Certificate(index + 1));
        }
    }
    Ok(found)
}

/// Certificates as a PEM file.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let parts = certificates.iter().map(|it| pem::Pem::new("CERTIFICATE", it.as_ref()));
    parts.map(|part| pem::encode_config(&part, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))).collect()
}
