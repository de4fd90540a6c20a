//! `flowdump` as a process.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn flowdump(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flowdump"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn capture() -> String {
    format!("{}/../../proto/tests/wire/flow-4d348ef9s.pcap", env!("CARGO_MANIFEST_DIR"))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_file_and_a_pipe_read_the_same() {
    let file = flowdump(&[&capture()], b"");
    let text = out(&file);
    assert_eq!(file.status.code(), Some(0), "{file:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(":3359 classic request echo-server"), "{text}");
    assert!(lines[1].ends_with(" classic echo echo-server"), "{text}");
    assert!(
        text.contains("flow to echo-server, raw: ") && lines.last().unwrap().contains(" packets: 2 of the shims, "),
        "{text}"
    );
    let pipe = flowdump(&["-"], &std::fs::read(capture()).unwrap());
    assert_eq!(out(&pipe), text);
    let data = out(&flowdump(&["--data", &capture()], b""));
    assert!(data.contains("SDU of ") && data.lines().count() > lines.len(), "{data}");
}

#[test]
fn json_has_an_object_in_each_line() {
    let text = out(&flowdump(&["--json", "--data", &capture()], b""));
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["kind"], &rows[0]["name"]), (&"classic request".into(), &"echo-server".into()));
    assert_eq!(rows[1]["kind"], "classic echo");
    let data = rows.iter().filter(|row| row["kind"] == "data").count() as u64;
    let total = rows.last().unwrap();
    assert_eq!(total["kind"], "flow");
    let datagrams = |side: &str| total[side]["datagrams"].as_u64().unwrap();
    assert_eq!(datagrams("client_sent") + datagrams("server_sent"), data);
}

#[test]
fn hex_digits_are_one_datagram() {
    // A dealloc of version 1, as proto pins it.
    let dealloc = "00 46 6c 6f 77 01 01 01  0000000000000001 0000000000000002 0000000000000003 0000000000000004";
    let words: Vec<&str> = dealloc.split_whitespace().collect();
    let want = "dealloc (its program ended without it), flow 0000000000000003 to 0000000000000004\n";
    assert_eq!(out(&flowdump(&words, b"")), want);
    assert_eq!(out(&flowdump(&["-"], dealloc.as_bytes())), want);
    let verbose = out(&flowdump(&["-v", dealloc], b""));
    assert!(verbose.starts_with(want) && verbose.contains("receiver's id  0000000000000004"), "{verbose}");
    assert_eq!(out(&flowdump(&["6563686f"], b"")), "classic request echo\n");
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    let bytes = std::fs::read(capture()).unwrap();
    let cut = &bytes[..bytes.len() - 3];
    let table: [(&[&str], &[u8], i32, &str); 5] = [
        (&["/nowhere/x.pcap"], b"", 2, "is no file, and no hex digits"),
        (&["/"], b"", 2, "is a folder"),
        (&["-"], b"GET / HTTP/1.1\r\n\r\n_______________", 2, "neither pcap nor pcapng"),
        (&["-"], b"", 2, "neither pcap nor pcapng"),
        (&["-"], cut, 1, "it ends in the middle of what begins at byte "),
    ];
    for (args, input, code, want) in table {
        let output = flowdump(args, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("flowdump: ") && said.contains(want) && said.lines().count() == 1, "{args:?}: {said}");
    }
    // What stands before the cut is printed all the same.
    assert!(out(&flowdump(&["-"], cut)).contains("classic echo echo-server"));
}

#[test]
fn completions_and_help() {
    for args in [&["--completions", "bash"][..], &["--help"]] {
        let output = flowdump(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(out(&output).contains("--data"), "{args:?}");
    }
}
