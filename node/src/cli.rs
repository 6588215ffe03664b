//! The command `kith`: what stands between a person and the node library. Everything that a program which embeds a node
//! does otherwise is here: arguments, logging, signals, the terminal.

mod args;
mod browser;
mod clock;
mod doctor;
mod exit;
mod identity;
mod logging;
mod neighbours;
mod node_access;
mod panics;
mod password;
mod peers;
mod port;
mod serve;
mod text;
mod user;

use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, Flags};
use args::{Cli, Command};
use exit::{Failure, exit_code};

/// Name of the database in the data folder.
const DATABASE: &str = "kith.redb";

/// Runs the command that the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    // Clap prints help, version and usage errors (exit code 2) itself.
    exit_code(run(Cli::parse()))
}

fn run(cli: Cli) -> Result<(), Failure> {
    let cli = cli.with_environment(|name| std::env::var_os(name)).map_err(Failure::arguments)?;
    let command = cli.command.unwrap_or(Command::Serve(args::Serve::default()));
    if matches!(command, Command::Config) {
        text::out(&crate::config::example());
        return Ok(());
    }
    logging::start(
        cli.log.as_deref(),
        cli.log_format.unwrap_or(args::LogFormat::Human),
        matches!(command, Command::Serve(_)),
    )?;
    panics::watch();
    let flags = Flags { data_dir: cli.data };
    let config = Config::load(cli.config.as_deref(), std::env::vars_os(), &flags);
    // The doctor tells of a wrong configuration as of anything else that is wrong.
    if let Command::Doctor(options) = &command {
        let file = Config::file(cli.config.as_deref(), std::env::vars_os(), &flags);
        return runtime()?.block_on(doctor::run(config, &file, options));
    }
    let config = config?;
    match command {
        Command::Serve(options) => runtime()?.block_on(serve::run(config, &options)),
        Command::Identity(options) => runtime()?.block_on(identity::run(&config, &options)),
        Command::User(options) => runtime()?.block_on(user::run(config, options)),
        Command::Peers(options) => runtime()?.block_on(peers::peers(&config, &options)),
        Command::Status(options) => runtime()?.block_on(peers::status(&config, &options)),
        Command::Doctor(_) | Command::Config => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kith")
        .build()
        .map_err(|error| Failure::general(format!("the operating system gives no threads: {error}")))
}
