//! Who is let in, which target is next, and what stands before a connection's first byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, wait_until};

use super::stage::{Stage, ask, connect, echo, expect_reset, expect_turned_away, portfwd, rule};

pub(super) fn who_may_not_is_reset_and_counted() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let (a, b) = (stage.a.address(), stage.b.address());
    let text = format!(
        "[[rule]]\nname = 'net'\nlisten = '7005'\ntarget = '{server}'\n\
         allow = ['{b}/24']\ndeny = ['{b}']\n[[rule]]\nname = 'two'\nlisten = '7006'\ntarget = '{server}'\nmax-connections = 2\n\
         [[rule]]\nname = 'slow'\nlisten = '7007'\ntarget = '{server}'\nrate = 3\n[[rule]]\nname = 'idle'\nlisten = '7008'\n\
         target = '{server}'\nidle-timeout = '200ms'\n"
    );
    let running = portfwd(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(a, port);
    ask(&mut connect(&stage.a, at(7005))?, "a neighbour")?;
    expect_turned_away(&stage.b, at(7005))?;
    running.expect_log(SOON, "the rule does not let its address in")?;
    let mut two = [connect(&stage.b, at(7006))?, connect(&stage.b, at(7006))?];
    two.iter_mut().try_for_each(|stream| ask(stream, "one of two"))?;
    expect_turned_away(&stage.b, at(7006))?;
    drop(two);
    wait_until(SOON, "a place to be free", || rule(&stage.a, "two").is_ok_and(|rule| rule["open"] == 0))?;
    ask(&mut connect(&stage.b, at(7006))?, "again")?;
    // A second's worth is let in at once; of many more that come at once some are not.
    let mut reset = 0;
    for n in 0..200 {
        let through = connect(&stage.b, at(7007)).and_then(|mut stream| ask(&mut stream, "fast"));
        ensure!(n >= 3 || through.is_ok(), "the {n}th was not let in");
        reset += usize::from(through.is_err());
        if reset > 0 {
            break;
        }
    }
    ensure!(reset > 0, "the rate is no limit");
    expect_turned_away(&stage.b, at(7008))?;
    let refused = |name: &str| -> Result<u64> {
        Ok(rule(&stage.a, name)?["refused"].as_object().context("an object")?.values().filter_map(|n| n.as_u64()).sum())
    };
    ensure!(refused("net")? == 1 && refused("two")? == 1 && refused("slow")? >= 1);
    ensure!(rule(&stage.a, "idle")?["ended"]["idle"] == 1, "{}", rule(&stage.a, "idle")?);
    Ok(())
}

pub(super) fn targets_share_connections_and_dead_ones_are_left_out() -> Result<()> {
    let stage = Stage::up()?;
    let [one, two] = [echo(&stage.b, 8001)?, echo(&stage.b, 8002)?];
    let dead = SocketAddr::new(stage.b.address(), 8003);
    let text = format!(
        "[[rule]]\nname = 'turns'\nlisten = '7005'\ntargets = ['{one}', '{dead}', '{two}']\nhealth = {{ fails = 2, retry = '1h' }}\n\
         [[rule]]\nname = 'checked'\nlisten = '7006'\ntargets = ['{one}', '{dead}']\nhealth = {{ fails = 2, retry = '1h', check = '50ms' }}\n\
         [[rule]]\nname = 'source'\nlisten = '7007'\ntargets = ['{one}', '{two}']\nbalance = 'source-hash'\n\
         [[rule]]\nname = 'least'\nlisten = '7008'\ntargets = ['{one}', '{two}']\nbalance = 'least-connections'\n"
    );
    let running = portfwd(&stage.a, &text, &[])?;
    let a = stage.a.address();
    let made = |name: &str| -> Result<Vec<u64>> {
        let rule = rule(&stage.a, name)?;
        Ok(rule["targets"].as_array().context("targets")?.iter().filter_map(|t| t["connected"].as_u64()).collect())
    };
    // Nobody notices the dead one: its connections go to the next.
    for n in 0..12 {
        ask(&mut connect(&stage.a, SocketAddr::new(a, 7005))?, &format!("{n}"))?;
    }
    running.expect_log(SOON, "is down: refused")?;
    let turns = rule(&stage.a, "turns")?;
    ensure!(turns["targets"][1]["up"] == false && turns["targets"][1]["failed"] == 2, "{turns}");
    ensure!(made("turns")?.iter().sum::<u64>() == 12 && made("turns")?[1] == 0, "{turns}");
    wait_until(SOON, "checks to find the dead one", || {
        rule(&stage.a, "checked").is_ok_and(|rule| rule["targets"][1]["up"] == false)
    })?;
    // And to find it alive again, though no connection comes.
    let _late = echo(&stage.b, 8003)?;
    wait_until(SOON, "checks to find it alive", || {
        rule(&stage.a, "checked").is_ok_and(|rule| rule["targets"][1]["up"] == true)
    })?;
    for _ in 0..6 {
        ask(&mut connect(&stage.a, SocketAddr::new(a, 7007))?, "the same")?;
    }
    let source = made("source")?;
    ensure!(source.iter().sum::<u64>() == 6 && source.contains(&6), "{source:?}");
    let held: Vec<_> = (0..6).map(|_| connect(&stage.a, SocketAddr::new(a, 7008))).collect::<Result<_>>()?;
    wait_until(SOON, "three for each", || made("least").is_ok_and(|made| made == [3, 3]))?;
    drop(held);
    Ok(())
}

