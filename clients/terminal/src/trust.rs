//! Cross-signing, the backup of keys and its recovery key.

use anyhow::{Context as _, Result};
use matrix_sdk::{
    Client,
    config::SyncSettings,
    encryption::{VerificationState, recovery::RecoveryState},
    ruma::api::client::uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier},
};

use crate::model::Trust;

/// After a sign-in: makes the account's cross-signing keys and the backup, where it has none. Gives the new recovery key.
pub async fn set_up(client: &Client, password: Option<&str>) -> Result<Option<String>> {
    let encryption = client.encryption();
    encryption.wait_for_e2ee_initialization_tasks().await;
    // What the account has already comes with the first sync.
    crate::connect::catch_up(client).await?;
    if let Err(error) = encryption.bootstrap_cross_signing_if_needed(None).await {
        let asked = error.as_uiaa_response().map(|asked| asked.session.clone());
        let (Some(session), Some(password), Some(user)) = (asked, password, client.user_id()) else {
            return Err(error).context("the server does not take this device's signing keys");
        };
        let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.localpart().to_owned()));
        let mut auth = Password::new(user, password.to_owned());
        auth.session = session;
        encryption.bootstrap_cross_signing_if_needed(Some(AuthData::Password(auth))).await?;
    }
    if encryption.recovery().state() != RecoveryState::Disabled {
        return Ok(None);
    }
    Ok(Some(encryption.recovery().enable().await?))
}

/// Settings of a sync: members of large rooms come as they speak.
pub fn settings(seconds: u64) -> SyncSettings {
    use matrix_sdk::ruma::api::client::filter::{FilterDefinition, LazyLoadOptions, RoomEventFilter, RoomFilter};
    let mut timeline = RoomEventFilter::default();
    timeline.limit = Some(20u32.into());
    timeline.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut state = RoomEventFilter::default();
    state.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut room = RoomFilter::default();
    room.timeline = timeline;
    room.state = state;
    let mut filter = FilterDefinition::default();
    filter.room = room;
    SyncSettings::new().filter(filter.into()).timeout(std::time::Duration::from_secs(seconds))
}

/// How this device stands.
pub fn state(client: &Client, unsaved_key: bool) -> Trust {
    let encryption = client.encryption();
    Trust {
        verified: encryption.verification_state().get() == VerificationState::Verified,
        backup: encryption.recovery().state() == RecoveryState::Enabled,
        unsaved_key,
    }
}

/// Takes secrets and keys back with the recovery key or passphrase.
pub async fn recover(client: &Client, key: &str) -> Result<()> {
    client
        .encryption()
        .recovery()
        .recover(key.trim())
        .await
        .context("the key does not fit, or the server cannot be reached")
}
