//! Chains of certificates as hosts make them, as organisations do, and as nobody should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{
    CertificateDer, CheckError, HostKey, InstallError, IssueError, Issuer, MAX_CERTIFICATES, ProgramKey, Whose,
    certificates, check, to_pem, vouched,
};
use proptest::prelude::*;
use proto::Name;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// 2026-11-21 10:31:09 UTC.
const NOW: u64 = 1_795_257_069;
const HOUR: u64 = 3_600;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn host() -> Issuer {
    Issuer::new(HostKey::generate().unwrap()).unwrap()
}

fn leaf(host: &Issuer, called: Option<&str>) -> Vec<CertificateDer<'static>> {
    let key = ProgramKey::generate().unwrap();
    host.issue(&key.public_key(), called.map(name).as_ref(), at(NOW)).unwrap().chain
}

/// An organisation's CA, as openssl would make it.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(called: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, called);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(
            CertifiedIssuer::self_signed(params, KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
                .unwrap(),
        )
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Signs a host's request, from and until these times.
    fn sign(&self, request: &str, from: u64, until: u64) -> CertificateDer<'static> {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        request.params.not_before = at(from).into();
        request.params.not_after = at(until).into();
        request.signed_by(&self.0).unwrap().der().clone()
    }
}

fn certified(ca: &Ca, until: u64) -> Issuer {
    let key = HostKey::generate().unwrap();
    let certificate = ca.sign(&key.request().unwrap(), NOW - HOUR, until);
    Issuer::certified(key, vec![certificate], at(NOW)).unwrap()
}

#[test]
fn what_a_host_issues_is_taken() {
    let host = host();
    for called in [Some("echo"), Some("flöte/1%"), None] {
        let shown = check(&leaf(&host, called), at(NOW)).unwrap();
        assert_eq!((shown.host, shown.name.as_ref().map(Name::as_str)), (host.key().fingerprint(), called));
    }
    let longest = "ü".repeat(127);
    assert_eq!(check(&leaf(&host, Some(&longest)), at(NOW)).unwrap().name, Some(name(&longest)));
}

#[test]
fn a_host_is_the_same_after_a_restart() {
    let key = HostKey::generate().unwrap();
    let again = HostKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!((key.fingerprint(), key.certificate()), (again.fingerprint(), again.certificate()));
    assert!(HostKey::from_pem("").is_err());
    assert!(HostKey::from_pem(&KeyPair::generate().unwrap().serialize_pem()).is_err(), "P-256 is no host's key");
    let certificate = again.certificate().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert_eq!(parsed.validity().not_after.timestamp(), 253_402_300_799);
    assert_eq!(parsed.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));
}

#[test]
fn a_fingerprint_stays_when_a_ca_signs() {
    let ca = Ca::new("CA");
    let host = certified(&ca, NOW + 1_000 * HOUR);
    let own = Issuer::new(HostKey::from_pem(&host.key().to_pem()).unwrap()).unwrap();
    let (by_ca, by_itself) = (leaf(&host, Some("echo")), leaf(&own, Some("echo")));
    assert_eq!(check(&by_ca, at(NOW)), check(&by_itself, at(NOW)));
    assert_eq!(vouched(&by_ca, &[ca.certificate()], at(NOW)), Ok(()));
    assert!(matches!(vouched(&by_itself, &[ca.certificate()], at(NOW)), Err(CheckError::NotVouched(_))));
}

#[test]
fn a_ca_that_is_not_trusted_vouches_for_nobody() {
    let (ca, other, namesake) = (Ca::new("CA"), Ca::new("Other"), Ca::new("CA"));
    let chain = leaf(&certified(&ca, NOW + HOUR), Some("echo"));
    assert_eq!(vouched(&chain, &[other.certificate(), ca.certificate()], at(NOW)), Ok(()));
    for cas in [vec![], vec![other.certificate()]] {
        let said = vouched(&chain, &cas, at(NOW)).unwrap_err().to_string();
        assert_eq!(said, "none of the CAs trusted with it stands behind the certificate of its host");
    }
    assert!(vouched(&chain, &[namesake.certificate()], at(NOW)).is_err(), "a name is no key");
}

