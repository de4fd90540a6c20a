//! Look-ups and updates against a name server in this process, well-behaved and not.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use proto::HostId;

use super::servers::Servers;
use super::{lookup, update};
use crate::config::dns::Dns as Config;
use crate::machine::directory::LookedUp;
use crate::machine::directory::claim::{Claim, Key};
use crate::machine::directory::domain::Zone;
use crate::machine::directory::plan::{Aim, Own};
use crate::machine::directory::trouble::Trouble;

mod server;

use server::{Manners, Server, a, key, key_text, srv, txt};

const SECRET: &str = "c2VjcmV0IG9mIHRoaXMga2V5";

async fn server() -> Server {
    Server::start("z", &key("flows", SECRET)).await
}

async fn ask(servers: &[SocketAddr], domain: &str) -> (LookedUp, Vec<String>) {
    lookup::look_up(Servers::new(servers.to_vec()).now(), domain, false).await
}

fn own(host: u64, at: &str) -> Own {
    let name = proto::Name::new("echo").unwrap();
    let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".parse().ok();
    Own { name, host: HostId(host), at: at.parse().unwrap(), key, lifetime: 900, ttl: 60 }
}

/// A layer's configuration with a key file that says this.
fn config(dir: &Path, servers: &[SocketAddr], text: &str) -> Config {
    let path = dir.join("flows.key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let zone = Zone::new("z").unwrap();
    Config { zone, servers: servers.to_vec(), key_file: Some(path), lifetime: 900, ttl: 60 }
}

async fn write(config: &Config, own: &Own, aim: Aim) -> Result<(), Trouble> {
    let servers = Servers::new(config.servers.clone()).now();
    update::update(config, servers, own, "echo.z", aim).await.result
}

#[tokio::test]
async fn every_kind_of_record_is_read() {
    let server = server().await;
    server.add("echo.z", 60, a("10.0.0.2"));
    server.add("echo.z", 60, a("10.0.0.3"));
    server.add("_flowring._udp.echo.z", 30, txt("v=flow1 addr=10.0.0.4 later=x"));
    server.add("_flowring._udp.echo.z", 30, srv(5, 3400, "Host.z"));
    server.add("_flowring._udp.echo.z", 30, srv(0, 3401, "echo.z"));
    server.add("host.z", 20, a("10.0.0.7"));
    let (looked_up, lines) = ask(&[server.at], "echo.z").await;
    let records = looked_up.records.unwrap();
    let addresses: Vec<String> = records.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(records.texts, [["v=flow1", "addr=10.0.0.4", "later=x"].map(|s| s.as_bytes().to_vec()).to_vec()]);
    let services: Vec<_> = records.services.iter().map(|s| (s.port, s.target.as_str(), s.addresses.len())).collect();
    assert_eq!(services, [(3400, "host.z", 1), (3401, "echo.z", 0)]);
    assert!((18..=20).contains(&looked_up.ttl.as_secs()), "{:?}", looked_up.ttl);
    assert_eq!((looked_up.server.as_str(), lines.len()), (server.at.to_string().as_str(), 6));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_no_failure() {
    let server = server().await;
    let (looked_up, _) = ask(&[server.at], "nowhere.z").await;
    assert_eq!((looked_up.records.unwrap().addresses.len(), looked_up.absent), (0, true));
    assert!((4..=5).contains(&looked_up.ttl.as_secs()), "{:?}", looked_up.ttl);
    server.add("mail.z", 60, txt("v=spf1"));
    let (looked_up, _) = ask(&[server.at], "mail.z").await;
    assert!(looked_up.records.is_ok() && !looked_up.absent);
}

#[tokio::test]
async fn each_trouble_of_a_look_up_is_told_from_the_others() {
    let server = server().await;
    server.add("echo.z", 60, a("10.0.0.2"));
    let code = |code| Manners { code: Some(code), ..Manners::default() };
    let table = [
        (code(ResponseCode::ServFail), Trouble::ServFail),
        (code(ResponseCode::Refused), Trouble::Refused),
        (code(ResponseCode::NotAuth), Trouble::NotAuth),
        (code(ResponseCode::NotImp), Trouble::NotImplemented),
        (code(ResponseCode::FormErr), Trouble::FormErr),
        (Manners { lose: u32::MAX, ..Manners::default() }, Trouble::NoAnswer),
    ];
    for (manners, want) in table {
        server.manners(manners);
        assert_eq!(ask(&[server.at], "echo.z").await.0.records, Err(want));
    }
    for manners in [Manners { noise: true, ..Manners::default() }, Manners { circle: true, ..Manners::default() }] {
        server.manners(manners.clone());
        let (looked_up, _) = ask(&[server.at], "echo.z").await;
        match looked_up.records {
            Err(Trouble::Malformed(_)) => {}
            // A circle may also be said to lead nowhere.
            Ok(records) if manners.circle => assert!(records.addresses.is_empty()),
            other => panic!("{manners:?}: {other:?}"),
        }
    }
    server.manners(Manners::default());
    assert!(ask(&[server.at], "echo.z").await.0.records.is_ok());
}

#[tokio::test]
async fn a_lost_datagram_and_a_cut_answer_are_no_trouble() {
    let server = server().await;
    server.add("echo.z", 60, a("10.0.0.2"));
    server.manners(Manners { lose: 2, ..Manners::default() });
    assert!(ask(&[server.at], "echo.z").await.0.records.is_ok());
    server.manners(Manners { truncate: true, ..Manners::default() });
    let (looked_up, _) = ask(&[server.at], "echo.z").await;
    assert_eq!(looked_up.records.unwrap().addresses.len(), 1);
    assert!(server.state.lock().unwrap().over_tcp > 0);
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let (bad, good) = (server().await, server().await);
    good.add("echo.z", 60, a("10.0.0.2"));
    for manners in [
        Manners { code: Some(ResponseCode::ServFail), ..Manners::default() },
        Manners { lose: u32::MAX, ..Manners::default() },
    ] {
        bad.manners(manners);
        let (looked_up, _) = ask(&[bad.at, good.at], "echo.z").await;
        assert_eq!(looked_up.server, good.at.to_string());
        assert_eq!(looked_up.records.unwrap().addresses.len(), 1);
    }
    let (looked_up, _) = ask(&[bad.at, bad.at], "echo.z").await;
    assert!(looked_up.records.is_err() && looked_up.server.contains("1 other"), "{looked_up:?}");
}

#[tokio::test]
async fn answers_are_kept_and_told_how_long() {
    let server = server().await;
    server.add("echo.z", 60, a("10.0.0.2"));
    let mut servers = Servers::new(vec![server.at]);
    for _ in 0..3 {
        let (looked_up, _) = lookup::look_up(servers.now(), "echo.z", false).await;
        assert!(looked_up.records.is_ok());
    }
    assert_eq!(server.state.lock().unwrap().questions, 3, "one for each kind");
}

#[tokio::test]
async fn an_answer_of_thousands_of_records_is_cut_short() {
    let server = server().await;
    for n in 0..2_000 {
        server.add("echo.z", 60, a(&format!("10.1.{}.{}", n / 256, n % 256)));
    }
    server.manners(Manners { truncate: true, ..Manners::default() });
    let (looked_up, lines) = ask(&[server.at], "echo.z").await;
    assert!(looked_up.records.unwrap().addresses.len() <= 64 && lines.len() <= 64);
}

#[tokio::test]
async fn a_host_comes_and_goes() {
    let (server, dir) = (server().await, tempfile::tempdir().unwrap());
    let config = config(dir.path(), &[server.at], &key_text("flows", SECRET));
    server.add("other.z", 60, a("10.0.0.9"));
    let before = server.lines();
    let (one, two) = (own(0x11, "10.0.0.2:3359"), own(0x22, "10.0.0.3:3400"));
    for host in [&one, &two, &one] {
        assert_eq!(write(&config, host, Aim::Publish).await, Ok(()));
    }
    let lines = server.lines();
    let begin = |text: &str| lines.iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(begin("_flowring._udp.echo.z. 60 TXT \"v=flow1\" \"name=echo\" \"host=00000000000000"), 2, "{lines:#?}");
    assert_eq!((begin("_flowring._udp.echo.z. 60 SRV 0 0 3400 echo.z."), begin("echo.z. 60 A ")), (1, 2), "{lines:#?}");
    let (looked_up, _) = ask(&[server.at], "echo.z").await;
    let texts = looked_up.records.unwrap().texts;
    let keys: Vec<_> = texts.iter().map(|strings| Claim::decode(strings).unwrap().key).collect();
    assert_eq!(keys, [Key::Is(one.key.unwrap()); 2]);
    for host in [&one, &two, &two] {
        assert_eq!(write(&config, host, Aim::Withdraw).await, Ok(()));
    }
    assert_eq!(server.lines(), before);
}

#[tokio::test]
async fn each_trouble_of_an_update_is_told_from_the_others() {
    let (server, dir) = (server().await, tempfile::tempdir().unwrap());
    let host = own(0x11, "10.0.0.2:3359");
    let config = |text: &str| config(dir.path(), &[server.at], text);
    let good = key_text("flows", SECRET);
    let code = |code| Manners { code: Some(code), ..Manners::default() };
    let table = [
        (key_text("flows", "b3RoZXI="), Manners::default(), Trouble::BadSig("flows".into())),
        (key_text("other", SECRET), Manners::default(), Trouble::BadKey("other".into())),
        (good.clone(), Manners { unsigned: true, ..Manners::default() }, Trouble::NotSigned),
        (good.clone(), Manners { foreign: true, ..Manners::default() }, Trouble::NotAuth),
        (good.clone(), Manners { lose: u32::MAX, ..Manners::default() }, Trouble::NoAnswer),
        (good.clone(), Manners { noise: true, ..Manners::default() }, Trouble::NoAnswer),
        (good.clone(), Manners { meddle: 99, ..Manners::default() }, Trouble::Contended),
        (good.clone(), code(ResponseCode::Refused), Trouble::Refused),
        (good.clone(), code(ResponseCode::ServFail), Trouble::ServFail),
        (good.clone(), code(ResponseCode::NotImp), Trouble::NotImplemented),
        (good.clone(), code(ResponseCode::NotZone), Trouble::NotZone),
    ];
    for (text, manners, want) in table {
        server.manners(manners);
        assert_eq!(write(&config(&text), &host, Aim::Publish).await, Err(want));
    }
    server.manners(Manners { ahead: 1_000, ..Manners::default() });
    let late = write(&config(&good), &host, Aim::Publish).await;
    assert!(matches!(late, Err(Trouble::BadTime(_))), "{late:?}");
    let unreadable = write(&config("key {"), &host, Aim::Publish).await;
    assert!(matches!(&unreadable, Err(Trouble::Key(text)) if text.contains("flows.key")), "{unreadable:?}");
    // What somebody else wrote is still there, and nothing of ours.
    assert!(server.lines().iter().all(|line| line.contains("meddled")), "{:#?}", server.lines());
    server.manners(Manners::default());
    assert_eq!(write(&config(&good), &host, Aim::Publish).await, Ok(()));
}

#[tokio::test]
async fn an_update_gets_through_loss_cut_answers_and_others() {
    let (server, dir) = (server().await, tempfile::tempdir().unwrap());
    let config = config(dir.path(), &[server.at], &key_text("flows", SECRET));
    for (n, manners) in [
        Manners { lose: 5, ..Manners::default() },
        Manners { truncate: true, ..Manners::default() },
        Manners { meddle: 4, ..Manners::default() },
        Manners { delay: Duration::from_millis(300), ..Manners::default() },
    ]
    .into_iter()
    .enumerate()
    {
        server.manners(manners);
        let host = own(n as u64 + 1, &format!("10.0.0.{}:3359", n + 1));
        assert_eq!(write(&config, &host, Aim::Publish).await, Ok(()));
    }
    server.manners(Manners::default());
    // More than a datagram holds.
    for n in 10..40 {
        assert_eq!(write(&config, &own(n, &format!("10.0.0.{n}:3359")), Aim::Publish).await, Ok(()));
    }
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("v=flow1")).count(), 34, "{lines:#?}");
}

#[tokio::test]
async fn the_update_goes_to_the_server_that_is_the_primary() {
    let (secondary, primary, dir) = (server().await, server().await, tempfile::tempdir().unwrap());
    let gone: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let config = config(dir.path(), &[gone, secondary.at, primary.at], &key_text("flows", SECRET));
    secondary.manners(Manners { code: Some(ResponseCode::NotAuth), ..Manners::default() });
    assert_eq!(write(&config, &own(1, "10.0.0.2:3359"), Aim::Publish).await, Ok(()));
    assert_eq!((secondary.state.lock().unwrap().updates, primary.state.lock().unwrap().updates), (0, 1));
}
