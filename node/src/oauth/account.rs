//! `/oauth2/account`: what users do with their account, which clients cannot that signed in by OAuth 2.0 (client-server
//! specification, "Account management"). A client opens it at an action.

use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse as _;
use http::{Request, StatusCode};
use kith_store::tables::accounts::DeviceRow;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::Value;

use super::page::{self, Page, Shown, escape};
use super::visit::Visit;
use super::{clients, sign_in};
use crate::Node;
use crate::accounts::{devices, monotonic_ms, profile, users};
use crate::http::escape::escaped;
use crate::http::{Answer, MatrixError};

/// The action of replacing the cross-signing keys.
pub(super) const RESET: &str = "org.matrix.cross_signing_reset";
const PROFILE: &str = "org.matrix.profile";
const DEVICES: &str = "org.matrix.devices_list";
const DEVICE: &str = "org.matrix.device_view";
const DELETE: &str = "org.matrix.device_delete";
const DEACTIVATE: &str = "org.matrix.account_deactivate";
/// One that no client knows.
const PASSWORD: &str = "org.kith.password";

/// The actions that clients are told of, also by the names that they had in the proposal.
pub(super) const ACTIONS: [&str; 9] = [
    PROFILE,
    DEVICES,
    DEVICE,
    DELETE,
    DEACTIVATE,
    RESET,
    "org.matrix.sessions_list",
    "org.matrix.session_view",
    "org.matrix.session_end",
];

/// `GET` and `POST /oauth2/account`.
pub(super) async fn account(node: Arc<Node>, request: Request<Body>) -> Shown {
    let mut visit = Visit::receive(&node, request).await?;
    if let Some(response) = sign_in::pass(&mut visit, "<p>To look after your account.</p>").await? {
        return Ok(response);
    }
    let Some(user) = visit.user.clone() else { return Err(Page::wrong(StatusCode::FORBIDDEN, "Nobody is signed in.")) };
    let (mut said, mut status) = (String::new(), StatusCode::OK);
    if let Some(does) = visit.does() {
        match act(&visit, &user, does).await {
            Ok(Done::Ended) => {
                visit.sign_out();
                let body = "<p>All its devices are signed out, and nobody can sign in to it any more.</p>";
                return Ok(visit.page("Your account is deactivated", body).into_response());
            }
            Ok(Done::Said(text)) => said = format!("<p role=\"status\"><strong>{text}</strong></p>"),
            Err(error) if error.status.is_server_error() => return Err(error.into()),
            Err(error) => (said, status) = (page::notice(&error.message), error.status),
        }
    }
    let device = visit.query.get("device_id").unwrap_or_default();
    let (title, body) = match visit.query.get("action").unwrap_or(PROFILE) {
        DEVICES | "org.matrix.sessions_list" => ("Your devices", list(&visit, &user)?),
        DEVICE | DELETE | "org.matrix.session_view" | "org.matrix.session_end" if !device.is_empty() => {
            ("A device", one(&visit, &user, device)?)
        }
        DEVICE | DELETE | "org.matrix.session_view" | "org.matrix.session_end" => {
            ("Your devices", list(&visit, &user)?)
        }
        PASSWORD => ("Your password", change_password(&visit, &user)),
        DEACTIVATE => ("Deactivate your account", end(&visit, &user)),
        RESET => ("Replace your identity", reset(&visit, &user, device)?),
        _ => ("Your account", name(&visit, &user)?),
    };
    let body = format!("{said}{body}{}", links(&visit, &user));
    Ok(visit.page(title, body).status(status).into_response())
}

