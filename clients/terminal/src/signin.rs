//! Signing in and making an account. Passwords and tokens come from prompts or standard input, never from arguments, which
//! other users of a machine can see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};
use matrix_sdk::{
    AuthSession, Client,
    ruma::api::client::{
        account::register,
        uiaa::{AuthData, AuthType, Dummy, RegistrationToken},
    },
};

use crate::{
    connect,
    failure::Failure,
    folder::{Folder, Session},
    trust,
};

/// How somebody signs in.
pub enum Way {
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A new account; the token is empty where none is asked for.
    Register {
        user: String,
        password: String,
        token: String,
    },
}

/// Signs in, sets encryption up and keeps the session. Says what happens by `tell`.
pub async fn enter(folder: &Folder, server: &str, way: Way, tell: impl Fn(&str)) -> Result<Client> {
    if folder.session()?.is_some() {
        bail!("somebody is signed in here already; `kith-chat logout` signs out, --data DIR takes another folder");
    }
    let (client, store_key) = connect::begin(folder, server).await?;
    let device = format!("kith-chat on {}", host_name());
    let password = match way {
        Way::Password { user, password } => {
            let login = client.matrix_auth().login_username(&user, &password).initial_device_display_name(&device);
            login.send().await.map_err(connect::judge_sign_in)?;
            Some(password)
        }
        Way::Token(token) => {
            let login = client.matrix_auth().login_token(&token).initial_device_display_name(&device);
            login.send().await.map_err(connect::judge_sign_in)?;
            None
        }
        Way::Register { user, password, token } => {
            register_account(&client, &user, &password, &token, &device).await?;
            Some(password)
        }
    };
    let Some(AuthSession::Matrix(account)) = client.session() else { bail!("the server gave no session") };
    let homeserver = client.homeserver().to_string();
    let mut session = Session { homeserver, account, store_key, recovery_key: None };
    folder.keep(&session)?;
    tell("Signed in. Setting up encryption …");
    // What the first sync brings is kept.
    client.event_cache().subscribe()?;
    match trust::set_up(&client, password.as_deref()).await {
        Ok(Some(key)) => {
            session.recovery_key = Some(key);
            folder.keep(&session)?;
            tell("Your messages' keys are backed up, encrypted. `kith-chat recovery-key` shows the key to write down.");
        }
        Ok(None) => tell("This account has other devices: verify this one from there, or run `kith-chat recover`."),
        Err(error) => tell(&format!("The backup of keys is not set up: {}", crate::failure::words(&error))),
    }
    Ok(client)
}

async fn register_account(client: &Client, user: &str, password: &str, token: &str, device: &str) -> Result<()> {
    let request = |auth| {
        let mut request = register::v3::Request::new();
        request.username = Some(user.to_owned());
        request.password = Some(password.to_owned());
        request.initial_device_display_name = Some(device.to_owned());
        request.auth = auth;
        request
    };
    let auth = client.matrix_auth();
    let error = match auth.register(request(None)).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let Some(asked) = error.as_uiaa_response() else { return Err(connect::judge(error)) };
    let wants = |stage: AuthType| asked.flows.iter().any(|flow| flow.stages == [stage.clone()]);
    let data = if wants(AuthType::RegistrationToken) && !token.is_empty() {
        let mut data = RegistrationToken::new(token.to_owned());
        data.session = asked.session.clone();
        AuthData::RegistrationToken(data)
    } else if wants(AuthType::Dummy) {
        let mut data = Dummy::new();
        data.session = asked.session.clone();
        AuthData::Dummy(data)
    } else if wants(AuthType::RegistrationToken) {
        bail!("this server asks for a setup link or registration token");
    } else {
        bail!("this server wants more than a terminal can give: make the account in a browser, then sign in");
    };
    match auth.register(request(Some(data))).await {
        Ok(_) => Ok(()),
        Err(error) if error.as_uiaa_response().is_some() => bail!("the setup link or token is not valid (any more)"),
        Err(error) => Err(connect::judge(error)),
    }
}

/// The token of a setup link, a login link, or a bare one.
pub fn token_in(text: &str) -> String {
    let text = text.trim();
    for mark in ["loginToken=", "login_token=", "token="] {
        if let Some((_, rest)) = text.split_once(mark) {
            return rest.split(['&', '#']).next().unwrap_or_default().to_owned();
        }
    }
    for mark in ["/#/setup/", "/#/login/"] {
        if let Some((_, rest)) = text.split_once(mark) {
            return rest.split(['?', '&', '/']).next().unwrap_or_default().to_owned();
        }
    }
    text.to_owned()
}

/// The server that a link leads to.
fn server_in(text: &str) -> Option<String> {
    let (server, _) = text.trim().split_once("/#/")?;
    server.starts_with("http").then(|| server.to_owned())
}

