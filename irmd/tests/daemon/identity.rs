//! Certificates and judgements: a real irmd, two hosts of which one is the test.
#![expect(clippy::disallowed_methods, reason = "certificates are of the clock on the wall")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::SystemTime;

use identity::{CertificateDer, HostKey, Issuer, ProgramKey, certificates, check, to_pem, vouched};
use proto::v1::{self, FailureKind};
use proto::{Name, PROTOCOL_VERSION};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair};

use super::fake::{self, Fake};
use super::stage::{Host, failure, until};

async fn certify(host: &Host, name: &str, serving: bool, key: &[u8]) -> Result<v1::CertifyReply, v1::Failure> {
    let request =
        v1::CertifyRequest { version: PROTOCOL_VERSION, name: name.into(), serving, public_key: key.to_vec() };
    failure(host.irm().certify(request).await)
}

fn chain(reply: &v1::CertifyReply) -> Vec<CertificateDer<'static>> {
    reply.chain.iter().cloned().map(CertificateDer::from).collect()
}

async fn judge(host: &Host, flow_id: u64, chain: &[CertificateDer<'_>]) -> Result<v1::JudgeReply, v1::Failure> {
    let chain = chain.iter().map(|it| it.to_vec()).collect();
    failure(host.irm().judge(v1::JudgeRequest { flow_id, chain }).await)
}

/// Another host, that certifies whatever it likes.
fn peer() -> Issuer {
    Issuer::new(HostKey::generate().unwrap()).unwrap()
}

fn shows(peer: &Issuer, name: &str) -> Vec<CertificateDer<'static>> {
    let name = Name::new(name).ok();
    peer.issue(&ProgramKey::generate().unwrap().public_key(), name.as_ref(), SystemTime::now()).unwrap().chain
}

async fn shown(host: &Host) -> v1::IdentityShowReply {
    host.admin().identity_show(v1::Empty {}).await.unwrap().into_inner()
}

async fn by_hand(host: &Host, fake: &Fake) -> tonic::Streaming<v1::AttachReply> {
    fake::serve(fake, &host.run_dir, "udp0");
    let request = fake::attach_request(&host.run_dir, "udp0", "net");
    let mut stream = host.for_ipcp().attach(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    stream
}

#[tokio::test]
async fn programs_get_certificates_of_the_hosts_key_and_others_none() {
    let host = Host::new();
    let irmd = host.start().await;
    let key = ProgramKey::generate().unwrap().public_key();
    let refused = certify(&host, "echo", true, &key).await.unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotPermitted);
    let _lease = host.lease().await;
    host.serve("echo").await;
    let reply = certify(&host, "echo", true, &key).await.unwrap();
    let now = SystemTime::now();
    let who = check(&chain(&reply), now).unwrap();
    let fingerprint = shown(&host).await.fingerprint;
    assert_eq!((who.host.to_string(), who.name), (fingerprint.clone(), Name::new("echo").ok()));
    let left = reply.not_after - now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(left > 23 * 3_600 && reply.renew_s == 8 * 3_600, "{left} s, renew after {}", reply.renew_s);
    let nameless = certify(&host, "", false, &key).await.unwrap();
    assert_eq!(check(&chain(&nameless), now).unwrap().name, None);
    for nonsense in [&b""[..], b"no key", &[0x30; 4_000]] {
        assert_eq!(certify(&host, "", false, nonsense).await.unwrap_err().kind(), FailureKind::Invalid);
    }
    // The same host after a restart.
    irmd.die();
    let _irmd = host.start().await;
    assert_eq!(shown(&host).await.fingerprint, fingerprint);
}

