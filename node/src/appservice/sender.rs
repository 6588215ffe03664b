//! Telling a service what happens: transactions, one after the other (application service specification, "Pushing events").
//!
//! There is no queue. The service's row has the position up to which it was told; a transaction holds what concerns it after that,
//! and how far it reaches is on disk before it is sent. So it is repeated as it was until it is taken, also
//! after a restart, and a service that was away gets all that it missed, in order.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use http::Method;
use kith_store::{
    Json, StoreError,
    tables::{
        accounts::USERS,
        appservices::{APPSERVICES, AppserviceRow},
    },
};
use ruma::UserId;

use super::{
    Registered, Service, ask,
    build::{self, Built},
    devices::Devices,
};
use crate::{Node, e2ee::to_device, federation::outgoing::backoff, http::Answer, identity, platform::timeout};

/// How long a service may take for a transaction.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far the position on disk may lie behind what was looked through.
const MOST_BEHIND: u64 = 200;

/// What this run of the node knows of a service.
#[derive(Default)]
struct Run {
    /// The position up to which nothing concerned it.
    looked: u64,
    /// The serial of the latest that passed and was told.
    serial: u64,
    /// The users of the service's whose devices have keys, as far as this run has seen them.
    with_devices: BTreeSet<String>,
    /// The transaction that is not acknowledged, with the serial that it reaches to.
    built: Option<(Built, u64)>,
}

enum Step {
    /// There is nothing to tell.
    Idle,
    /// A transaction was taken.
    Told,
    /// The service did not take it.
    Failed,
}

/// Tells a service what happens, for as long as the node runs.
pub(super) async fn run(node: Arc<Node>, one: Arc<Registered>) {
    let mut run = Run { serial: node.ephemeral.serial(), ..Run::default() };
    match node.store.read(|read| users_of(read, &one.service)) {
        Ok(users) => one.mail.lock().unwrap_or_else(PoisonError::into_inner).extend(users),
        Err(error) => tracing::warn!(%error, "the users of an application service could not be read"),
    }
    let mut failures = 0;
    loop {
        let passing = node.ephemeral.changed();
        match step(&node, &one, &mut run).await {
            Ok(Step::Told) => failures = 0,
            Ok(Step::Idle) => {
                tokio::select! {
                    biased;
                    () = one.bell.notified() => {}
                    () = passing, if one.service.receive_ephemeral => {}
                }
            }
            failed => {
                if let Err(error) = failed {
                    tracing::warn!(%error, service = one.service.id, "an application service could not be told anything");
                }
                failures += 1;
                let wait = backoff::delay(failures, None, &node.rng);
                let _ = timeout(&*node.clock, wait, one.awake.notified()).await;
            }
        }
    }
}

/// All users of this node that are the service's.
fn users_of(read: &dyn kith_store::Read, service: &Service) -> Result<BTreeSet<String>, StoreError> {
    let mut users = BTreeSet::new();
    if service.receive_to_device {
        for row in USERS.range(read, ..)? {
            let (user, _) = row?;
            if <&UserId>::try_from(user.as_str()).is_ok_and(|user| service.has_user(user)) {
                users.insert(user);
            }
        }
    }
    Ok(users)
}

