//! How a datagram reads.

use std::fmt::Write as _;

use proto::shim::{Answer, CLASSIC_SOURCE, Control, ControlKind, Extension, Request, Verdict};
use proto::{Cube, Name};

use super::hex;
use super::tap::{Carried, Flow, Heard};

/// Text that a peer chose, safe on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A verdict as docs/shim-udp.md names it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pending => "PENDING",
        Verdict::Accepted => "ACCEPTED",
        Verdict::Refused => "refused",
        Verdict::UnknownName => "unknown name",
        Verdict::NobodyAccepts => "nobody accepts",
        Verdict::NotPermitted => "not permitted",
        Verdict::UnsupportedQos => "unsupported QoS",
        Verdict::Exhausted => "exhausted",
        Verdict::Version => "version",
        Verdict::Recovering => "RECOVERING",
        Verdict::Cookie => "cookie wanted",
    }
}

/// A control datagram's kind as docs/shim-udp.md names it.
pub fn control(kind: ControlKind) -> &'static str {
    match kind {
        ControlKind::Dealloc { .. } => "dealloc",
        ControlKind::DeallocAck => "dealloc ack",
        ControlKind::Probe => "probe",
        ControlKind::Alive => "alive",
        ControlKind::NoSuchFlow => "no such flow",
        ControlKind::Recovering => "RECOVERING",
        ControlKind::Open => "OPEN",
        ControlKind::Opened => "OPENED",
        ControlKind::Moved => "moved",
    }
}

/// The word that says what it is, for JSON.
pub fn kind(heard: &Heard) -> &'static str {
    match heard {
        Heard::Request(Request::Classic(_)) => "classic request",
        Heard::Request(_) => "request",
        Heard::Answer(_, Answer::ClassicEcho | Answer::Returned(_)) => "classic echo",
        Heard::Answer(..) => "answer",
        Heard::Control(_) => "control",
        Heard::Data { .. } => "data",
        Heard::Malformed(_) => "malformed",
    }
}

/// A datagram in one line.
pub fn line(heard: &Heard, flows: &[Flow], length: usize) -> String {
    match heard {
        Heard::Request(request) => request_line(request),
        Heard::Answer(name, answer) => answer_line(name, answer),
        Heard::Control(said) => {
            let died = matches!(said.kind, ControlKind::Dealloc { died: true });
            let how = if died { " (its program ended without it)" } else { "" };
            format!("{}{how}, flow {} to {}", control(said.kind), said.sender, said.receiver)
        }
        Heard::Data { flow, .. } => {
            let flow = &flows[*flow];
            let what = match (length, flow.cube) {
                (0, _) => "keep-alive".to_owned(),
                (_, Some(Cube::Raw) | None) => format!("SDU of {length} bytes"),
                (_, Some(cube)) => format!("QUIC of {length} bytes ({})", cube.as_str()),
            };
            format!("{what}, flow to {}", printable(&flow.name))
        }
        Heard::Malformed(why) => format!("malformed: {why}, {length} bytes"),
    }
}

fn request_line(request: &Request) -> String {
    match request {
        Request::Classic(name) => format!("classic request {}", printable(name.as_str())),
        Request::OtherVersion { name, version, client } => {
            format!("request {}, flow {client}, of version {version}", printable(name.as_str()))
        }
        Request::Extended(name, asked) => {
            let mut text =
                format!("request {}, {}, flow {}", printable(name.as_str()), asked.qos.cube.as_str(), asked.client);
            if !asked.source.is_empty() {
                let _ = write!(text, ", by {}", printable(&asked.source));
            }
            if !asked.cookie.is_empty() {
                text.push_str(", with a cookie");
            }
            text + &bytes_of("data", &asked.data)
        }
    }
}

fn answer_line(name: &Name, answer: &Answer) -> String {
    let name = printable(name.as_str());
    match answer {
        Answer::ClassicEcho => format!("classic echo {name}"),
        Answer::Returned(client) => format!("classic echo {name}, of the whole request, flow {client}"),
        Answer::OtherVersion { version, client } => format!("answer {name}, flow {client}, of version {version}"),
        Answer::Extended { client, server, verdict: said, reason, data, server_port, .. } => {
            let mut text = format!("answer {name}: {}, flow {client}", verdict(*said));
            if server.0 != 0 {
                let _ = write!(text, " / {server}");
            }
            if let Some(port) = server_port {
                let _ = write!(text, ", at port {port}");
            }
            if !reason.is_empty() {
                let _ = write!(text, ": \"{}\"", printable(reason));
            }
            text + &bytes_of("data", data)
        }
    }
}

fn bytes_of(what: &str, bytes: &[u8]) -> String {
    if bytes.is_empty() { String::new() } else { format!(", {} bytes of {what}", bytes.len()) }
}

/// All fields, a line each.
pub fn fields(heard: &Heard) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    match heard {
        Heard::Request(Request::Extended(_, asked)) => request_fields(asked, &mut out),
        Heard::Request(Request::Classic(_)) => {
            out.push(("source", format!("{CLASSIC_SOURCE} (classic requests do not say)")))
        }
        Heard::Answer(
            _,
            Answer::Extended { host, boot, client, server, reason, data, cookie, server_port, verdict: said },
        ) => {
            out.extend([
                ("verdict", verdict(*said).to_owned()),
                ("host", host.to_string()),
                ("boot", boot.to_string()),
                ("client's id", client.to_string()),
                ("server's id", if server.0 == 0 { String::new() } else { server.to_string() }),
                ("reason", printable(reason)),
                ("server port", server_port.map(|port| port.to_string()).unwrap_or_default()),
                ("data", hex::write(data)),
                ("cookie", hex::write(cookie)),
            ]);
        }
        Heard::Control(Control { host, boot, sender, receiver, .. }) => out.extend([
            ("host", host.to_string()),
            ("boot", boot.to_string()),
            ("sender's id", sender.to_string()),
            ("receiver's id", receiver.to_string()),
        ]),
        _ => {}
    }
    out.retain(|(_, value)| !value.is_empty());
    out
}

fn request_fields(asked: &Extension, out: &mut Vec<(&'static str, String)>) {
    let ms = |ms: u32| if ms == 0 { "default".to_owned() } else { format!("{ms} ms") };
    let qos = asked.qos;
    out.extend([
        ("host", asked.host.to_string()),
        ("boot", asked.boot.to_string()),
        ("client's id", asked.client.to_string()),
        ("source", printable(&asked.source)),
        ("qos", format!("{}, timeout {}, keep-alive {}", qos.cube.as_str(), ms(qos.timeout_ms), ms(qos.keepalive_ms))),
        ("deadline", ms(asked.deadline_ms)),
        ("listen port", asked.listen_port.to_string()),
        ("direct", if asked.direct { "yes".to_owned() } else { String::new() }),
        ("data", hex::write(&asked.data)),
        ("cookie", hex::write(&asked.cookie)),
    ]);
}

/// A flow and what it carried, in one line.
pub fn total(flow: &Flow) -> String {
    let cube = flow.cube.map_or("", Cube::as_str);
    let carried = |Carried { datagrams, bytes, keepalives }: Carried| {
        let kept = if keepalives == 0 { String::new() } else { format!(", {keepalives} keep-alives") };
        format!("{datagrams} ({bytes} B{kept})")
    };
    format!(
        "flow to {}, {cube}: {} sent {}, {} sent {}",
        printable(&flow.name),
        flow.client,
        carried(flow.up),
        flow.server,
        carried(flow.down)
    )
}