/// Asks at the terminal how to sign in and does it.
pub async fn ask(folder: &Folder, given: Option<&str>) -> Result<Client> {
    if !io::stdin().is_terminal() {
        bail!(Failure::NotSignedIn);
    }
    let mut server = connect::server(given);
    println!("kith-chat: nobody is signed in here yet.\n");
    println!("  1  sign in with a password");
    println!("  2  sign in with a login token or link");
    println!("  3  make an account (a new node: with the setup link it printed)");
    println!("  q  end\n");
    let choice = loop {
        let answer = prompt("1, 2, 3 or q: ")?;
        match answer.as_str() {
            "1" | "2" | "3" => break answer,
            "q" | "" => bail!(Failure::NotSignedIn),
            _ => {}
        }
    };
    let secret = match choice.as_str() {
        "2" => Some(hidden("Login token or link (not shown): ")?),
        "3" => Some(hidden("Setup link or registration token, Enter where none is needed (not shown): ")?),
        _ => None,
    };
    match secret.as_deref().and_then(server_in) {
        Some(of_link) if given.is_none() => server = of_link,
        _ if given.is_none() => {
            let answer = prompt(&format!("Server [{server}]: "))?;
            if !answer.is_empty() {
                server = answer;
            }
        }
        _ => {}
    }
    let way = match (choice.as_str(), secret) {
        ("2", Some(secret)) => Way::Token(token_in(&secret)),
        ("3", Some(secret)) => {
            let user = prompt("Name of the new account: ")?;
            let password = hidden("New password: ")?;
            if hidden("The same again: ")? != password {
                bail!("the two passwords are not the same");
            }
            Way::Register { user, password, token: token_in(&secret) }
        }
        _ => Way::Password { user: prompt("Name or user id: ")?, password: hidden("Password: ")? },
    };
    enter(folder, &server, way, |words| println!("{words}")).await
}

/// Signs in as the command line says.
pub async fn login(
    folder: &Folder,
    server: &str,
    user: Option<String>,
    password_stdin: bool,
    token_stdin: bool,
) -> Result<Client> {
    let way = if token_stdin {
        Way::Token(token_in(&input_line()?))
    } else {
        let name = match user {
            Some(name) => name,
            None if io::stdin().is_terminal() && !password_stdin => prompt("Name or user id: ")?,
            None => bail!("--user NAME is missing"),
        };
        let password = if password_stdin { input_line()? } else { from_environment_or_hidden()? };
        Way::Password { user: name, password }
    };
    enter(folder, server, way, |words| eprintln!("{words}")).await
}

/// Makes an account as the command line says.
pub async fn register(
    folder: &Folder,
    server: &str,
    given: Option<&str>,
    user: Option<String>,
    stdin: bool,
) -> Result<Client> {
    let (link, password) = if stdin {
        (input_line()?, input_line()?)
    } else {
        (
            hidden("Setup link or registration token, Enter where none is needed (not shown): ")?,
            from_environment_or_hidden()?,
        )
    };
    let name = match user {
        Some(name) => name,
        None if !stdin => prompt("Name of the new account: ")?,
        None => bail!("--user NAME is missing"),
    };
    let of_link = server_in(&link).filter(|_| given.is_none());
    let way = Way::Register { user: name, password, token: token_in(&link) };
    enter(folder, of_link.as_deref().unwrap_or(server), way, |words| eprintln!("{words}")).await
}

/// What may be asked for at a terminal, and may be piped elsewhere.
pub fn secret(question: &str) -> Result<String> {
    if io::stdin().is_terminal() { hidden(question) } else { input_line() }
}

fn from_environment_or_hidden() -> Result<String> {
    match std::env::var("KITHCHAT_PASSWORD") {
        Ok(password) if !password.is_empty() => Ok(password),
        _ if io::stdin().is_terminal() => hidden("Password: "),
        _ => Err(anyhow!("give the password with --password-stdin, or in KITHCHAT_PASSWORD")),
    }
}

fn prompt(question: &str) -> Result<String> {
    print!("{question}");
    io::stdout().flush()?;
    input_line()
}

fn hidden(question: &str) -> Result<String> {
    Ok(rpassword::prompt_password(question).context("the terminal cannot be asked")?.trim().to_owned())
}

fn input_line() -> Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("standard input ended where an answer was expected");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn host_name() -> String {
    let from_file = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_file.or_else(|| std::env::var("COMPUTERNAME").ok()).or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| crate::text::line(&name)).filter(|name| !name.is_empty()).unwrap_or_else(|| "a terminal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_links_and_bare() {
        for (text, token) in [
            ("http://localhost:8008/#/setup/AbC-123\n", "AbC-123"),
            ("https://example.org/?loginToken=xyz&x=1", "xyz"),
            ("http://localhost:8008/#/login/tok?x", "tok"),
            ("  bare ", "bare"),
            ("", ""),
        ] {
            assert_eq!(token_in(text), token, "{text}");
        }
        assert_eq!(server_in("http://10.0.0.1:8008/#/setup/x").as_deref(), Some("http://10.0.0.1:8008"));
        assert_eq!(server_in("bare"), None);
    }
}
