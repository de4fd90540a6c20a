//! Pairs of programs that say what they see.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Result, ensure};
use rustix::net::sockopt::set_socket_linger;

use flowring_tests::flows::pattern;

/// What a program saw, in words.
pub(super) type Saw = Vec<String>;

/// One client and one server.
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) client: fn(TcpStream) -> Result<Saw>,
    pub(super) server: fn(TcpStream) -> Result<Saw>,
}

/// All of them.
pub(super) const STORIES: [Story; 10] = [
    Story { name: "the client ends its half first", client: asks_then_ends, server: reads_then_answers },
    Story { name: "the server ends its half first", client: reads_then_answers, server: asks_then_ends },
    Story { name: "the server resets", client: waits, server: resets },
    Story { name: "the client resets", client: resets, server: waits },
    Story { name: "the server resets in the middle", client: reads_much, server: breaks_off },
    Story { name: "the client resets in the middle", client: breaks_off, server: reads_much },
    Story { name: "the server closes with bytes unread", client: is_not_read, server: does_not_read },
    Story { name: "the client closes with bytes unread", client: does_not_read, server: is_not_read },
    Story { name: "the server resets behind its end", client: hears_an_end_then_a_reset, server: ends_then_resets },
    Story { name: "the server closes at once", client: reads_all, server: closes },
];

const QUESTION: usize = 300_000;
const ANSWER: usize = 2_000_000;

/// The rest of what comes, and how it ends.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, String) {
    let (mut all, mut part) = (Vec::new(), vec![0; 65_536]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return (all, "an end".to_owned()),
            Ok(len) => all.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (all, named(&error)),
        }
    }
}

pub(super) fn named(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset => "a reset".to_owned(),
        ErrorKind::ConnectionRefused => "a refusal".to_owned(),
        kind => format!("{kind:?}"),
    }
}

/// Its end is a reset.
pub(super) fn reset(stream: TcpStream) -> Result<()> {
    set_socket_linger(&stream, Some(std::time::Duration::ZERO))?;
    drop(stream);
    Ok(())
}

fn asks_then_ends(mut stream: TcpStream) -> Result<Saw> {
    stream.write_all(&pattern(QUESTION))?;
    stream.shutdown(Shutdown::Write)?;
    let (answer, end) = rest(&mut stream);
    Ok(vec![format!("{} bytes, {}, then {end}", answer.len(), answer == pattern(ANSWER))])
}

fn reads_then_answers(mut stream: TcpStream) -> Result<Saw> {
    let (question, end) = rest(&mut stream);
    stream.write_all(&pattern(ANSWER))?;
    stream.shutdown(Shutdown::Write)?;
    Ok(vec![format!("{} bytes, {}, then {end}", question.len(), question == pattern(QUESTION))])
}

/// Reads what comes before the reset, and says so.
fn waits(mut stream: TcpStream) -> Result<Saw> {
    let mut some = [0; 1000];
    stream.read_exact(&mut some)?;
    stream.write_all(b"got")?;
    let (more, end) = rest(&mut stream);
    Ok(vec![format!("{} bytes more, then {end}", more.len())])
}

/// Resets when nothing is under way.
fn resets(mut stream: TcpStream) -> Result<Saw> {
    stream.write_all(&[7; 1000])?;
    let mut got = [0; 3];
    stream.read_exact(&mut got)?;
    reset(stream)?;
    Ok(vec!["all was got".to_owned()])
}

fn reads_much(mut stream: TcpStream) -> Result<Saw> {
    stream.write_all(b"go")?;
    let (some, end) = rest(&mut stream);
    ensure!(pattern(ANSWER).starts_with(&some), "{} bytes came of which some are others", some.len());
    Ok(vec![end])
}

fn breaks_off(mut stream: TcpStream) -> Result<Saw> {
    let mut go = [0; 2];
    stream.read_exact(&mut go)?;
    stream.write_all(&pattern(ANSWER))?;
    reset(stream)?;
    Ok(vec!["all was written".to_owned()])
}

fn is_not_read(mut stream: TcpStream) -> Result<Saw> {
    stream.write_all(b"unread")?;
    let (words, end) = rest(&mut stream);
    Ok(vec![format!("{:?}, then {end}", String::from_utf8_lossy(&words))])
}

/// Answers and closes, with what came in its queue: the kernel resets.
fn does_not_read(mut stream: TcpStream) -> Result<Saw> {
    let mut some = [0; 6];
    while stream.peek(&mut some)? < 6 {}
    stream.write_all(b"no need")?;
    Ok(vec!["it was there".to_owned()])
}

fn ends_then_resets(mut stream: TcpStream) -> Result<Saw> {
    stream.write_all(b"all there is")?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard)?;
    reset(stream)?;
    Ok(vec!["it was heard".to_owned()])
}

fn hears_an_end_then_a_reset(mut stream: TcpStream) -> Result<Saw> {
    let (words, end) = rest(&mut stream);
    stream.write_all(b"heard")?;
    // Its end has been read: only who writes, or asks, learns of the reset.
    let mut broken = None;
    lab::wait_until(flowring_tests::net::SOON, "the reset", || {
        broken = stream.take_error().ok().flatten();
        broken.is_some()
    })?;
    Ok(vec![format!("{:?}, {end}", String::from_utf8_lossy(&words)), broken.map_or_else(String::new, |it| named(&it))])
}

fn reads_all(mut stream: TcpStream) -> Result<Saw> {
    let (words, end) = rest(&mut stream);
    Ok(vec![format!("{} bytes, then {end}", words.len())])
}

fn closes(stream: TcpStream) -> Result<Saw> {
    drop(stream);
    Ok(Vec::new())
}
