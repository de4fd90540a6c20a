use super::*;
use proptest::prelude::*;
use proto::v1;

const FULL: &str = r#"
[options]
timeout-ms = 2000
backlog = 64
flows-per-user = 100
unlimited-users = [0, 33]
classic-starts = true
admin-group = "flowring"
trust-first-use = false

[[ipcp]]
name = "udp0"
type = "udp"
layer = "net"
ip = "10.0.0.1"
port = 3400
sp-range = "40000-41000"
echo = "on-arrival"
dns-zone = "flows.test"
dns-servers = ["10.0.0.53", "[fd00::53]:5353"]
dns-key = "/etc/flowring/flows.key"
dns-lifetime = 600
dns-ttl = 30
rendezvous = "rdv.example:3360"
session = "darkreign"
session-key = "/etc/flowring/darkreign.key"
follow = true
punch = "search"
map-ports = true
restart = false
hosts = { echo = "10.0.0.2", "game.q2" = "[fd00::2]:3400" }

[[ipcp]]
name = "later"

[[name]]
name = "echo"
policy = "spill"
layers = ["net", "*"]
owner = "1001"
serve = ["any"]
allow-local = ["alice", "@33"]
allow-remote = ["10.0.0.0/8", "fd00::1"]
deny-remote = ["10.9.0.0/16"]
identities = ["SHA256:LHDhK3oGRvkiefQnx7OOczTY5Ti/7ClNEGwYXsRFcmE", "ca:/etc/flowring/ca.pem", "any"]

[[name.program]]
path = "/usr/bin/oping"
args = ["--listen", "echo"]
auto = true
user = "www-data"

[[rule]]
pattern = "game.*"
serve = ["@games"]
allow-remote = []
identities = []

[[trust]]
name = "game.*"
identities = ["ca:/etc/flowring/ca.pem", "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Ti/7ClNEGwYXsRFcmE"]
"#;

#[test]
fn a_full_file_is_read_and_written_back() {
    let config = Config::parse(FULL).unwrap();
    let (layer, udp) = config.ipcps[0].bootstrap().unwrap();
    assert_eq!(
        (layer.as_str(), udp.ip.as_str(), udp.port, udp.sp_first, udp.sp_last),
        ("net", "10.0.0.1", 3400, 40000, 41000)
    );
    assert_eq!(udp.echo(), EchoMoment::OnArrival);
    assert_eq!(udp.hosts[1], StaticHost { name: "game.q2".into(), address: "[fd00::2]:3400".into() });
    assert_eq!((udp.dns_zone.as_str(), udp.dns_key_file.as_str()), ("flows.test", "/etc/flowring/flows.key"));
    assert_eq!((udp.dns_servers.len(), udp.dns_lifetime_s, udp.dns_ttl_s), (2, 600, 30));
    assert_eq!((udp.rendezvous.as_str(), udp.session.as_str()), ("rdv.example:3360", "darkreign"));
    assert_eq!((udp.session_key_file.as_str(), udp.follow), ("/etc/flowring/darkreign.key", true));
    assert_eq!(udp.punch(), v1::Punch::Search);
    assert!(udp.map_ports);
    assert_eq!(config.ipcps[1].bootstrap(), None);
    assert!(!config.ipcps[0].restart && config.ipcps[1].restart);
    assert_eq!(config.names[0].programs[0].args, ["--listen", "echo"]);

    let text = config.to_toml().unwrap();
    assert_eq!(Config::parse(&text).unwrap(), config, "{text}");
    let again = Ipcp::from_parts("udp0", false, Some((&layer, &udp))).unwrap();
    assert_eq!(again, config.ipcps[0]);
}

#[test]
fn flows_on_the_listen_port_are_read_and_written_back() {
    let text = FULL.replace("40000-41000", "listen");
    let config = Config::parse(&text).unwrap();
    let (layer, udp) = config.ipcps[0].bootstrap().unwrap();
    assert_eq!((udp.sp_first, udp.sp_last, udp.sp_listen), (0, 0, true));
    let text = config.to_toml().unwrap();
    assert!(text.contains("sp-range = \"listen\""), "{text}");
    assert_eq!(Config::parse(&text).unwrap(), config);
    assert_eq!(Ipcp::from_parts("udp0", false, Some((&layer, &udp))).unwrap(), config.ipcps[0]);
}