#[test]
fn a_ca_may_stand_behind_another() {
    let root = Ca::new("Root");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let middle = Ca(CertifiedIssuer::signed_by(params, key, &root.0).unwrap());
    let key = HostKey::generate().unwrap();
    let certificate = middle.sign(&key.request().unwrap(), NOW - HOUR, NOW + HOUR);
    let host = Issuer::certified(key, vec![certificate, middle.certificate()], at(NOW)).unwrap();
    let chain = leaf(&host, None);
    assert_eq!(chain.len(), 3);
    assert!(check(&chain, at(NOW)).is_ok());
    assert_eq!(vouched(&chain, &[root.certificate()], at(NOW)), Ok(()));
    assert!(vouched(&chain[..2], &[root.certificate()], at(NOW)).is_err(), "the middle one is missing");
}

#[test]
fn times_are_told_exactly() {
    let chain = leaf(&host(), Some("echo"));
    for good in [NOW - 2 * HOUR, NOW, NOW + 24 * HOUR] {
        assert!(check(&chain, at(good)).is_ok(), "{good}");
    }
    let said = |now| check(&chain, at(now)).unwrap_err().to_string();
    assert_eq!(
        said(NOW + 24 * HOUR + 1),
        "its certificate ended at 2026-11-22 10:31:09 UTC, and this host's clock says 2026-11-22 10:31:10 UTC; set the clock \
         that is wrong, here or there, or renew the certificate"
    );
    assert_eq!(
        said(NOW - 2 * HOUR - 1),
        "its certificate begins at 2026-11-21 08:31:09 UTC, and this host's clock says 2026-11-21 08:31:08 UTC; set the \
         clock that is wrong, here or there"
    );
    let ca = Ca::new("CA");
    let chain = leaf(&certified(&ca, NOW + HOUR), Some("echo"));
    assert!(check(&chain, at(NOW + 2 * HOUR)).is_ok(), "a pinned key does not end with a CA's signature");
    let late = vouched(&chain, &[ca.certificate()], at(NOW + 2 * HOUR)).unwrap_err();
    assert!(matches!(late, CheckError::Expired { whose: Whose::Host, .. }), "{late}");
    assert!(matches!(
        vouched(&chain, &[ca.certificate()], at(NOW - 90 * 60)).unwrap_err(),
        CheckError::NotYet { whose: Whose::Host, .. }
    ));
}

#[test]
fn only_whole_chains_are_taken() {
    let (ours, theirs) = (host(), host());
    let (chain, other) = (leaf(&ours, Some("echo")), leaf(&theirs, Some("echo")));
    let said = |chain: &[CertificateDer<'static>]| check(chain, at(NOW)).unwrap_err().to_string();
    assert_eq!(said(&[]), "it shows no identity; the program there needs an irmd that certifies it");
    assert_eq!(said(&chain[..1]), "its certificate number 1 is broken: it comes without its host's");
    let mixed = [chain[0].clone(), other[1].clone()];
    assert_eq!(
        said(&mixed),
        format!("its certificate is not signed by the host {} that it names", theirs.key().fingerprint())
    );
    let swapped = [chain[1].clone(), chain[0].clone()];
    assert!(said(&swapped).contains("number 2 is broken: a host's is one of a CA"), "{}", said(&swapped));
    let host_alone = [chain[1].clone(), chain[1].clone()];
    assert!(said(&host_alone).contains("CaUsedAsEndEntity"), "{}", said(&host_alone));
    let many = vec![chain[1].clone(); MAX_CERTIFICATES + 1];
    assert!(said(&many).starts_with("it shows 7 certificates of"), "{}", said(&many));
    let huge = [chain[0].clone(), chain[1].clone(), CertificateDer::from(vec![0; 16 * 1024])];
    assert!(said(&huge).starts_with("it shows 3 certificates of"), "{}", said(&huge));
    let trailing = [CertificateDer::from([chain[0].as_ref(), b"x"].concat()), chain[1].clone()];
    assert_eq!(said(&trailing), "its certificate number 1 is broken: something follows it");
}

#[test]
fn a_program_certifies_nobody() {
    // A program that holds a leaf signs another program's, and shows its own as the host's.
    let host = host();
    let program = HostKey::generate().unwrap();
    let shown = host.issue(&program.public_key(), Some(&name("echo")), at(NOW)).unwrap().chain;
    let forged = leaf(&Issuer::new(program).unwrap(), Some("bank"));
    let chain = [forged[0].clone(), shown[0].clone(), shown[1].clone()];
    assert!(matches!(check(&chain, at(NOW)), Err(CheckError::Broken { which: 2, .. })));
}

#[test]
fn other_names_are_not_the_one_asked_for() {
    let host = host();
    let shown = check(&leaf(&host, Some("echo")), at(NOW)).unwrap();
    assert_eq!(shown.check_name(&name("echo")), Ok(()));
    let said = shown.check_name(&name("bank")).unwrap_err().to_string();
    assert_eq!(said, "it is certified for echo, not for bank; is the name registered for the right host?");
    let said = check(&leaf(&host, None), at(NOW)).unwrap().check_name(&name("bank")).unwrap_err().to_string();
    assert_eq!(said, "it is certified for no name, not for bank; is the name registered for the right host?");
}

/// A leaf of the host's with something else in it.
fn odd_leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    let key = HostKey::generate().unwrap();
    let certificate = key.certificate().unwrap();
    let signer = rcgen::Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(&key.to_pem()).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    change(&mut params);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &signer).unwrap();
    vec![leaf.der().clone(), certificate]
}

