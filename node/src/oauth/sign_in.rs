//! Signing in, and making an account, on a page. After it the browser comes back to the address that asked for it.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use ruma::OwnedUserId;

use super::page::{self, Page, escape};
use super::visit::Visit;
use crate::accounts::limits::{self, Action};
use crate::accounts::registration::{self, Checked, NewAccount};
use crate::accounts::tokens::hash;
use crate::accounts::uia::Stage;
use crate::accounts::{localpart, sign_in, users};
use crate::http::{Answer, MatrixError};

/// The shortest password of a new account, in characters.
const SHORTEST_PASSWORD: usize = 8;

/// Whom a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Whoever is signed in here.
    Anyone,
    /// Who signs in now.
    SignsIn,
    /// Who makes an account now, where that is possible.
    New,
}

impl Wanted {
    /// As the parameter `prompt` says.
    fn of(visit: &Visit) -> Self {
        let prompts = visit.query.get("prompt").unwrap_or_default();
        let asks = |value| prompts.split(' ').any(|prompt| prompt == value);
        match () {
            () if asks("create") => Self::New,
            () if asks("login") => Self::SignsIn,
            () => Self::Anyone,
        }
    }
}

/// Lets who is signed in pass; shows others how to. `purpose` is HTML: what it is for.
pub(super) async fn pass(visit: &mut Visit, purpose: &str) -> Result<Option<Response>, Page> {
    let wanted = Wanted::of(visit);
    let back = visit.here(&visit.query.without("prompt"));
    let done = match visit.does() {
        Some("sign_in") => by_password(visit).await,
        Some("register") => register(visit).await,
        Some("sign_out") => {
            visit.sign_out();
            return visit.go(&back).map(Some);
        }
        _ if visit.user.is_some() && (wanted == Wanted::Anyone || visit.form.is_some()) => return Ok(None),
        _ => return Ok(Some(form(visit, wanted, purpose, "", StatusCode::OK).into_response())),
    };
    match done {
        Ok(user) => {
            visit.sign_in(user);
            visit.go(&back).map(Some)
        }
        Err(error) if error.status.is_server_error() => Err(error.into()),
        Err(error) => {
            let wanted = if visit.does() == Some("register") { Wanted::New } else { Wanted::SignsIn };
            let status = if error.status == StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { error.status };
            Ok(Some(form(visit, wanted, purpose, &error.message, status).into_response()))
        }
    }
}

async fn by_password(visit: &Visit) -> Answer<OwnedUserId> {
    let name = visit.posted("name").unwrap_or_default().trim();
    let password = visit.posted("password").unwrap_or_default();
    let user = sign_in::by_password(&visit.node, &visit.from, name, password).await?;
    sign_in::check_not_locked(&visit.node, &user)?;
    Ok(user)
}

/// Whether the password that was posted is that of who is signed in here: for what is grave.
pub(super) async fn confirmed(visit: &Visit) -> Answer<()> {
    let user = visit.user.as_ref().ok_or_else(MatrixError::missing_token)?;
    let password = visit.posted("password").unwrap_or_default();
    sign_in::by_password(&visit.node, &visit.from, user.as_str(), password)
        .await
        .map(drop)
        .map_err(|error| if error.is("M_FORBIDDEN") { MatrixError::forbidden("the password is wrong") } else { error })
}

/// Refuses a password that is too short for an account.
pub(super) fn check_length(password: &str) -> Answer<()> {
    if password.chars().count() < SHORTEST_PASSWORD {
        let message = format!("a password needs at least {SHORTEST_PASSWORD} characters");
        return Err(MatrixError::new(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", message));
    }
    Ok(())
}

async fn register(visit: &Visit) -> Answer<OwnedUserId> {
    let node = &visit.node;
    let stages = registration::stages(node)?;
    let password = visit.posted("password").unwrap_or_default();
    let user_id = localpart::new_user_id(visit.posted("name").unwrap_or_default().trim(), node.server_name())?;
    // As `/register/available`: names are not to be tried without limit.
    limits::check_address(node, Action::Question, &visit.from)?;
    if node.store.read(|read| users::exists(read, &user_id))? {
        return Err(users::in_use());
    }
    node.appservices.check_user(&user_id, None)?;
    check_length(password)?;
    let mut token = None;
    if stages.contains(&Stage::RegistrationToken) {
        let given = visit.posted("token").unwrap_or_default().trim();
        // The setup link is taken as well.
        let given = given.rsplit('/').next().unwrap_or_default();
        match registration::check_limited(node, &visit.from, given)? {
            Checked::OneUse => token = Some(hash(given)),
            Checked::Standing => {}
            Checked::Unknown => {
                return Err(MatrixError::forbidden("the registration token is wrong, was used or has expired"));
            }
        }
    }
    if token.is_none() {
        limits::check_address(node, Action::Registration, &visit.from)?;
    }
    let account = NewAccount { user_id: user_id.clone(), password, token, admin: false, device: None };
    registration::register(node, account).await?;
    Ok(user_id)
}

fn form(visit: &Visit, wanted: Wanted, purpose: &str, wrong: &str, status: StatusCode) -> Page {
    let stages = registration::stages(&visit.node).ok();
    let typed = escape(visit.posted("name").unwrap_or_default());
    let typed =
        format!("value=\"{typed}\" autocapitalize=\"none\" autocorrect=\"off\" spellcheck=\"false\" maxlength=\"255\"");
    let other = visit.query.without("prompt");
    let wrong = page::notice(wrong);
    if let (Wanted::New, Some(stages)) = (wanted, stages) {
        let name = page::field(
            "name",
            "User name",
            &format!("autocomplete=\"username\" {typed}"),
            "Small letters, digits and <code>. _ = - / +</code>. Others see it, and it cannot be changed later.",
        );
        let password = page::field(
            "password",
            "Password",
            "type=\"password\" autocomplete=\"new-password\" minlength=\"8\" maxlength=\"1024\"",
            "At least 8 characters. A few random words are better than one strange one.",
        );
        let token = match stages.contains(&Stage::RegistrationToken) {
            true => page::field(
                "token",
                "Registration token",
                "autocomplete=\"off\" maxlength=\"500\"",
                "From the owner of this server. For the first account: the link that <code>kith status</code> shows.",
            ),
            false => String::new(),
        };
        let fields =
            format!("{wrong}{name}{password}{token}{}", page::button("register", "Make the account", "primary"));
        let switch = format!(
            "<p>You have an account? <a href=\"{}\">Sign in</a></p>",
            escape(&visit.here(&with_prompt(&other, "login")))
        );
        return visit.page("Make your account", format!("{purpose}{}{switch}", visit.form(&fields))).status(status);
    }
    let name = page::field("name", "User name", &format!("autocomplete=\"username\" {typed}"), "");
    let password = page::field(
        "password",
        "Password",
        "type=\"password\" autocomplete=\"current-password\" maxlength=\"1024\"",
        "",
    );
    let fields = format!("{wrong}{name}{password}{}", page::button("sign_in", "Sign in", "primary"));
    let switch = match stages {
        Some(_) => format!(
            "<p>No account yet? <a href=\"{}\">Make one</a></p>",
            escape(&visit.here(&with_prompt(&other, "create")))
        ),
        None => String::new(),
    };
    visit.page("Sign in", format!("{purpose}{}{switch}", visit.form(&fields))).status(status)
}

fn with_prompt(query: &str, prompt: &str) -> String {
    if query.is_empty() { format!("prompt={prompt}") } else { format!("{query}&prompt={prompt}") }
}
