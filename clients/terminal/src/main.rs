//! `kith-chat`: a Matrix client for the terminal.
//!
//! Layers: [`app`] is the state of the screen, pure; [`ui`] draws it; [`worker`] talks to the server; [`terminal`] joins them. What
//! strangers write passes through [`text`] before it is shown anywhere.

mod app;
mod asking;
mod bridge;
mod cli;
mod connect;
mod extension;
mod failure;
mod folder;
mod markup;
mod model;
mod photo;
mod protocol;
mod scripts;
mod signin;
mod terminal;
mod text;
mod trust;
mod ui;
mod when;
mod worker;

use std::{
    io::{self, IsTerminal as _, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;

use crate::{
    cli::{Cli, Command, Global},
    failure::Failure,
    folder::Folder,
    scripts::Request,
    terminal::End,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kith-chat: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli));
    // What still runs, such as a long poll, is of no use any more.
    runtime.shutdown_background();
    let Err(error) = result else { return ExitCode::SUCCESS };
    let code = error.downcast_ref::<Failure>().map_or(1, Failure::code);
    let words = failure::words(&error);
    if as_json {
        println!("{}", text::json(&serde_json::json!({ "error": words, "code": code })));
    } else {
        eprintln!("kith-chat: {words}");
    }
    ExitCode::from(code)
}

async fn run(cli: Cli) -> Result<()> {
    let folder = Folder::open(cli.global.data.as_deref())?;
    match cli.command {
        None => converse(folder, &cli.global).await,
        Some(Command::Send { room, text, file, plain }) => {
            let text = match text {
                Some(text) if text != "-" => Some(text),
                None if file.is_some() => None,
                _ => Some(input()?),
            };
            // The other kith-chat may stand in another folder.
            let file = file.map(std::path::absolute).transpose()?;
            script(folder, &cli.global, Request::Send { room, text, file, plain }).await
        }
        Some(Command::Read { room, limit }) => script(folder, &cli.global, Request::Read { room, limit }).await,
        Some(Command::Rooms) => script(folder, &cli.global, Request::Rooms).await,
        Some(Command::Join { room }) => script(folder, &cli.global, Request::Join { room }).await,
        Some(Command::Profile { name, picture, no_picture }) => {
            let picture = picture.map(std::path::absolute).transpose()?;
            script(folder, &cli.global, Request::Profile { name, picture, no_picture }).await
        }
        Some(command) => account(folder, &cli.global, command).await,
    }
}

/// The conversations on the screen.
async fn converse(folder: Folder, global: &Global) -> Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("this is no terminal; `kith-chat --help` lists the commands for scripts");
    }
    let _lock = folder.lock(false)?;
    let client = match folder.session()? {
        Some(session) => connect::restore(&folder, &session).await?,
        None => signin::ask(&folder, global.server.as_deref()).await?,
    };
    match terminal::run(client, folder.clone()).await? {
        End::Quit => Ok(()),
        End::SignedOut => {
            folder.erase()?;
            println!("Signed out; nothing is left on this device.");
            Ok(())
        }
    }
}

/// A command of a script: by the kith-chat that is open, else by this process, which waits for others like it.
async fn script(folder: Folder, global: &Global, request: Request) -> Result<()> {
    if folder.session()?.is_none() {
        bail!(Failure::NotSignedIn);
    }
    let answer = match bridge::ask(&folder, &request).await? {
        Some(answer) => answer,
        None => {
            let waits = folder.clone();
            let _lock = tokio::task::spawn_blocking(move || waits.lock(true)).await??;
            let client = connect::signed_in(&folder).await?;
            connect::catch_up(&client).await?;
            scripts::perform(&client, request.clone()).await?
        }
    };
    scripts::print(&request, &answer, global.json);
    Ok(())
}

/// Commands about the account itself, which need the data for themselves.
async fn account(folder: Folder, global: &Global, command: Command) -> Result<()> {
    let _lock = folder.lock(false)?;
    let given = global.server.as_deref();
    match command {
        Command::Login { user, password_stdin, token_stdin } => {
            let client = signin::login(&folder, given, user, password_stdin, token_stdin).await?;
            tell_account(&client, global.json);
        }
        Command::Register { user, stdin } => {
            let client = signin::register(&folder, given, user, stdin).await?;
            tell_account(&client, global.json);
        }
        Command::Logout => {
            let client = connect::signed_in(&folder).await?;
            match client.logout().await {
                Err(error) if !connect::is_signed_out(&error) => return Err(connect::judge(error)),
                _ => {}
            }
            drop(client);
            folder.erase()?;
        }
        Command::RecoveryKey { forget: true } => folder.change(|session| session.recovery_key = None)?,
        Command::RecoveryKey { forget: false } => {
            let session = folder.session()?.context(Failure::NotSignedIn)?;
            let key = session
                .recovery_key
                .context("there is none here: it was written down, or another device has made it")?;
            if global.json {
                println!("{}", text::json(&serde_json::json!({ "recovery_key": key })));
            } else {
                println!("{key}");
            }
        }
        Command::Recover => {
            let client = connect::signed_in(&folder).await?;
            connect::catch_up(&client).await?;
            trust::recover(&client, &signin::secret("Recovery key or passphrase (not shown): ")?).await?;
            eprintln!("Restored.");
        }
        Command::Send { .. }
        | Command::Read { .. }
        | Command::Rooms
        | Command::Join { .. }
        | Command::Profile { .. } => {}
    }
    Ok(())
}

fn tell_account(client: &matrix_sdk::Client, as_json: bool) {
    let (user, device) = (client.user_id().map(ToString::to_string), client.device_id().map(ToString::to_string));
    if as_json {
        println!("{}", text::json(&serde_json::json!({ "user_id": user, "device_id": device })));
    } else if let Some(user) = user {
        println!("{}", text::line(&user));
    }
}

/// The message from standard input, without the line break at its end.
fn input() -> Result<String> {
    let mut text = String::new();
    io::stdin().take(scripts::LONGEST as u64 + 1).read_to_string(&mut text).context("standard input is no text")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
