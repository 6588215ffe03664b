//! The `kith` command: all of it is in the library's `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    kith::cli::main()
}
