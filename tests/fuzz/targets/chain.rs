//! What a peer shows of itself, as any bytes: chains of certificates, and what administrators name as keys and CAs. No
//! panic; whatever is taken is the known host's, and no CA stands behind it.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{
    CertificateDer, Fingerprint, HostKey, Issuer, ProgramKey, certificates, check, to_pem, uri_name, vouched,
};
use libfuzzer_sys::fuzz_target;
use proto::Name;

struct Known {
    host: Fingerprint,
    chain: Vec<CertificateDer<'static>>,
    other: CertificateDer<'static>,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_257_069)
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let key = HostKey::generate().expect("a key");
    let (host, name) = (key.fingerprint(), Name::new("echo").expect("a name"));
    let program = ProgramKey::generate().expect("a key").public_key();
    let issuer = Issuer::new(key).expect("a certificate");
    let chain = issuer.issue(&program, Some(&name), now()).expect("a leaf").chain;
    let other = HostKey::generate().and_then(|key| key.certificate()).expect("a certificate");
    Known { host, chain, other }
});

fuzz_target!(|bytes: &[u8]| {
    let known = &*KNOWN;
    text(bytes);
    // The known chain with some bytes changed; a changed leaf is not taken, a changed host may be.
    let mut chain = known.chain.clone();
    for change in bytes.chunks_exact(4).take(8) {
        let which = usize::from(change[0]) % chain.len();
        let mut der = chain[which].to_vec();
        let place = usize::from(u16::from_be_bytes([change[1], change[2]])) % der.len();
        der[place] = change[3];
        chain[which] = der.into();
    }
    judge(&chain);
    // A leaf of these bytes before a true host, a host of these bytes after a true leaf, both.
    let strange = CertificateDer::from(bytes.to_vec());
    judge(&[strange.clone(), known.chain[1].clone()]);
    judge(&[known.chain[0].clone(), strange.clone()]);
    let half = bytes.len() / 2;
    judge(&[bytes[..half].to_vec().into(), bytes[half..].to_vec().into()]);
    judge(&[known.chain[0].clone(), known.chain[1].clone(), strange]);
});

fn judge(chain: &[CertificateDer<'_>]) {
    let known = &*KNOWN;
    match check(chain, now()) {
        Ok(shown) => assert!(shown.host == known.host, "{shown:?} was made of nothing"),
        Err(error) => assert!(error.to_string().len() < 1_000),
    }
    assert!(vouched(chain, &[], now()).is_err());
    assert!(vouched(chain, std::slice::from_ref(&known.other), now()).is_err());
}

fn text(bytes: &[u8]) {
    if let Ok(found) = certificates(bytes) {
        assert_eq!(certificates(to_pem(&found).as_bytes()).as_ref(), Ok(&found));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = HostKey::from_pem(text);
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text);
    }
    if let Some(name) = uri_name(text) {
        assert_eq!(identity::name_uri(&name), text);
    }
}
