//! Finding the server and opening the databases.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use matrix_sdk::{
    Client, ClientBuilder, SqliteStoreConfig,
    config::RequestConfig,
    cross_process_lock::CrossProcessLockConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::api::error::ErrorKind,
};

use crate::{
    failure::Failure,
    folder::{Folder, Session, StoreKey},
    trust,
};

/// Where a node answers the clients of its own device.
const LOCAL_NODE: &str = "http://localhost:8008";
/// How long keeping what a sync brought may take.
const KEEPING: Duration = Duration::from_secs(10);

fn builder() -> ClientBuilder {
    let encryption = EncryptionSettings {
        auto_enable_cross_signing: false,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: false,
    };
    Client::builder()
        .with_encryption_settings(encryption)
        .with_enable_share_history_on_invite(true)
        .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
        .request_config(RequestConfig::short_retry().timeout(Duration::from_secs(30)))
        .user_agent(concat!("kith-chat/", env!("CARGO_PKG_VERSION")))
}

/// A random key and no passphrase: there is nothing to stretch, so each start is quick.
fn with_store(builder: ClientBuilder, folder: &Folder, key: &StoreKey) -> ClientBuilder {
    let store = SqliteStoreConfig::new(folder.store()).key(Some(&key.0));
    builder.sqlite_store_with_config_and_cache_path(store, None::<&Path>)
}

/// The address that was given, else the node's own variable, else where a node is by default.
pub fn server(given: Option<&str>) -> String {
    let from_node = || std::env::var("KITH_CLIENT_PUBLIC_BASE_URL").ok().filter(|url| !url.is_empty());
    given.map(str::to_owned).or_else(from_node).unwrap_or_else(|| LOCAL_NODE.to_owned())
}

/// A client of a server for somebody who signs in, with new databases. The key opens these.
pub async fn begin(folder: &Folder, server: &str) -> Result<(Client, StoreKey)> {
    // What is left of a sign-in that did not succeed would not open with a new key.
    if folder.session()?.is_none() {
        folder.erase()?;
    }
    let key = StoreKey(rand::random());
    let address = if server.starts_with("http://") || server.starts_with("https://") {
        builder().homeserver_url(server)
    } else {
        builder().server_name_or_homeserver_url(server)
    };
    let client = with_store(address, folder, &key).build().await;
    let client = client.map_err(|error| anyhow!(error)).with_context(|| Failure::Unreachable(unreachable(server)))?;
    client.server_versions().await.with_context(|| Failure::Unreachable(unreachable(server)))?;
    Ok((client, key))
}

fn unreachable(server: &str) -> String {
    if server == LOCAL_NODE {
        format!("no node answers on this device ({LOCAL_NODE}); start it with `kith`, or name another with --server")
    } else {
        format!("the server {} cannot be reached", crate::text::line(server))
    }
}

/// The client of who is signed in. It needs no server yet.
pub async fn restore(folder: &Folder, session: &Session) -> Result<Client> {
    let address = builder().homeserver_url(&session.homeserver);
    let client = with_store(address, folder, &session.store_key).build().await;
    let client = client.context("the databases of this account cannot be opened")?;
    client.restore_session(session.account.clone()).await.context("the session cannot be restored")?;
    Ok(client)
}

/// The session of this folder and its client.
pub async fn signed_in(folder: &Folder) -> Result<Client> {
    let Some(session) = folder.session()? else { bail!(Failure::NotSignedIn) };
    restore(folder, &session).await
}

/// Syncs once, and waits until what came is kept. The SDK keeps messages in a task of its own: a process that ended before it was
/// done would lose them for good, as no later sync tells them again.
pub async fn catch_up(client: &Client) -> Result<()> {
    client.event_cache().subscribe()?;
    let synced = client.sync_once(trust::settings(0)).await.map_err(judge)?;
    let kept = async {
        for (id, update) in synced.rooms.joined {
            let latest = update.timeline.events.iter().rev().find_map(|event| event.event_id());
            let (Some(latest), Some(room)) = (latest, client.get_room(&id)) else { continue };
            let (cache, _alive) = room.event_cache().await?;
            let (_, mut changes) = cache.subscribe().await?;
            while cache.find_event(&latest).await?.is_none() && changes.recv().await.is_ok() {}
        }
        Ok(())
    };
    // What the cache has no place for does not hold up anybody for ever.
    tokio::time::timeout(KEEPING, kept).await.unwrap_or(Ok(()))
}

/// Says in which of the known ways a request failed.
pub fn judge(error: matrix_sdk::Error) -> anyhow::Error {
    if is_signed_out(&error) {
        return anyhow!(error).context(Failure::NotSignedIn);
    }
    match &error {
        matrix_sdk::Error::Http(http) if http.as_client_api_error().is_none() => {
            let words = crate::failure::words(&anyhow!(error));
            anyhow!(Failure::Unreachable(format!("the server cannot be reached: {words}")))
        }
        _ => anyhow!(error),
    }
}

/// Says in words why somebody could not sign in.
pub fn judge_sign_in(error: matrix_sdk::Error) -> anyhow::Error {
    match error.client_api_error_kind() {
        Some(ErrorKind::Forbidden) => anyhow!("the name, password or token is wrong (or used up)"),
        _ => judge(error),
    }
}

/// Whether the server does not know the session any more.
pub fn is_signed_out(error: &matrix_sdk::Error) -> bool {
    matches!(error.client_api_error_kind(), Some(ErrorKind::UnknownToken { .. }))
}