/// What an action came to.
enum Done {
    /// Something to tell, in HTML.
    Said(&'static str),
    /// There is no account any more.
    Ended,
}

async fn act(visit: &Visit, user: &OwnedUserId, does: &str) -> Answer<Done> {
    let node = &visit.node;
    match does {
        "rename" => {
            let name = visit.posted("displayname").unwrap_or_default().trim();
            profile::set(node, user, profile::DISPLAYNAME, Some(Value::from(name))).await?;
            Ok(Done::Said("Saved."))
        }
        "delete" => {
            let device = visit.posted("device_id").unwrap_or_default().to_owned();
            let user = user.clone();
            let was = node.store.write(move |tx| Ok::<_, MatrixError>(devices::delete(tx, &user, &device)?)).await?;
            Ok(Done::Said(if was { "The device is signed out." } else { "There is no such device (any more)." }))
        }
        "password" => {
            sign_in::confirmed(visit).await?;
            let new = visit.posted("new_password").unwrap_or_default();
            sign_in::check_length(new)?;
            let sign_out = visit.posted("sign_out_all").is_some();
            users::set_password(node, user, new, sign_out, None, false).await?;
            // This browser, too, signs in with the new one.
            Ok(Done::Said("The password is changed. Sign in with it to go on."))
        }
        "deactivate" => {
            sign_in::confirmed(visit).await?;
            if visit.posted("sure").is_none() {
                return Err(MatrixError::bad_request("tick that you are sure"));
            }
            users::deactivate(node, user, visit.posted("erase").is_some()).await?;
            Ok(Done::Ended)
        }
        "reset" => {
            sign_in::confirmed(visit).await?;
            let device = visit.query.get("device_id").map(OwnedDeviceId::from);
            node.oauth.allow_reset(user, device, monotonic_ms(node));
            Ok(Done::Said("Go back to the app: it may replace your identity now, for ten minutes."))
        }
        _ => Err(MatrixError::bad_request("this form does nothing that is known")),
    }
}

/// The links and the way out below each page.
fn links(visit: &Visit, user: &UserId) -> String {
    let link =
        |action: &str, label: &str| format!("<a href=\"{}\">{label}</a>", visit.here(&format!("action={action}")));
    let all = [(PROFILE, "Name"), (DEVICES, "Devices"), (PASSWORD, "Password"), (DEACTIVATE, "Deactivate")];
    let all: Vec<String> = all.iter().map(|(action, label)| link(action, label)).collect();
    let out = visit.form(&page::button("sign_out", "Sign out of this browser", "quiet"));
    format!("<nav class=\"choices\">{}</nav><p class=\"quiet\">{}</p>{out}", all.join(" "), escape(user.as_str()))
}

fn name(visit: &Visit, user: &UserId) -> Result<String, Page> {
    let profile = visit.node.store.read(|read| profile::get(read, user))?.unwrap_or_default();
    let name = profile.get(profile::DISPLAYNAME).and_then(Value::as_str).unwrap_or_default();
    let field = format!(
        "<div class=\"field\"><label for=\"displayname\">The name that others see</label>\
         <input id=\"displayname\" name=\"displayname\" value=\"{}\" maxlength=\"255\" autocomplete=\"name\"></div>",
        escape(name)
    );
    Ok(visit.form(&format!("{field}{}", page::button("rename", "Save", "primary"))))
}

fn list(visit: &Visit, user: &UserId) -> Result<String, Page> {
    let devices = visit.node.store.read(|read| devices::list(read, user))?;
    let rows: Vec<String> = devices
        .iter()
        .map(|(id, row)| {
            let address = visit.here(&format!("action={DEVICE}&device_id={}", escaped(id)));
            let seen = seen(visit, row);
            format!(
                "<li><a href=\"{}\">{}</a> <code>{}</code><br><span class=\"quiet\">{seen}</span></li>",
                escape(&address),
                escape(row.display_name.as_deref().unwrap_or("A device")),
                escape(id)
            )
        })
        .collect();
    Ok(if rows.is_empty() {
        "<p>No device is signed in.</p>".to_owned()
    } else {
        format!("<ul>{}</ul>", rows.concat())
    })
}

fn one(visit: &Visit, user: &UserId, device: &str) -> Result<String, Page> {
    let Some(row) = visit.node.store.read(|read| devices::get(read, user, device.into()))? else {
        return Ok("<p>There is no such device (any more).</p>".to_owned());
    };
    let client = match &row.oauth {
        Some(oauth) => visit.node.store.read(|read| clients::get(read, &oauth.client))?,
        None => None,
    };
    let app = client.map(|client| format!("<dt>App</dt><dd>{}</dd>", super::authorize::app(&client)));
    let address = row.last_ip.as_deref().map(|ip| format!("<dt>From</dt><dd><code>{}</code></dd>", escape(ip)));
    let hidden = format!("<input type=\"hidden\" name=\"device_id\" value=\"{}\">", escape(device));
    Ok(format!(
        "<dl><dt>Name</dt><dd>{}</dd><dt>Device</dt><dd><code>{}</code></dd>{}<dt>Activity</dt><dd>{}</dd>{}</dl>\
         <p>Signing it out ends its access. Messages that only it can read are lost with it.</p>{}",
        escape(row.display_name.as_deref().unwrap_or("none")),
        escape(device),
        app.unwrap_or_default(),
        seen(visit, &row),
        address.unwrap_or_default(),
        visit.form(&format!("{hidden}{}", page::button("delete", "Sign this device out", "primary"))),
    ))
}

/// How long ago a device was seen.
fn seen(visit: &Visit, row: &DeviceRow) -> String {
    let Some(seen) = row.last_seen else { return "never seen".to_owned() };
    let minutes = visit.node.clock.now_ms().saturating_sub(seen) / 60_000;
    match minutes {
        0..=20 => "seen just now".to_owned(),
        21..=119 => format!("seen {minutes} minutes ago"),
        120..=2879 => format!("seen {} hours ago", minutes / 60),
        _ => format!("seen {} days ago", minutes / 1440),
    }
}

fn tick(name: &str, label: &str) -> String {
    format!("<p><label class=\"tick\"><input type=\"checkbox\" name=\"{name}\" value=\"yes\"> {label}</label></p>")
}

fn change_password(visit: &Visit, user: &UserId) -> String {
    let new = page::field(
        "new_password",
        "New password",
        "type=\"password\" autocomplete=\"new-password\" minlength=\"8\" maxlength=\"1024\"",
        "At least 8 characters.",
    );
    let tick = tick("sign_out_all", "Sign all devices out");
    visit.form(&format!(
        "{}{new}{tick}{}",
        page::password_again(user.localpart()),
        page::button("password", "Change it", "primary")
    ))
}

fn end(visit: &Visit, user: &UserId) -> String {
    let text = "<p>All your devices are signed out and your rooms are left. It cannot be undone, and nobody, not even you, can \
                have the name again.</p>";
    let ticks = tick("erase", "Also delete my name, settings and keys")
        + &tick("sure", "I am sure that I want to lose this account");
    let button = page::button("deactivate", "Deactivate my account", "primary");
    format!("{text}{}", visit.form(&format!("{}{ticks}{button}", page::password_again(user.localpart()))))
}

fn reset(visit: &Visit, user: &UserId, device: &str) -> Result<String, Page> {
    let row = visit.node.store.read(|read| devices::get(read, user, device.into()))?;
    let who = match &row {
        Some(row) => format!(
            "The app <strong>{}</strong> on the device <code>{}</code>",
            escape(row.display_name.as_deref().unwrap_or("without a name")),
            escape(device)
        ),
        None => "An app of yours".to_owned(),
    };
    let text = format!(
        "<p>{who} wants to replace the keys by which others know that it is you (cross-signing). Your contacts will be warned, and \
         have to verify you again. Allow it only if you have just asked for it in the app, because you have lost your other devices \
         and your recovery key.</p>"
    );
    let button = page::button("reset", "Allow it", "primary");
    Ok(format!("{text}{}", visit.form(&format!("{}{button}", page::password_again(user.localpart())))))
}
