//! Cross-signing, key backup and verification.

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{
    encryption::{
        LocalTrust,
        verification::{SasVerification, Verification, VerificationRequest, VerificationRequestState},
    },
    ruma::{
        RoomId, UserId,
        api::client::uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier},
    },
};
use serde_json::{Value, json};

use crate::{
    Options,
    person::{Person, until},
};

impl Person {
    pub async fn set_up_recovery(&self) -> Result<Value> {
        let encryption = self.client.encryption();
        if let Err(error) = encryption.bootstrap_cross_signing_if_needed(None).await {
            let info = error.as_uiaa_response().context("cross-signing")?;
            let me = self.client.user_id().context("nobody")?.to_string();
            let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(me));
            let mut proof = Password::new(user, self.password.clone());
            proof.session = info.session.clone();
            encryption.bootstrap_cross_signing(Some(AuthData::Password(proof))).await?;
        }
        let recovery_key = encryption.recovery().enable().wait_for_backups_to_upload().await?;
        Ok(json!({ "recovery_key": recovery_key }))
    }

    pub async fn recover(&self, options: &Options) -> Result<Value> {
        self.client.encryption().recovery().recover(options.text("recovery_key")?).await?;
        Ok(json!({}))
    }

    pub async fn request_verification(&self, options: &Options) -> Result<Value> {
        let user = UserId::parse(options.text("user_id")?)?;
        let request = match options.maybe("room_id") {
            Some(room_id) => self.request_in_room(&user, &RoomId::parse(room_id)?).await?,
            None => {
                let device = options.text("device_id")?.into();
                let device = self.client.encryption().get_device(&user, device).await?;
                device.context("the device is not known")?.request_verification().await?
            }
        };
        self.until_string(request, options.is("starts")).await
    }

    /// The library asks in the direct room that it knows with the user.
    async fn request_in_room(&self, user: &UserId, room_id: &RoomId) -> Result<VerificationRequest> {
        let room = self.client.get_room(room_id).context("the room is not known")?;
        room.set_is_direct(true).await?;
        until(20, "the room as a direct one", || async {
            self.client.get_dm_room(user).filter(|direct| direct.room_id() == room_id)
        })
        .await?;
        let identity = self.client.encryption().request_user_identity(user).await?;
        Ok(identity.context("the user has no identity")?.request_verification().await?)
    }

    pub async fn answer_verification(&self, options: &Options) -> Result<Value> {
        let user = UserId::parse(options.text("user_id")?)?;
        let flow = until(options.seconds(), "a request", || async {
            let mut requests = self.requests.lock().unwrap();
            let at = requests.iter().position(|(sender, _)| *sender == user)?;
            Some(requests.remove(at).1)
        })
        .await?;
        let request = self.client.encryption().get_verification_request(&user, flow).await;
        let request = request.context("the request is gone")?;
        request.accept().await?;
        self.until_string(request, options.is("starts")).await
    }

    /// Goes on with a verification until both sides have the short authentication string.
    async fn until_string(&self, request: VerificationRequest, starts: bool) -> Result<Value> {
        let sas = if starts {
            until(20, "the other side is ready", || async { request.is_ready().then_some(()) }).await?;
            request.start_sas().await?.context("the other side cannot compare strings")?
        } else {
            let sas: SasVerification = until(20, "a start", || async {
                match request.state() {
                    VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => Some(sas),
                    _ => None,
                }
            })
            .await?;
            sas.accept().await?;
            sas
        };
        until(20, "a short authentication string", || async { sas.can_be_presented().then_some(()) }).await?;
        let decimals = sas.decimals().context("no string")?;
        let emoji = sas.emoji().context("no emoji")?.map(|emoji| emoji.symbol);
        *self.verification.lock().unwrap() = Some(sas);
        Ok(json!({ "decimals": [decimals.0, decimals.1, decimals.2], "emoji": emoji }))
    }

    pub async fn confirm(&self) -> Result<Value> {
        let sas = self.verification.lock().unwrap().clone().context("nothing to confirm")?;
        sas.confirm().await?;
        until(20, "both have confirmed", || async { (sas.is_done() || sas.is_cancelled()).then_some(()) }).await?;
        if let Some(info) = sas.cancel_info() {
            bail!("the verification was cancelled: {}", info.reason());
        }
        Ok(json!({}))
    }

    /// What this client holds of a device: its key, and what it thinks of it.
    pub async fn device(&self, options: &Options) -> Result<Value> {
        let user = UserId::parse(options.text("user_id")?)?;
        let encryption = self.client.encryption();
        let identity = encryption.request_user_identity(&user).await?;
        let device = encryption.get_device(&user, options.text("device_id")?.into()).await?;
        let device = device.context("the device is not known")?;
        Ok(json!({
            "fingerprint": device.ed25519_key().map(|key| key.to_base64()),
            "signed_by_owner": device.is_cross_signed_by_owner(),
            "verified": device.is_verified(),
            "owner_verified": identity.is_some_and(|identity| identity.is_verified()),
        }))
    }

    pub async fn trust(&self, options: &Options) -> Result<Value> {
        let user = UserId::parse(options.text("user_id")?)?;
        let device = self.client.encryption().get_device(&user, options.text("device_id")?.into()).await?;
        device.context("the device is not known")?.set_local_trust(LocalTrust::Verified).await?;
        Ok(json!({}))
    }
}
