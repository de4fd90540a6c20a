//! Who comes in, and why not.
#![expect(clippy::disallowed_methods, reason = "tests open sockets and read the clock")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use identity::CheckError;
use proto::Name;
use transport::Over;
use transport::quic::{HandshakeError, accepting, asking};

use super::stage::{SOON, Scene, Shared, credentials, credentials_of, happens, name, now, sockets, soon};

#[tokio::test]
async fn both_sides_know_each_other() {
    let scene = Scene::new();
    let sockets = scene.sockets.clone();
    let (answered, shown) = happens(scene.hands()).await;
    let (answered, shown) = (answered.unwrap(), shown.unwrap());
    let theirs = identity::check(answered.chain(), now()).unwrap();
    assert_eq!(theirs.name, Some(name()));
    let ours = identity::check(shown.chain(), now()).unwrap();
    assert_eq!(ours.name, None);
    let (near, far) = tokio::join!(answered.admitted(), shown.admit());
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.key_exchange().as_deref(), Some("X25519MLKEM768"));
    assert_eq!(far.key_exchange(), near.key_exchange());
    assert!(sockets.iter().all(|it| it.sent.load(Ordering::Relaxed) > 1 && it.received.load(Ordering::Relaxed) > 1));
}

#[tokio::test]
async fn ipv6_carries_it_and_so_does_ipv4_in_ipv6() {
    let (near, far) = Scene::on(sockets("::1")).flow().await;
    near.send_message("six".into()).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), "six");
    let [near, far] = mapped();
    let (near, far) = Scene::on([near, far]).flow().await;
    near.send_message("four in six".into()).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), "four in six");
    far.send_message("and back".into()).await.unwrap();
    assert_eq!(happens(near.recv_message()).await.unwrap(), "and back");
}

fn mapped() -> [std::net::UdpSocket; 2] {
    let pair = [(); 2].map(|()| std::net::UdpSocket::bind("[::]:0").unwrap());
    for (one, other) in [(0, 1), (1, 0)] {
        let port = pair[other].local_addr().unwrap().port();
        pair[one].connect(format!("[::ffff:127.0.0.1]:{port}")).unwrap();
    }
    pair
}

#[tokio::test]
async fn a_judged_client_waits_for_the_word() {
    let mut scene = Scene::new();
    scene.accepting.judged = true;
    let (answered, shown) = happens(scene.hands()).await;
    let (answered, shown) = (answered.unwrap(), shown.unwrap());
    let admitted = answered.admitted();
    tokio::pin!(admitted);
    // Nothing but the server's word ends the waiting.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut admitted).await.is_err());
    let far = shown.admit().await.unwrap();
    let near = happens(admitted).await.unwrap();
    near.send_message("hello".into()).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let mut scene = Scene::new();
    scene.accepting.judged = true;
    let (answered, shown) = happens(scene.hands()).await;
    let why = "SHA256:abc is not on the list of echo";
    let (refused, ()) = happens(async { tokio::join!(answered.unwrap().admitted(), shown.unwrap().refuse(why)) }).await;
    assert_eq!(refused.unwrap_err(), HandshakeError::Refused(why.to_owned()));
}

#[tokio::test]
async fn the_asking_side_may_refuse_too() {
    let (answered, shown) = happens(Scene::new().hands()).await;
    let far = shown.unwrap().admit().await.unwrap();
    answered.unwrap().refuse("your key has changed").await;
    assert_eq!(happens(far.closed()).await, Over::Refused("your key has changed".to_owned()));
}

#[tokio::test]
async fn a_changed_request_is_noticed_by_both() {
    let mut scene = Scene::new();
    scene.asking.binding[0] ^= 1;
    let [near, far] = scene.sockets.clone();
    // The client is told at once; the server waits for the right one.
    let until = soon() - SOON + Duration::from_millis(500);
    let (asked, accepted) = happens(async {
        tokio::join!(
            asking(Arc::new(Shared(near)), scene.asking, soon()),
            accepting(Arc::new(Shared(far)), scene.accepting, until)
        )
    })
    .await;
    assert_eq!(asked.err(), Some(HandshakeError::Changed));
    assert_eq!(accepted.err(), Some(HandshakeError::Changed));
}

#[tokio::test]
async fn a_false_first_packet_in_the_clients_name_does_not_keep_it_out() {
    let scene = Scene::new();
    let mut false_one = vec![0xc0, 0, 0, 0, 1, 16];
    false_one.extend([9; 16]);
    false_one.extend([0, 0, 0x44, 0x96]);
    false_one.resize(1200, 0x5a);
    for _ in 0..20 {
        rustix::net::send(&scene.sockets[0].socket, &false_one, rustix::net::SendFlags::empty()).unwrap();
    }
    happens(scene.flow()).await;
}

#[tokio::test]
async fn what_is_wrong_with_an_identity_is_said_on_both_sides() {
    let other = Name::new("other").unwrap();
    let day = Duration::from_hours(24);
    let now = now();
    let cases = [
        ("other name", credentials(Some(&other)), "it is certified for other, not for echo"),
        ("no name", credentials(None), "it is certified for no name, not for echo"),
        ("expired", credentials_of(Some(&name()), now - 2 * day), "its certificate ended at"),
        ("not yet", credentials_of(Some(&name()), now + day), "its certificate begins at"),
    ];
    for (case, theirs, words) in cases {
        let mut scene = Scene::new();
        scene.accepting.credentials = theirs;
        let (answered, shown) = happens(scene.hands()).await;
        let Err(HandshakeError::Identity(found)) = answered else { panic!("{case}: taken") };
        assert!(found.to_string().contains(words), "{case}: {found}");
        match shown.err() {
            Some(HandshakeError::IdentityRefused(told)) => assert!(told.starts_with(words), "{case}: {told}"),
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_with_an_expired_certificate_is_turned_away() {
    for judged in [true, false] {
        let mut scene = Scene::new();
        scene.accepting.judged = judged;
        scene.asking.credentials = credentials_of(None, now() - Duration::from_hours(48));
        let (answered, shown) = happens(scene.hands()).await;
        assert!(matches!(shown.err(), Some(HandshakeError::Identity(CheckError::Expired { .. }))));
        // The client's side of the handshake is over before.
        let told = match happens(answered.unwrap().admitted()).await {
            Err(HandshakeError::IdentityRefused(words)) => words,
            // Who judges nobody lets the client in before it looks at its certificate.
            Ok(flow) if !judged => match happens(flow.closed()).await {
                Over::Refused(words) => words,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert!(told.contains("its certificate ended at") && !told.contains("OtherError"), "{told}");
    }
}

#[tokio::test]
async fn an_hour_off_is_no_trouble() {
    for off in [Duration::from_hours(1), Duration::from_hours(2) - Duration::from_secs(30)] {
        let mut scene = Scene::new();
        scene.accepting.credentials = credentials_of(Some(&name()), now() + off);
        scene.asking.credentials = credentials_of(None, now() - off);
        let (near, _far) = happens(scene.flow()).await;
        assert!(near.message_limit() > 1000);
    }
}

#[tokio::test]
async fn a_key_of_another_chain_is_not_usable() {
    use identity::{HostKey, Issuer, ProgramKey};
    use transport::quic::Credentials;
    let host = Issuer::new(HostKey::generate().unwrap()).unwrap();
    let issued = host.issue(&ProgramKey::generate().unwrap().public_key(), None, now()).unwrap();
    let made = Credentials::new(issued.chain, ProgramKey::generate().unwrap().private_key());
    assert!(matches!(made, Err(HandshakeError::Unusable(_))));
}