/// A server that takes one connection and gives what it reads of it, to its end.
fn hear(host: &Host, port: u16) -> Result<std::thread::JoinHandle<std::io::Result<Vec<u8>>>> {
    let listener = host.listener(port)?;
    Ok(std::thread::Builder::new().name("hear".into()).spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(2 * SOON))?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard)?;
        Ok(heard)
    })?)
}

pub(super) fn proxy_headers_say_who_the_client_is() -> Result<()> {
    let stage = Stage::up()?;
    let (a, b) = (stage.a.address(), stage.b.address());
    let text = format!(
        "[[rule]]\nlisten = '7005'\ntarget = '{a}:7006'\nproxy-out = 2\n\
         [[rule]]\nname = 'in'\nlisten = '7006'\ntarget = '{b}:8005'\nproxy-in = true\nproxy-out = 1\ndeny = ['{a}']\n"
    );
    let running = portfwd(&stage.a, &text, &[])?;
    let heard = hear(&stage.b, 8005)?;
    let mut client = connect(&stage.b, SocketAddr::new(a, 7005))?;
    client.write_all(b"PROXY of its own\r\n")?;
    client.shutdown(Shutdown::Write)?;
    let heard = String::from_utf8(heard.join().expect("no panic")?)?;
    let from = client.local_addr()?;
    // Through both, and allowed by its own address though the one who brought it is denied.
    let expected = format!("PROXY TCP4 {b} {a} {} 7005\r\nPROXY of its own\r\n", from.port());
    ensure!(heard == expected, "{heard:?}, not {expected:?}");
    running.expect_log(SOON, &format!("rule=in client={from}"))?;
    // Who says nothing of the kind is reset, and so is who is denied by its header.
    let mut client = connect(&stage.b, SocketAddr::new(a, 7006))?;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    expect_reset(client)?;
    running.expect_log(SOON, "its PROXY header: there is none")?;
    let mut client = connect(&stage.b, SocketAddr::new(a, 7006))?;
    client.write_all(format!("PROXY TCP4 {a} {a} 1 7005\r\n").as_bytes())?;
    expect_reset(client)?;
    running.expect_log(SOON, "the rule does not let its address in").map(drop)
}