#[tokio::test]
async fn a_host_that_was_trusted_is_remembered_over_restarts_and_a_changed_one_refused() {
    let host = Host::new();
    let irmd = host.start().await;
    let attached = by_hand(&host, &Fake::default()).await;
    let (first, second) = (peer(), peer());
    let _lease = host.lease().await;
    let flow = host.alloc("far").await.unwrap().flow_id;
    let reply = judge(&host, flow, &shows(&first, "far")).await.unwrap();
    let fingerprint = first.key().fingerprint().to_string();
    assert_eq!((reply.host, reply.name.as_str(), reply.trusted_by.as_str()), (fingerprint.clone(), "far", "first use"));
    let row = host.flows().await.into_iter().find(|row| row.flow_id == flow).unwrap();
    assert_eq!(
        (row.peer_identity, row.peer_certified.as_str(), row.trusted_by.as_str()),
        (fingerprint.clone(), "far", "first use")
    );
    assert_eq!(judge(&host, flow + 1, &shows(&first, "far")).await.unwrap_err().kind(), FailureKind::NotFound);
    let many = vec![CertificateDer::from(vec![0; 4_000]); 200];
    assert_eq!(judge(&host, flow, &many).await.unwrap_err().kind(), FailureKind::Untrusted);

    drop(attached);
    irmd.die();
    let irmd = host.start().await;
    let fake = Fake::default();
    let attached = by_hand(&host, &fake).await;
    let _lease = host.lease().await;
    let flow = host.alloc("far").await.unwrap().flow_id;
    let refused = judge(&host, flow, &shows(&second, "far")).await.unwrap_err();
    assert_eq!(refused.kind(), FailureKind::Untrusted);
    let (old, new) = (fingerprint, second.key().fingerprint().to_string());
    assert!(
        refused.message.contains(&old) && refused.message.contains(&format!("irm identity trust far {new}")),
        "{refused}"
    );
    assert_eq!(judge(&host, flow, &shows(&first, "far")).await.unwrap().trusted_by, "remembered");

    // As the sentence says.
    let trust = v1::IdentityTrustRequest { name: "far".into(), identity: new };
    host.admin().identity_trust(trust).await.unwrap();
    assert_eq!(judge(&host, flow, &shows(&second, "far")).await.unwrap().trusted_by, "pin");
    drop(attached);
    irmd.die();
    let _irmd = host.start().await;
    let _attached = by_hand(&host, &fake).await;
    let _lease = host.lease().await;
    let flow = host.alloc("far").await.unwrap().flow_id;
    assert_eq!(judge(&host, flow, &shows(&second, "far")).await.unwrap().trusted_by, "pin");
    assert_eq!(judge(&host, flow, &shows(&first, "far")).await.unwrap_err().kind(), FailureKind::Untrusted);
    let export = host.admin().config_export(v1::Empty {}).await.unwrap().into_inner().toml;
    assert!(export.contains("[[trust]]\nname = \"far\""), "{export}");
}

#[tokio::test]
async fn who_is_not_allowed_is_not_let_in() {
    let host = Host::new();
    let _irmd = host.start().await;
    let _attached = by_hand(&host, &Fake::default()).await;
    let _lease = host.lease().await;
    host.serve("echo").await;
    let (friend, stranger) = (peer(), peer());
    let allow = |identity: String, remove| v1::IdentityAllowRequest { name: "echo".into(), identity, remove };
    host.admin().identity_allow(allow(friend.key().fingerprint().to_string(), false)).await.unwrap();
    let request = |cube: v1::Cube| v1::FlowReqArrRequest {
        ipcp: "udp0".into(),
        name: "echo".into(),
        token: vec![9; 16],
        handoff: "there".into(),
        deadline_ms: 5_000,
        layer: "net".into(),
        proven: true,
        qos: Some(v1::QosSpec { cube: cube.into(), ..Default::default() }),
        ..v1::FlowReqArrRequest::default()
    };
    let raw = host.flow_req_arr(request(v1::Cube::Raw)).await.unwrap_err();
    assert_eq!(
        (raw.kind(), raw.message.as_str()),
        (FailureKind::NotPermitted, "echo asks for identity: ask for a message or stream flow")
    );
    let (arrived, accepted) = tokio::join!(host.flow_req_arr(request(v1::Cube::Stream)), host.accept("echo"));
    let flow = accepted.unwrap();
    assert!(flow.judged && arrived.is_ok());
    let reply = judge(&host, flow.flow_id, &shows(&friend, "")).await.unwrap();
    assert_eq!((reply.name.as_str(), reply.trusted_by.as_str()), ("", "allowed"));
    let refused = judge(&host, flow.flow_id, &shows(&stranger, "friend")).await.unwrap_err();
    let text = format!("the host {} may not allocate flows to echo", stranger.key().fingerprint());
    assert_eq!((refused.kind(), refused.message), (FailureKind::NotPermitted, text));
    let none = judge(&host, flow.flow_id, &[]).await.unwrap_err();
    assert_eq!(none.kind(), FailureKind::Untrusted);
    assert!(host.status().await.counters["refused_allocate_remote"] >= 2);

    let missing = failure(host.admin().identity_allow(allow("ca:/nowhere.pem".into(), false)).await).unwrap_err();
    assert!(missing.kind() == FailureKind::Invalid && missing.message.contains("No such file"), "{missing}");
    host.admin().identity_allow(allow(String::new(), true)).await.unwrap();
    let (arrived, accepted) = tokio::join!(host.flow_req_arr(request(v1::Cube::Raw)), host.accept("echo"));
    assert!(arrived.is_ok() && !accepted.unwrap().judged);
}

