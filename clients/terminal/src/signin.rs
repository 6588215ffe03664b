//! Signing in and making an account. Passwords and tokens come from prompts or standard input, never from arguments, which
//! other users of a machine can see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use matrix_sdk::{
    AuthSession, Client,
    ruma::api::client::{
        account::register,
        uiaa::{AuthData, AuthType, Dummy, RegistrationToken},
    },
};
use serde::Deserialize;

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

/// What a setup link, a login link, the link for a second device or a bare token says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link {
    token: String,
    /// The server that it leads to.
    server: Option<String>,
}

fn read_link(text: &str) -> Link {
    let text = text.trim();
    if let Some(link) = text.split_once("/#/link/").and_then(|(_, packed)| unpack(packed)) {
        return link;
    }
    let server =
        text.split_once("/#/").map(|(server, _)| server.to_owned()).filter(|server| server.starts_with("http"));
    let ends: [(&str, &[char]); 5] = [
        ("loginToken=", &['&', '#']),
        ("login_token=", &['&', '#']),
        ("token=", &['&', '#']),
        ("/#/setup/", &['?', '&', '/']),
        ("/#/login/", &['?', '&', '/']),
    ];
    for (mark, ends) in ends {
        if let Some((_, rest)) = text.split_once(mark) {
            return Link { token: rest.split(ends).next().unwrap_or_default().to_owned(), server };
        }
    }
    Link { token: text.to_owned(), server: None }
}

/// What the web client shows to a second device: server and token in JSON, in base64.
fn unpack(packed: &str) -> Option<Link> {
    #[derive(Deserialize)]
    struct Packed {
        base_url: String,
        token: String,
    }
    let json = URL_SAFE_NO_PAD.decode(packed.trim_end_matches('=')).ok()?;
    let Packed { base_url, token } = serde_json::from_slice(&json).ok()?;
    Some(Link { token, server: Some(base_url).filter(|server| server.starts_with("http")) })
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
    let link = match choice.as_str() {
        "2" => read_link(&hidden("Login token or link (not shown): ")?),
        "3" => read_link(&hidden("Setup link or registration token, Enter where none is needed (not shown): ")?),
        _ => Link::default(),
    };
    match link.server {
        Some(of_link) if given.is_none() => server = of_link,
        _ if given.is_none() => {
            let answer = prompt(&format!("Server [{server}]: "))?;
            if !answer.is_empty() {
                server = answer;
            }
        }
        _ => {}
    }
    let way = match choice.as_str() {
        "2" => Way::Token(link.token),
        "3" => {
            let user = prompt("Name of the new account: ")?;
            let password = hidden("New password: ")?;
            if hidden("The same again: ")? != password {
                bail!("the two passwords are not the same");
            }
            Way::Register { user, password, token: link.token }
        }
        _ => Way::Password { user: prompt("Name or user id: ")?, password: hidden("Password: ")? },
    };
    enter(folder, &server, way, |words| println!("{words}")).await
}

/// Signs in as the command line says, at the given server or where a link leads.
pub async fn login(
    folder: &Folder,
    given: Option<&str>,
    user: Option<String>,
    password_stdin: bool,
    token_stdin: bool,
) -> Result<Client> {
    let (way, of_link) = if token_stdin {
        let link = read_link(&input_line()?);
        (Way::Token(link.token), link.server)
    } else {
        let name = match user {
            Some(name) => name,
            None if io::stdin().is_terminal() && !password_stdin => prompt("Name or user id: ")?,
            None => bail!("--user NAME is missing"),
        };
        let password = if password_stdin { input_line()? } else { from_environment_or_hidden()? };
        (Way::Password { user: name, password }, None)
    };
    let server = connect::server(given.or(of_link.as_deref()));
    enter(folder, &server, way, |words| eprintln!("{words}")).await
}

/// Makes an account as the command line says, at the given server or where a link leads.
pub async fn register(folder: &Folder, given: Option<&str>, user: Option<String>, stdin: bool) -> Result<Client> {
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
    let Link { token, server } = read_link(&link);
    let server = connect::server(given.or(server.as_deref()));
    enter(folder, &server, Way::Register { user: name, password, token }, |words| eprintln!("{words}")).await
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
    fn tokens_are_found_in_links_and_bare_with_the_server_that_a_link_leads_to() {
        let packed = URL_SAFE_NO_PAD.encode(r#"{"base_url":"http://10.0.0.1:8008","token":"a?b"}"#);
        for (text, token, server) in [
            ("http://localhost:8008/#/setup/AbC-123\n", "AbC-123", Some("http://localhost:8008")),
            ("https://example.org/?loginToken=xyz&x=1", "xyz", None),
            ("http://localhost:8008/#/login/tok?x", "tok", Some("http://localhost:8008")),
            (&format!("http://localhost:8080/chat/#/link/{packed} "), "a?b", Some("http://10.0.0.1:8008")),
            ("  bare ", "bare", None),
            ("file:///#/setup/x", "x", None),
            ("", "", None),
        ] {
            let found = Link { token: token.to_owned(), server: server.map(str::to_owned) };
            assert_eq!(read_link(text), found, "{text}");
        }
        for damaged in ["http://x/#/link/", "http://x/#/link/%%", "http://x/#/link/e30"] {
            assert_eq!(read_link(damaged), Link { token: damaged.to_owned(), server: None });
        }
    }
}