#[test]
fn leafs_say_one_flow_uri_or_nothing() {
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    let table: [(Vec<rcgen::SanType>, bool); 7] = [
        (vec![], true),
        (vec![uri("flow:echo")], true),
        (vec![uri("flow:echo"), uri("flow:bank")], false),
        (vec![uri("flow:echo"), rcgen::SanType::DnsName("echo".try_into().unwrap())], false),
        (vec![rcgen::SanType::DnsName("echo".try_into().unwrap())], false),
        (vec![uri("https://echo/")], false),
        (vec![uri("flow:%65cho")], false),
    ];
    for (names, good) in table {
        let chain = odd_leaf(|params| params.subject_alt_names = names.clone());
        assert_eq!(check(&chain, at(NOW)).is_ok(), good, "{names:?}");
    }
    let critical = odd_leaf(|params| {
        let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions = vec![unknown];
    });
    assert!(matches!(check(&critical, at(NOW)), Err(CheckError::Broken { which: 1, .. })));
}

#[test]
fn only_keys_are_certified() {
    let host = host();
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&p256);
    assert!(check(&host.issue(&spki, None, at(NOW)).unwrap().chain, at(NOW)).is_ok());
    let p384 =
        rcgen::PublicKeyData::subject_public_key_info(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    for nonsense in [&b""[..], b"key", &[0x30; 300], &p384] {
        assert!(matches!(host.issue(nonsense, None, at(NOW)), Err(IssueError::NotAKey(_))));
    }
    let end = at(253_402_300_799);
    assert!(matches!(host.issue(&spki, None, end), Err(IssueError::Clock)));
}

#[test]
fn only_certificates_of_the_key_are_installed() {
    let ca = Ca::new("CA");
    let (key, other) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
    let fingerprint = key.fingerprint();
    let refused = |chain: Vec<CertificateDer<'static>>| {
        let again = HostKey::from_pem(&key.to_pem()).unwrap();
        Issuer::certified(again, chain, at(NOW)).unwrap_err()
    };
    assert_eq!(refused(vec![]), InstallError::Count(0));
    let theirs = ca.sign(&other.request().unwrap(), NOW, NOW + HOUR);
    let want = InstallError::OtherKey { own: fingerprint, found: other.fingerprint() };
    assert_eq!(refused(vec![theirs]), want);
    let ours = ca.sign(&key.request().unwrap(), NOW, NOW + HOUR);
    let long = CertificateDer::from(vec![0; 20_000]);
    assert!(matches!(refused(vec![ours, long]), InstallError::TooLong(_)));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    let pair = KeyPair::from_pem(&key.to_pem()).unwrap();
    let no_ca = params.signed_by(&pair, &ca.0).unwrap().der().clone();
    let said = refused(vec![no_ca]).to_string();
    assert!(said.contains("one of a CA (CA:true)"), "{said}");
}

