//! This side's end of a conversation: standard input and output, or those of a child.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;

use libflow::Flow;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};

/// Where bytes come from and go to.
pub(super) struct Pipes {
    pub(super) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) output: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) child: Option<Child>,
}

/// This program's own.
pub(super) fn stdio() -> Result<Pipes, String> {
    Ok(Pipes { input: Box::new(twin(&std::io::stdin())?), output: Box::new(twin(&std::io::stdout())?), child: None })
}

/// Without the standard library's buffers, which cut at lines.
fn twin(of: &impl AsFd) -> Result<tokio::fs::File, String> {
    let twin = of.as_fd().try_clone_to_owned().map_err(|error| format!("no descriptor for the pipes: {error}"))?;
    Ok(tokio::fs::File::from_std(File::from(twin)))
}

/// Those of a shell that runs `command`, told in its environment who is at the other end.
pub(super) fn command(command: &str, flow: &Flow) -> Result<Pipes, String> {
    let peer = flow.peer();
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("FLOWCAT_NAME", &peer.name)
        .env("FLOWCAT_SOURCE", &peer.source)
        .env("FLOWCAT_ADDRESS", &peer.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run /bin/sh for --exec: {error}"))?;
    match (child.stdout.take(), child.stdin.take()) {
        (Some(input), Some(output)) => {
            Ok(Pipes { input: Box::new(input), output: Box::new(output), child: Some(child) })
        }
        _ => Err("the command's pipes are missing".to_owned()),
    }
}

/// Waits for a child's end; the words say how it failed.
pub(super) async fn ended(child: Option<Child>) -> Result<(), String> {
    let Some(mut child) = child else { return Ok(()) };
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the command failed ({status}), so the stream was reset")),
        Err(error) => Err(format!("what became of the command is not known ({error}), so the stream was reset")),
    }
}