#[tokio::test]
async fn a_ca_signs_the_host_and_the_certificate_is_shown() {
    let host = Host::new();
    let irmd = host.start().await;
    let before = shown(&host).await;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = CertificateSigningRequestParams::from_pem(&before.request).unwrap().signed_by(&ca).unwrap();
    let install = |pem: String| v1::IdentityInstallRequest { pem };
    for (pem, why) in [(ca.pem(), "is for the key SHA256:"), ("nonsense".into(), "it holds no certificate")] {
        let refused = failure(host.admin().identity_install(install(pem)).await).unwrap_err();
        assert!(refused.kind() == FailureKind::Invalid && refused.message.contains(why), "{refused}");
    }
    host.admin().identity_install(install(signed.pem())).await.unwrap();
    let key = ProgramKey::generate().unwrap().public_key();
    let issued = chain(&certify(&host, "", false, &key).await.unwrap());
    assert_eq!(vouched(&issued, &[ca.der().clone()], SystemTime::now()), Ok(()));
    irmd.die();

    let irmd = host.start().await;
    let after = shown(&host).await;
    assert_eq!(after.fingerprint, before.fingerprint);
    assert_eq!(certificates(&std::fs::read(&after.certificate_file).unwrap()).unwrap(), [signed.der().clone()]);
    assert_eq!(after.chain, [signed.der().to_vec()]);
    host.admin().identity_install(install(String::new())).await.unwrap();
    let own = shown(&host).await;
    assert_eq!((own.certificate_file.as_str(), own.chain), ("", before.chain));
    assert!(!std::path::Path::new(&after.certificate_file).exists());
    drop(irmd);
    // Trusted with names by that CA, from irmd.toml.
    std::fs::write(host.path("ca.pem"), to_pem(&[ca.der().clone()])).unwrap();
    let config = format!("[[trust]]\nname = \"f*\"\nidentities = [\"ca:{}\"]\n", host.path("ca.pem").display());
    std::fs::write(host.path("irmd.toml"), config).unwrap();
    let _irmd = host.start().await;
    let _attached = by_hand(&host, &Fake::default()).await;
    let _lease = host.lease().await;
    let flow = host.alloc("far").await.unwrap().flow_id;
    let other = HostKey::generate().unwrap();
    let certificate =
        CertificateSigningRequestParams::from_pem(&other.request().unwrap()).unwrap().signed_by(&ca).unwrap();
    let peer = Issuer::certified(other, vec![certificate.der().clone()], SystemTime::now()).unwrap();
    assert_eq!(judge(&host, flow, &shows(&peer, "far")).await.unwrap().trusted_by, "ca");
}

#[tokio::test]
async fn a_host_without_its_key_does_not_start() {
    let host = Host::new();
    drop(host.start().await);
    let key = host.run_dir.path().join("state/host-key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let good = std::fs::read(&key).unwrap();
    let starts = || {
        let output = host.command().stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    std::fs::write(&key, "nonsense").unwrap();
    let said = starts();
    assert!(
        said.contains("host-key.pem cannot be used") && said.contains("remove it to become another host"),
        "{said}"
    );
    std::fs::write(&key, &good).unwrap();
    std::fs::write(host.run_dir.path().join("state/known-hosts"), "1000 echo\n").unwrap();
    assert!(starts().contains("known-hosts, line 1"), "{}", starts());
    std::fs::remove_file(host.run_dir.path().join("state/known-hosts")).unwrap();
    std::fs::write(host.path("irmd.toml"), "[[trust]]\nname = \"x\"\nidentities = [\"ca:/nowhere.pem\"]\n").unwrap();
    assert!(starts().contains("the CAs of /nowhere.pem cannot be had"), "{}", starts());
    std::fs::remove_file(host.path("irmd.toml")).unwrap();
    let _irmd = host.start().await;
    until("it serves", || async { !shown(&host).await.fingerprint.is_empty() }).await;
}
