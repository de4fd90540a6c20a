//! The Debian package, used as an administrator does.

mod install;

use std::process::ExitCode;

fn main() -> ExitCode {
    install::main()
}