#[test]
fn certificates_in_files() {
    let ca = Ca::new("CA");
    let both = [ca.certificate(), Ca::new("Other").certificate()];
    let text = to_pem(&both);
    assert_eq!(certificates(text.as_bytes()).unwrap(), both);
    assert_eq!(text.replace('\r', ""), text);
    let with_key = format!("{}{text}", KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(certificates(with_key.as_bytes()).unwrap(), both);
    for nonsense in
        ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &text[..text.len() / 3]]
    {
        assert!(certificates(nonsense.as_bytes()).is_err(), "{nonsense}");
    }
    assert!(certificates(text.repeat(200).as_bytes()).is_err());
    assert!(certificates(&vec![b'\n'; (1 << 20) + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_leaf_with_one_bit_changed_is_nobodys(byte in 0usize..4_096, bit in 0u8..8) {
        let mut chain = leaf(&host(), Some("echo"));
        let mut der = chain[0].to_vec();
        let byte = byte % der.len();
        der[byte] ^= 1 << bit;
        chain[0] = CertificateDer::from(der);
        prop_assert!(check(&chain, at(NOW)).is_err(), "byte {}", byte);
    }

    #[test]
    fn a_host_with_one_bit_changed_is_the_same_or_none(byte in 0usize..4_096, bit in 0u8..8) {
        let host = host();
        let mut chain = leaf(&host, Some("echo"));
        let mut der = chain[1].to_vec();
        let byte = byte % der.len();
        der[byte] ^= 1 << bit;
        chain[1] = CertificateDer::from(der);
        if let Ok(shown) = check(&chain, at(NOW)) {
            prop_assert_eq!(shown.host, host.key().fingerprint());
        }
        prop_assert!(vouched(&chain, &[Ca::new("CA").certificate()], at(NOW)).is_err());
    }

    #[test]
    fn bytes_are_no_chain(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let chain: Vec<_> = parts.into_iter().map(CertificateDer::from).collect();
        prop_assert!(check(&chain, at(NOW)).is_err());
        prop_assert!(vouched(&chain, &[], at(NOW)).is_err());
    }
}

/// What an administrator does with openssl, step by step as docs/security.md says.
#[test]
fn openssl_signs_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| std::process::Command::new("openssl").args(args).current_dir(folder.path()).output();
    if openssl(&["version"]).is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip this case, but openssl is not installed");
        eprintln!("SKIPPED: openssl is not installed; apt install openssl");
        return;
    }
    let run = |args: &[&str]| {
        let done = openssl(args).unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = HostKey::generate().unwrap();
    std::fs::write(folder.path().join("host.csr"), key.request().unwrap()).unwrap();
    let subject = ["-subj", "/O=Example/CN=Flows", "-days", "2"];
    let ca = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem"];
    run(&[&ca[..], &subject].concat());
    let sign = ["x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&sign[..], &["-copy_extensions", "copyall", "-days", "1", "-out", "host.pem"]].concat());
    let read = |file: &str| certificates(&std::fs::read(folder.path().join(file)).unwrap()).unwrap();
    // openssl used the machine's clock.
    #[expect(clippy::disallowed_methods, reason = "a test that joins another program's clock")]
    let now = SystemTime::now();
    let fingerprint = key.fingerprint();
    let host = Issuer::certified(key, read("host.pem"), now).unwrap();
    let chain = host.issue(&ProgramKey::generate().unwrap().public_key(), Some(&name("echo")), now).unwrap().chain;
    assert_eq!(check(&chain, now).unwrap().host, fingerprint);
    assert_eq!(vouched(&chain, &read("ca.pem"), now), Ok(()));

    run(&["genpkey", "-algorithm", "ed25519", "-out", "made.key"]);
    let made = std::fs::read_to_string(folder.path().join("made.key")).unwrap();
    assert!(HostKey::from_pem(&made).is_ok(), "openssl's Ed25519 keys serve as well");
}