#[test]
fn mistakes_are_named() {
    let table = [
        ("[[ipcp]]\nname = \"a\"\nspeed = 3", "line 3, column 1"),
        ("[[ipcp]]\nname = \"a\"\nspeed = 3", "unknown field `speed`"),
        ("[[ipcp]]\nname = \"../a\"", "cannot name an IPCP"),
        ("[[ipcp]]\nname = \"a\"\nlayer = \"net\"", "has a layer and no ip"),
        ("[[ipcp]]\nname = \"a\"\nlayer = \"local\"\nip = \"::1\"", "the word is taken"),
        ("[[ipcp]]\nname = \"a\"\nip = \"10.0.0\"\nlayer = \"net\"", "line 3, column 6"),
        ("[[ipcp]]\nname = \"a\"\nsp-range = \"9-3\"", "is no range of ports"),
        ("[[ipcp]]\nname = \"a\"\nhosts = { echo = \"nowhere\" }", "is no address"),
        ("[[ipcp]]\nname = \"a\"\n[[ipcp]]\nname = \"a\"", "declared twice"),
        ("[[ipcp]]\nname = \"a\"\ndns-servers = [\"10.0.0.53\"]", "no zone; add dns-zone"),
        ("[[ipcp]]\nname = \"a\"\ndns-zone = \"z\"\ndns-key = \"k\"", "no absolute path"),
        ("[[ipcp]]\nname = \"a\"\nsession = \"s\"", "needs all of rendezvous"),
        ("[[ipcp]]\nname = \"a\"\npunch = \"plain\"", "no rendezvous to be introduced by"),
        ("[[ipcp]]\nname = \"a\"\npunch = \"hard\"", "unknown variant `hard`"),
        ("[[ipcp]]\nname = \"a\"\nfollow = true", "no rendezvous to follow the way to"),
        ("[[ipcp]]\nname = \"a\"\nmap-ports = true", "for whose flows alone ports are mapped"),
        ("[[ipcp]]\nname = \"a\"\nrendezvous = \"r\"\nsession = \"s\"\nsession-key = \"k\"", "no absolute path"),
        ("[[name]]\nname = \"two words\"", "no white space"),
        ("[[name]]\nname = \"a\"\n[[name.program]]\npath = \"oping\"", "is no absolute path"),
        ("[[name]]\nname = \"a\"\n[[name.program]]\npath = \"/bin/x\\ny\"", "is no absolute path"),
        ("[[name]]\nname = \"a\"\n[[name.program]]\npath = \"/bin/x\"\nuser = \"@33\"", "is no user"),
        ("[[name]]\nname = \"a\"\nowner = \"any\"", "is no user"),
        ("[[name]]\nname = \"a\"\nserve = [\"none\"]", "write [] for nobody"),
        ("[[name]]\nname = \"a\"\nserve = [\"4294967295\"]", "numbers go up to"),
        ("[[rule]]\npattern = \"a*\"\nserve = []\n[[rule]]\npattern = \"a*\"\nserve = []", "declared twice"),
        ("[[name]]\nname = \"a\"\nusers = \"any\"", "unknown field `users`"),
        ("[options]\nadmin-group = \"any\"", "is no group"),
        ("[[name]]\nname = \"a\"\nidentities = [\"SHA256:x\"]", "is no fingerprint"),
        ("[[name]]\nname = \"a\"\nidentities = [\"ca:ca.pem\"]", "is no absolute path of a file of CAs"),
        ("[[rule]]\npattern = \"a*\"\nidentities = [\"any\", \"any\"]", "any is in it twice"),
        ("[[trust]]\nname = \"a*\"\nidentities = []", "identities is empty"),
        ("[[trust]]\nname = \"a*\"\nidentities = [\"any\"]", "any would trust everybody"),
        ("[[trust]]\nname = \"*a\"\nidentities = [\"ca:/x\"]", "* stands at the end only"),
        (
            "[[trust]]\nname = \"a\"\nidentities = [\"ca:/x\"]\n[[trust]]\nname = \"a\"\nidentities = [\"ca:/x\"]",
            "declared twice",
        ),
        ("[[name]]\nname = \"a\"\npolicy = \"random\"", "unknown variant `random`"),
        ("[options]\ntimeout-ms = 0", "timeout-ms is 1 to 60000"),
        ("[oops", "line 1"),
    ];
    for (text, want) in table {
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains(want), "{text}\n{error}");
    }
}

#[test]
fn files_of_cas_are_read_once_each_and_named_where_that_fails() {
    let mut config = Config::parse(FULL).unwrap();
    let failed = config.read_cas(&|_| Err("it is not PEM; is it the right file?".to_owned()));
    let want = "the CAs of /etc/flowring/ca.pem cannot be had: it is not PEM; is it the right file?; correct the file or \
                name another";
    assert_eq!(failed, [want, want]);
    let asked = std::cell::Cell::new(0);
    let read = |_: &std::path::Path| {
        asked.set(asked.get() + 1);
        Ok(vec![identity::CertificateDer::from(vec![1])])
    };
    assert!(config.read_cas(&read).is_empty());
    assert!(config.read_cas(&read).is_empty());
    assert_eq!(asked.get(), 2);
    assert_eq!(config, Config::parse(FULL).unwrap(), "what was read is not part of the configuration");
}

proptest! {
    #[test]
    fn reading_is_total(text in "[\\[\\]a-z= \"\n{}0-9.-]{0,200}") {
        let _ = Config::parse(&text);
    }
}
