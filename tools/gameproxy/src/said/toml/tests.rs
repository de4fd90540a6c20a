use super::*;
use crate::said::values::FAIR_PING;

fn read(text: &str) -> (Options, Rules) {
    parse(text).map(|(options, rules, _)| (options, rules)).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

const EVERY_KEY: &str = r#"
access = ["allow *"]
[options]
metrics = "127.0.0.1:9106"
drain = "10s"
resolve = "1m"
[limits]
players = 100
[defaults]
prune-after = "30s"
loss = "1%"
queue = 8
limits = { rate = 200, players = 9 }
[[redirect]]
name = "q2"
from = "27910"
to = [{ address = "q2a.example:27910", tokens = ["key1", "0x00ff6162"] }, "[fd00::1]:27911"]
delay = "30ms + 20ms"
jitter = "500us+1ms"
loss = "0.5%+0%"
when-full = "drop-new"
prune-of = "both"
own-source = true
proxy-header = true
balance = "least-players"
health = { query = "quake2", every = "2s", fails = 5 }
token = "front 4"
fair-ping = "150ms"
limits = { per-address = 2, per-client = 50, players = "none" }
[[redirect]]
from = "*:27911"
to = "10.0.0.1:27911"
fair-ping = true
"#;

#[test]
fn every_key_is_read() {
    let (options, rules) = read(EVERY_KEY);
    assert_eq!(options.metrics, Some("127.0.0.1:9106".parse().unwrap()));
    assert_eq!([options.drain.unwrap(), options.resolve], [Duration::from_secs(10), Duration::from_secs(60)]);
    assert_eq!(rules.limits, Limits { players: NonZeroU32::new(100), ..Limits::default() });
    let [q2, plain] = &rules.redirects[..] else { panic!("{rules:?}") };
    assert_eq!((&*q2.name, &q2.from), ("q2", &Place { host: grammar::ANY, port: 27910 }));
    assert_eq!(q2.to[0].tokens, [b"key1".to_vec(), vec![0, 255, 97, 98]]);
    assert_eq!((q2.to[1].place.to_string(), q2.to[1].tokens.len()), ("[fd00::1]:27911".to_owned(), 0));
    let ms = Duration::from_millis;
    let way =
        Way { delay: ms(30), jitter: Duration::from_micros(500), loss: 5_000, queue: Some(8), full: Full::DropNew };
    let want = Carriage {
        up: way,
        down: Way { delay: ms(20), jitter: ms(1), loss: 0, ..way },
        prune: Prune { after: Duration::from_secs(30), of: Silence::Both },
        own_source: true,
        proxy_header: true,
    };
    assert_eq!(q2.carriage, want);
    let fails = NonZeroU32::new(5).unwrap();
    assert_eq!(q2.health, Some(Health { query: Query::Quake2, every: Duration::from_secs(2), fails }));
    assert_eq!((q2.token, q2.balance, q2.fair_ping), (Some(TokenAt::Front(4)), Balance::LeastPlayers, Some(ms(150))));
    let limits = Limits {
        players: None,
        per_address: NonZeroU32::new(2),
        per_client: NonZeroU32::new(50),
        rate: NonZeroU32::new(200),
    };
    assert_eq!(q2.limits, limits);
    assert_eq!((&*plain.name, plain.fair_ping), ("0.0.0.0:27911", Some(FAIR_PING)));
    assert_eq!(
        (plain.carriage.up.loss, plain.carriage.down.loss, plain.limits.players),
        (10_000, 0, NonZeroU32::new(9))
    );
}

#[test]
fn faults_have_their_place() {
    let rows = [
        ("access = ['allow *', 'alow *']", "1:23: 'alow' stands where 'allow' or 'deny' is expected"),
        ("access = ['allow * port 5 6']", "1:27: '6' stands where nothing more is expected"),
        ("[[redirect]]\nto = 'a:1'", "1:1: this redirect does not say where players send to"),
        ("[[redirect]]\nfrom = '5'", "1:1: the redirect of 0.0.0.0:5 has 0 servers"),
        ("[[redirect]]\nfrom = '5'\nto = 'a'", "3:6: 'a' has no port"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:0'", "3:6: 'a:0' has no good port"),
        ("[[redirect]]\nfrom = '5'\nto = '*:5'", "3:6: the server of a redirect is one host"),
        ("[[redirect]]\nfrom = '5'\nto = 'fd00::1:5'", "3:6: an IPv6 address needs brackets; write [fd00::1]:PORT"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\ndelay = '5'", "4:9: "),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\ndelay = '3s+2s+1s'", "4:9: '2s+1s' is one time too many"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\nfair-ping = '3s+2s'", "4:13: '3s+2s' is one time too many"),
        ("[[redirect]]\nfrom = '5'\nto = '224.0.0.1:1'", "3:6: the server of a redirect is one host"),
        ("[[redirect]]\nfrom = '5'\nto = '[::]:1'", "3:6: the server of a redirect is one host"),
        ("[[redirect]]\nfrom = '5'\nto = '[fe80::1]:1'", "3:6: fe80::1 is of one link"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\ndelay = '20s'", "4:9: a delay is at most 10 s"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\nloss = '101%'", "4:8: "),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\nqueue = 0", "4:9: queue is a number of datagrams from 1 to 4096"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\nbalance = 'best'", "4:11: balance is \"round-robin\""),
        (
            "[[redirect]]\nfrom = '5'\nto = 'a:1'\ntoken = 'front 4'",
            "1:1: the redirect 0.0.0.0:5 has a token and no server",
        ),
        ("[[redirect]]\nfrom = '5'\nto = [{address='a:1',tokens=['x']}]", "1:1: the server a:1 has tokens, and"),
        (
            "[[redirect]]\nfrom = '5'\nto = [{address='a:1',tokens=['x']}]\ntoken = 'back 2'",
            "1:1: the redirect 0.0.0.0:5 has tokens of 2",
        ),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\ncolour = 'red'", "4:1: unknown field `colour`"),
        ("[defaults]\nfrom = '5'", "1:1: [defaults] is of all redirects"),
        ("[[redirect]]\nfrom = ", "2:8: "),
    ];
    for (text, want) in rows {
        let fault = parse(text).expect_err(text).to_string();
        assert!(fault.starts_with(want), "{text}\n  {fault}\n  {want}");
    }
}
