use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

/// All of docs/tools.md and of the help texts.
const LINES: &[&str] = &[
    "irm status --json --run-dir /tmp/x",
    "irm ipcp create --type udp --name udp0",
    "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1",
    "irm ipcp bootstrap --type udp --name udp0 --layer net --ip fd00::1 --port 3360 --host echo=10.0.0.2 \
     --host b=[fd00::2]:1 --sp-range 40000-41000 --echo on-arrival --no-restart",
    "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --sp-range listen",
    "irm ipcp enroll --name udp0 --layer lobby --via rdv.example:3360 --session darkreign --key-file k",
    "irm ipcp enroll --name udp0 --layer lobby --via 10.0.0.9 --session s --key-file k --ip 10.0.0.1 --port 1 --no-restart",
    "irm ipcp destroy --name udp0",
    "irm ipcp list --json",
    "irm ipcp host add --name udp0 echo=10.0.0.2",
    "irm ipcp host remove --name udp0 echo",
    "irm ipcp host list --name udp0 --json",
    "irm name create echo --policy spill",
    "irm name create web --serve alice,@www --allow-local any --allow-remote 10.0.0.0/8 --deny-remote 10.9.0.0/16",
    "irm name rules game.* --serve @games",
    "irm name rules web --serve default --allow-remote none",
    "irm name rules --json",
    "irm name may web --user alice --json",
    "irm name may web --from 10.1.2.3",
    "irm name destroy echo",
    "irm name list --json",
    "irm name register echo --layer net",
    "irm name unregister echo --layer net",
    "irm name resolve echo --layer net --json",
    "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-zone flows.test \
     --dns-server 10.0.0.53 --dns-server [fd00::53]:5353 --dns-key flows.key --dns-lifetime 900 --dns-ttl 60",
    "irm bind program ./server --name echo --auto --user www-data -- --listen echo -q",
    "irm bind process 4711 --name echo",
    "irm unbind program ./server --name echo",
    "irm unbind process 4711 --name echo",
    "irm --run-dir /tmp/x flow list --json",
    "irm flow show 12 --json",
    "irm flow capture 12 -w flow.pcapng",
    "irm flow capture 12 --write - --count 100 --snap 128 --interface eth0",
    "irm flow capture --name echo -w x.pcapng",
    "irm flow dealloc 12",
    "irm nat",
    "irm nat --via rdv.example:3360 --via 10.0.0.9 --lifetime 60 --json",
    "irm log",
    "irm log debug --for 60 --json",
    "irm log irmd=debug,info --ipcp udp0",
    "irm identity show --json",
    "irm identity show --cert",
    "irm identity show --request",
    "irm identity install host.pem",
    "irm identity install --self-signed",
    "irm identity trust echo SHA256:x",
    "irm identity trust game.* --ca ca.pem",
    "irm identity forget echo",
    "irm identity forget echo SHA256:x",
    "irm identity list --json",
    "irm identity allow echo any",
    "irm identity allow echo --ca ca.pem",
    "irm identity disallow echo",
    "irm identity disallow echo any",
    "irm name rules web --identities SHA256:x,ca:/ca.pem",
    "irm config export",
    "irm doctor",
    "irm doctor --name echo --json --verbose",
    "irm completions bash",
];

#[test]
fn every_documented_command_line_parses() {
    for line in LINES {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn nonsense_is_refused_as_usage() {
    let lines = [
        "irm",
        "irm identity trust echo",
        "irm identity trust echo SHA256:x --ca ca.pem",
        "irm identity allow echo",
        "irm identity install",
        "irm identity install host.pem --self-signed",
        "irm identity show --cert --json",
        "irm ipcp create --type tcp --name x",
        "irm ipcp create --type udp --name a/b",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 0.0.0.0",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --port 0",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --sp-range 2-1",
        "irm ipcp enroll --name udp0 --layer lobby --via rdv.example --session darkreign",
        "irm name register echo",
        "irm name resolve",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-server 10.0.0.53",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-zone a.b --dns-server ns.a.b",
        "irm name rules web",
        "irm name rules --serve any",
        "irm name may web --user alice --from 10.1.2.3",
        "irm name may web --from nowhere",
        "irm bind process 0 --name echo",
        "irm flow show 0",
        "irm flow show x",
        "irm doctor echo",
        "irm doctor --name two words",
        "irm flow capture -w x",
        "irm flow capture 12",
        "irm flow capture 12 --name echo -w x",
        "irm flow capture 12 -w x --snap 1",
        "irm flow capture 12 -w x --count 0",
    ];
    for line in lines {
        assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
    }
}

#[test]
fn arguments_after_two_dashes_belong_to_the_program() {
    let cli = parse("irm bind program ./server --name echo --auto -- --name other -x").unwrap();
    let Command::Bind(BindCommand::Program { name, args, auto, .. }) = cli.command else { panic!("{cli:?}") };
    assert_eq!((name.as_str(), auto), ("echo", true));
    assert_eq!(args, ["--name", "other", "-x"]);
}