/// Tells the next of what there is to tell.
async fn step(node: &Arc<Node>, one: &Registered, run: &mut Run) -> Answer<Step> {
    let service = &one.service;
    let row = node.store.read(|read| APPSERVICES.get(read, &service.id))?;
    let Some(Json(mut row)) = row else {
        // A new one is told what happens from now on.
        let row = AppserviceRow { position: node.activity.position(), ..AppserviceRow::default() };
        save(node, service, &row).await?;
        return Ok(Step::Idle);
    };
    let (built, serial) = match run.built.take() {
        Some(built) => built,
        None => {
            let serial = node.ephemeral.serial();
            let built = next(node, one, run, &row)?;
            if built.is_empty() {
                run.looked = built.upto;
                run.serial = serial;
                if row.pending.is_none() && built.upto.saturating_sub(row.position) > MOST_BEHIND {
                    row.position = built.upto;
                    save(node, service, &row).await?;
                }
                // After a restart what was pending may be gone: redacted away, or in a room that was forgotten.
                if row.pending.take().is_some() {
                    row.position = built.upto;
                    save(node, service, &row).await?;
                    return Ok(Step::Told);
                }
                return Ok(if built.upto < node.activity.position() { Step::Told } else { Step::Idle });
            }
            (built, serial)
        }
    };
    let path = match begin(node, service, &mut row, run.looked, &built).await {
        Ok(path) => path,
        Err(error) => {
            // What was taken for it waits nowhere else.
            run.built = Some((built, serial));
            return Err(error.into());
        }
    };
    let taken = match ask::call(node, service, Method::PUT, &path, Some(&built.body()), PATIENCE).await {
        Ok(answer) if answer.status().is_success() => true,
        Ok(answer) => {
            tracing::info!(
                service = service.id,
                status = answer.status().as_u16(),
                "an application service refuses a transaction"
            );
            false
        }
        Err(error) => {
            tracing::debug!(service = service.id, %error, "an application service cannot be told anything");
            false
        }
    };
    if !taken {
        if row.failing_since == 0 {
            row.failing_since = node.clock.now_ms();
            save(node, service, &row).await?;
        }
        run.built = Some((built, serial));
        return Ok(Step::Failed);
    }
    (row.position, row.pending, row.failing_since) = (built.upto, None, 0);
    let (id, mail) = (service.id.clone(), built.mail);
    node.store
        .write(move |tx| {
            for ((user, device), upto) in &mail {
                to_device::delete_up_to(tx, user, device, *upto)?;
            }
            APPSERVICES.put(tx, &id, &Json(row))
        })
        .await
        .map_err(|error: StoreError| error)?;
    (run.looked, run.serial) = (built.upto, serial);
    Ok(Step::Told)
}

/// Notes on disk how far a transaction reaches, unless that was done before, and gives its path.
async fn begin(
    node: &Arc<Node>,
    service: &Service,
    row: &mut AppserviceRow,
    looked: u64,
    built: &Built,
) -> Result<String, StoreError> {
    if row.pending.is_none() {
        row.position = row.position.max(looked);
        row.transaction += 1;
        row.pending = Some(built.upto);
        save(node, service, row).await?;
    }
    let epoch = node.store.read(|read| identity::epoch(read))?;
    Ok(format!("transactions/{epoch}.{}", row.transaction))
}

/// The transaction that follows, or the one that was sent before a restart.
fn next(node: &Arc<Node>, one: &Registered, run: &mut Run, row: &AppserviceRow) -> Answer<Built> {
    let service = &one.service;
    let (from, upto) = match row.pending {
        Some(upto) => (row.position, upto),
        None => (row.position.max(run.looked), node.activity.position()),
    };
    let snapshot = node.store.snapshot()?;
    let mut built = build::events(node, &snapshot, service, from, upto.max(from))?;
    if service.receive_ephemeral && row.pending.is_none() {
        build::add_passing(node, &snapshot, service, run.serial, &mut built)?;
    }
    if service.receive_to_device {
        let mut mail = one.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let users: Vec<String> = mail.iter().cloned().collect();
        build::add_mail(&snapshot, &users, &mut built)?;
        run.with_devices.extend(users);
        built.devices = Devices::look(node, &snapshot, &run.with_devices, from)?;
        run.with_devices.retain(|user| built.devices.keys.contains_key(user));
        for user in &built.served {
            mail.remove(user);
        }
    }
    Ok(built)
}

async fn save(node: &Arc<Node>, service: &Service, row: &AppserviceRow) -> Result<(), StoreError> {
    let (id, row) = (service.id.clone(), row.clone());
    node.store.write(move |tx| APPSERVICES.put(tx, &id, &Json(row))).await
}
