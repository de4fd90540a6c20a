//! Programs that are not Rust: the C face, and programs that know a descriptor only.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use lab::{Host, Running};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_c_echo_pair_talks_between_two_hosts,
        the_c_client_talks_within_a_host,
        a_program_that_only_knows_a_descriptor_echoes,
        a_c_program_that_ends_is_told_to_its_peer,
        a_c_program_sends_a_stream_as_a_plain_descriptor,
    ]
}

// In the program: its copies run where the repository cannot be read.
const HEADER: &str = include_str!("../../../libflow/capi/include/flowring.h");
const ECHO_SERVER: (&str, &str) = ("echo_server", include_str!("../../../libflow/capi/examples/echo_server.c"));
const ECHO_CLIENT: (&str, &str) = ("echo_client", include_str!("../../../libflow/capi/examples/echo_client.c"));
const WORDS: (&str, &str) = ("words", include_str!("../../../libflow/capi/examples/words.c"));
const DESCRIPTOR_ECHO: (&str, &str) = ("descriptor_echo", include_str!("../../c/descriptor_echo.c"));

/// Compiles a C program against libflow.so, as its user would. `Ok(None)`: there is no C compiler, said aloud.
fn compile(host: &Host, (name, source): (&str, &str)) -> Result<Option<PathBuf>> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        ensure!(std::env::var_os("CI").is_none(), "CI must not skip this case, but there is no C compiler");
        eprintln!("SKIPPED {name}: there is no C compiler");
        return Ok(None);
    }
    let folder = host.run_dir();
    let program = folder.join(name);
    let file = folder.join(format!("{name}.c"));
    std::fs::write(&file, source)?;
    std::fs::write(folder.join("flowring.h"), HEADER)?;
    let libraries = lab::binaries::folder().context("prepared")?;
    let output = Command::new(compiler)
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(folder)
        .arg(&file)
        .arg("-L")
        .arg(libraries)
        .args(["-lflow", "-o"])
        .arg(&program)
        .output()?;
    ensure!(output.status.success(), "{name}.c does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(program))
}

fn start(host: &Host, program: &std::path::Path, name: &str) -> Result<Running> {
    let mut command = host.command(program.to_str().context("a path in UTF-8")?);
    command.arg(name).env("LD_LIBRARY_PATH", lab::binaries::folder().context("prepared")?);
    Running::start(&format!("{}: {}", host.name(), program.display()), command)
}

fn c_pair(net: &Net, asking: &Host) -> Result<()> {
    let (Some(server), Some(client)) = (compile(&net.b, ECHO_SERVER)?, compile(&net.b, ECHO_CLIENT)?) else {
        return Ok(());
    };
    let server = net.b.await_server(start(&net.b, &server, "echo")?, "echo")?;
    let output = start(asking, &client, "echo")?.wait(SOON)?;
    assert_eq!((output.code(), output.out.as_str()), (0, "hello from C\nby descriptor"), "{}", output.err);
    server.expect_line(SOON, "over: ")?;
    await_flows(&net.b, 0).map(drop)
}

fn the_c_echo_pair_talks_between_two_hosts() -> Result<()> {
    let net = Net::up(&["echo"])?;
    c_pair(&net, &net.a)
}

fn the_c_client_talks_within_a_host() -> Result<()> {
    let net = Net::bare()?;
    c_pair(&net, &net.b)
}

fn a_program_that_only_knows_a_descriptor_echoes() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let Some(program) = compile(&net.b, DESCRIPTOR_ECHO)? else { return Ok(()) };
    let mut server = net.b.await_server(start(&net.b, &program, "echo")?, "echo")?;
    let output = net.a.run("oping", &["echo", "-c", "20", "-i", "0.01"])?;
    ensure!(output.code() == 0, "{output:?}");
    // Its read returns 0: the flow is over, and it ends by itself.
    let output = server.wait(SOON)?;
    assert_eq!((output.code(), output.out.as_str()), (0, "20 SDUs"), "{}", output.err);
    Ok(())
}

fn a_c_program_that_ends_is_told_to_its_peer() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let Some(program) = compile(&net.b, ECHO_SERVER)? else { return Ok(()) };
    let mut server = net.b.await_server(start(&net.b, &program, "echo")?, "echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    server.kill()?;
    let output = client.wait(std::time::Duration::from_secs(1))?;
    ensure!(output.code() == 1, "{output:?}");
    await_flows(&net.a, 0).map(drop)
}

/// To another host and within one; what it prints is what the server counted after its half ended.
fn a_c_program_sends_a_stream_as_a_plain_descriptor() -> Result<()> {
    let net = Net::up(&["words"])?;
    let Some(program) = compile(&net.b, WORDS)? else { return Ok(()) };
    let server = net.b.start("examples/word_server", &[] as &[&str])?;
    let _server = net.b.await_server(server, "words")?;
    for from in [&net.a, &net.b] {
        let mut client = start(from, &program, "words")?;
        let mut input = client.input().context("its input")?;
        let text = "one two three ".repeat(100_000);
        std::io::Write::write_all(&mut input, text.as_bytes())?;
        drop(input);
        let output = client.wait(SOON)?;
        assert_eq!((output.code(), output.out.trim()), (0, "300000 words"), "{}", output.err);
        ensure!(output.err.contains("words is served by SHA256:") != (from.name() == "b"), "{}", output.err);
    }
    Ok(())
}