pub(super) fn tls_is_begun_and_ended() -> Result<()> {
    let stage = Stage::up()?;
    let server = echo(&stage.b, 8005)?;
    let folder = stage.a.run_dir();
    std::fs::create_dir_all(folder)?;
    for name in ["good", "other"] {
        let key = format!("{}/{name}.key", folder.display());
        let cert = format!("{}/{name}.pem", folder.display());
        let words = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=web.test \
             -addext subjectAltName=DNS:web.test -addext basicConstraints=critical,CA:FALSE"
        );
        let made = stage.a.run("openssl", &words.split(' ').collect::<Vec<_>>())?;
        ensure!(made.code() == 0, "{made:?}");
    }
    let text = format!(
        "[[rule]]\nlisten = '7005'\ntarget = '127.0.0.1:7443'\ntarget-tls = {{ ca = 'good.pem', sni = 'web.test' }}\n\
         [[rule]]\nlisten = '7006'\ntarget = '127.0.0.1:7443'\ntarget-tls = {{ ca = 'other.pem', sni = 'web.test' }}\n\
         [[rule]]\nlisten = '7007'\ntarget = '127.0.0.1:7443'\ntarget-tls = {{ verify = false, sni = 'any' }}\n\
         [[rule]]\nname = 'tls'\nlisten = '127.0.0.1:7443'\ntarget = '{server}'\ntls = {{ cert = 'good.pem', key = 'good.key' }}\n"
    );
    let running = portfwd(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    for port in [7005, 7007] {
        // More than any buffer, back to its end after the half of it that went is closed.
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut client = connect(&stage.b, at(port))?;
        let mut writer = client.try_clone()?;
        let (all, mut heard) = (sent.clone(), Vec::new());
        let writing = std::thread::Builder::new().spawn(move || -> std::io::Result<()> {
            writer.write_all(&all)?;
            writer.shutdown(Shutdown::Write)
        })?;
        client.read_to_end(&mut heard)?;
        writing.join().expect("no panic")?;
        ensure!(heard == sent, "{} bytes of {} came back by port {port}", heard.len(), sent.len());
    }
    expect_turned_away(&stage.b, at(7006))?;
    running.expect_log(SOON, "the target's TLS handshake: invalid peer certificate")?;
    // A client that speaks no TLS is told so and no more.
    let mut client = connect(&stage.a, "127.0.0.1:7443".parse()?)?;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    ensure!(answer.first().is_none_or(|kind| *kind == 21), "a TLS alert: {answer:?}");
    running.expect_log(SOON, "its TLS handshake: ")?;
    // A real client, where TLS ends here.
    let words = format!(
        "s_client -connect 127.0.0.1:7443 -servername web.test -CAfile {}/good.pem -verify_return_error",
        folder.display()
    );
    let mut real = stage.a.start("openssl", &words.split(' ').collect::<Vec<_>>())?;
    let mut input = real.input().context("its input")?;
    input.write_all(b"through a real client\n")?;
    real.expect_line(SOON, "through a real client")?;
    input.write_all(b"Q\n")?;
    ensure!(real.wait(SOON)?.code() == 0);
    Ok(())
}

/// A header that comes before a flow is told behind it, in the flow's own way between.
pub(super) fn who_the_client_is_goes_through_a_flow() -> Result<()> {
    let net = Net::up(&["web"])?;
    let (a, b) = (net.a.address(), net.b.address());
    let heard = hear(&net.b, 8005)?;
    let far = format!("[[rule]]\nlisten = 'flow:web'\ntarget = '{b}:8005'\nproxy-out = 2\ndeny = ['{a}']\n");
    let _far = portfwd(&net.b, &far, &[])?;
    wait_until(SOON, "the name to be served", || net.b.accepting("web").is_ok_and(|accepting| accepting > 0))?;
    let near = portfwd(&net.a, "[[rule]]\nlisten = '7005'\ntarget = 'flow:web'\nproxy-in = true\n", &[])?;
    let at = SocketAddr::new(a, 7005);
    // As it is, the far side does not let it in.
    let mut client = connect(&net.a, at)?;
    client.write_all(format!("PROXY TCP4 {a} {a} 1 2\r\n").as_bytes())?;
    expect_reset(client)?;
    near.expect_log(SOON, "far side: not permitted: the rule does not let its address in")?;
    let mut client = connect(&net.a, at)?;
    client.write_all(b"PROXY TCP6 2001:db8::7 2001:db8::8 4000 443\r\nhello")?;
    client.shutdown(Shutdown::Write)?;
    let heard = heard.join().expect("no panic")?;
    let (head, rest) = heard.split_at_checked(28 + 24).context("a header of version 2 over IPv6")?;
    ensure!(head.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8") && rest == b"hello", "{heard:?}");
    ensure!(head[48..] == [0x0f, 0xa0, 0x01, 0xbb], "its ports: {head:?}");
    Ok(())
}
