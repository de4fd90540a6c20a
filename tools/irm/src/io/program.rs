//! Finding a program: irmd runs in another folder, so it is told an absolute path.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Fault;
use crate::cli::{BindCommand, Command, IpcpCommand, UnbindCommand};

/// Makes the program of a command absolute, before irmd is asked.
pub(super) fn locate_in(command: &mut Command) -> Result<(), Fault> {
    match command {
        Command::Bind(BindCommand::Program { program, .. }) => *program = locate(program)?,
        // Its IPCP reads the file, and runs in another folder.
        Command::Ipcp(IpcpCommand::Bootstrap(options)) => {
            if let Some(key) = &mut options.dns_key {
                *key = std::path::absolute(&*key)
                    .map_err(|error| Fault::Unable(format!("cannot make {} absolute: {error}", key.display())))?;
            }
        }
        Command::Ipcp(IpcpCommand::Enroll(options)) => {
            let key = &mut options.key_file;
            *key = std::path::absolute(&*key)
                .map_err(|error| Fault::Unable(format!("cannot make {} absolute: {error}", key.display())))?;
        }
        // A program may be gone by the time it is unbound.
        Command::Unbind(UnbindCommand::Program { program, .. }) => {
            if let Ok(path) = absolute(program) {
                *program = path;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The program's absolute path, checked to be executable. A word without a slash is looked up in PATH, as a shell does.
fn locate(program: &Path) -> Result<PathBuf, Fault> {
    let path = absolute(program)?;
    match path.metadata() {
        Err(error) => Err(Fault::Unable(format!("cannot bind {}: {error}", path.display()))),
        Ok(meta) if !meta.is_file() => {
            Err(Fault::Unable(format!("cannot bind {}: it is no file; give a program", path.display())))
        }
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            let path = path.display();
            Err(Fault::Unable(format!("cannot bind {path}: it is not executable; `chmod +x {path}` makes it so")))
        }
        Ok(_) => Ok(path),
    }
}

fn absolute(program: &Path) -> Result<PathBuf, Fault> {
    if program.components().count() > 1 || program.has_root() {
        // Symbolic links stay: `/usr/bin/server` may point at another version tomorrow.
        return std::path::absolute(program)
            .map_err(|error| Fault::Unable(format!("cannot make {} absolute: {error}", program.display())));
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| executable(path));
    found.and_then(|path| std::path::absolute(path).ok()).ok_or_else(|| {
        let name = program.display();
        Fault::Unable(format!("no program {name} in PATH; give its path (./{name} for one in this folder)"))
    })
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A path as gRPC carries it.
pub(super) fn text(path: PathBuf) -> Result<String, Fault> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Fault::Unable(format!("the path {} is no UTF-8 text; rename the file", path.display())))
}
