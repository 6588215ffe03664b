//! Application services: bridges and bots that the node's owner registers (application service specification).
//!
//! A service acts as any user of its namespaces, with its own token ([`authenticate`]), and is told what happens in the rooms of
//! these users, in order, until it has taken it (`sender`). It is asked about users and aliases of its namespaces that
//! are not here yet, and about the networks that it bridges to ([`ask`]).
//!
//! What a service can do is much: its registration is a file that only the owner writes, and its URL may be any address, also one of
//! this device, where bridges usually run.

pub mod ask;
mod build;
mod devices;
mod registration;
mod sender;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, StatusCode, Uri};
use kith_store::{
    Committed, StoreError, Touched,
    tables::accounts::{DEVICES, USERS, UserRow},
};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use tokio::sync::Notify;

pub use registration::{RegistrationError, Service, read_all};

use crate::{
    Node,
    accounts::{standing, users},
    http::{Anonymous, Answer, MatrixError, Session},
};

/// An application service and the work for it.
#[derive(Debug)]
pub struct Registered {
    /// As it was registered.
    pub service: Service,
    /// Rings when there may be something to tell.
    bell: Notify,
    /// Rings when the service was heard of while it fails.
    awake: Notify,
    /// Its users to whose devices something was sent.
    mail: Mutex<BTreeSet<String>>,
}

/// All application services of a node.
#[derive(Debug, Default)]
pub struct Appservices {
    all: Vec<Arc<Registered>>,
}

impl Appservices {
    /// These services.
    pub fn new(services: Vec<Service>) -> Self {
        let registered = |service| {
            Arc::new(Registered { service, bell: Notify::new(), awake: Notify::new(), mail: Mutex::default() })
        };
        Self { all: services.into_iter().map(registered).collect() }
    }

    /// Every one.
    pub fn all(&self) -> &[Arc<Registered>] {
        &self.all
    }

    /// The one that shows this token.
    pub fn by_token(&self, token: &str) -> Option<&Arc<Registered>> {
        // Each is compared, so that the time tells nothing.
        self.all.iter().fold(None, |found, one| if one.service.is_token(token) { Some(one) } else { found })
    }

    /// Refuses a user ID that an application service has for itself, unless it is the one that asks.
    ///
    /// # Errors
    /// 400 `M_EXCLUSIVE`.
    pub fn check_user(&self, user: &UserId, asks: Option<&Service>) -> Answer<()> {
        let is_taken = |one: &Arc<Registered>| one.service.owns_user(user) && !is(asks, one);
        if self.all.iter().any(is_taken) { Err(exclusive("this user name")) } else { Ok(()) }
    }

    /// Refuses an alias that an application service has for itself, unless `user` is one of its users.
    ///
    /// # Errors
    /// 400 `M_EXCLUSIVE`.
    pub fn check_alias(&self, alias: &str, user: &UserId) -> Answer<()> {
        let is_taken = |one: &Arc<Registered>| one.service.owns_alias(alias) && !one.service.has_user(user);
        if self.all.iter().any(is_taken) { Err(exclusive("this alias")) } else { Ok(()) }
    }

    /// Whether a user, by ID, makes requests without limits: services themselves, and users of those that say so.
    pub fn is_unlimited(&self, user: &str) -> bool {
        if self.all.is_empty() {
            return false;
        }
        let Ok(user) = <&UserId>::try_from(user) else { return false };
        self.all
            .iter()
            .any(|one| one.service.sender == *user || (!one.service.rate_limited && one.service.has_user(user)))
    }

    /// A commit may have brought something for the services.
    pub fn committed(&self, committed: &Committed) {
        for one in &self.all {
            let wants_mail = |user: &str| {
                one.service.receive_to_device && <&UserId>::try_from(user).is_ok_and(|user| one.service.has_user(user))
            };
            let mut rings = false;
            for touched in &committed.touched {
                match touched {
                    Touched::Room(_) => rings = true,
                    Touched::User(user) if wants_mail(user) => {
                        one.mail.lock().unwrap_or_else(PoisonError::into_inner).insert(user.clone());
                        rings = true;
                    }
                    _ => {}
                }
            }
            if rings {
                one.bell.notify_one();
            }
        }
    }
}

fn is(asks: Option<&Service>, one: &Registered) -> bool {
    asks.is_some_and(|asks| asks.id == one.service.id)
}

fn exclusive(what: &str) -> MatrixError {
    MatrixError::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", format!("{what} belongs to an application service"))
}

/// Makes the user that each service is itself, and starts to tell the services what happens.
///
/// # Errors
/// The store's.
pub async fn start(node: &Arc<Node>) -> Answer<()> {
    for one in node.appservices.all() {
        let sender = one.service.sender.clone();
        if !node.store.read(|read| users::exists(read, &sender))? {
            let now = node.clock.now_ms();
            let row = UserRow { created: now, service: true, ..UserRow::default() };
            node.store.write(move |tx| users::insert(tx, &sender, row)).await?;
        }
        if one.service.url.is_some() {
            node.spawner.spawn("application service", Box::pin(sender::run(node.clone(), one.clone())));
        }
    }
    Ok(())
}

/// Whom a request acts as that shows a service's token: the user and device in its query, else the service itself.
#[derive(Debug, Default, serde::Deserialize)]
struct Mask {
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default, rename = "org.matrix.msc3202.device_id")]
    old_device_id: Option<String>,
}

/// The session of a request that shows a service's token. Without a device its device ID is empty, which no device has.
///
/// # Errors
/// `M_FORBIDDEN` for a user that is not the service's or does not exist; 400 `M_UNKNOWN_DEVICE`; those of [`standing`].
pub fn authenticate(node: &Node, one: &Registered, from: Anonymous, method: &Method, uri: &Uri) -> Answer<Session> {
    let mask = axum::extract::Query::<Mask>::try_from_uri(uri)
        .map_err(|_| MatrixError::invalid_param("the query does not say whom to act as"))?
        .0;
    let user_id = match mask.user_id {
        None => one.service.sender.clone(),
        Some(user) => {
            let user =
                OwnedUserId::try_from(user).map_err(|_| MatrixError::invalid_param("`user_id` is no user ID"))?;
            if !one.service.has_user(&user) {
                return Err(MatrixError::forbidden("this user is not in the application service's namespaces"));
            }
            user
        }
    };
    let device_id = mask.device_id.or(mask.old_device_id);
    let (row, is_device) = node.store.read(|read| {
        let is_device = match &device_id {
            Some(device) => DEVICES.contains(read, &(user_id.to_string(), device.clone()))?,
            None => true,
        };
        Ok::<_, StoreError>((USERS.get(read, &user_id.to_string())?, is_device))
    })?;
    let row = row.ok_or_else(|| MatrixError::forbidden("the application service has not registered this user"))?.0;
    if row.deactivated.is_some() {
        return Err(users::is_deactivated());
    }
    standing::check(&row, method, uri.path())?;
    if !is_device {
        let message = "the user has no such device";
        return Err(MatrixError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_DEVICE", message));
    }
    let device_id = OwnedDeviceId::from(device_id.unwrap_or_default());
    Ok(Session { user_id, device_id, admin: false, appservice: Some(one.service.id.clone()), from })
}
