//! This device and the account: name and picture, trust, recovery key, devices, signing out.

use std::path::Path;

use anyhow::{Context as _, Result};
use matrix_sdk::Client;

use super::{Worker, files};
use crate::{connect, photo, protocol::News, text, trust, when};

/// The name that others see of the account; an empty one takes it away.
pub async fn set_name(client: &Client, name: &str) -> Result<()> {
    let name = Some(name.trim()).filter(|name| !name.is_empty());
    client.account().set_display_name(name).await.map_err(connect::judge)
}

/// The picture of the account: a small copy of a photo, in which nothing tells of where it was taken. None takes it away.
pub async fn set_picture(client: &Client, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return client.account().set_avatar_url(None).await.map_err(connect::judge) };
    let shown = text::line(&path.display().to_string());
    let photo = files::load(client, path).await?;
    let picture = tokio::task::spawn_blocking(move || photo::portrait(&photo)).await?;
    let picture = picture.with_context(|| format!("{shown} cannot be your picture"))?;
    client.account().upload_avatar(&mime_guess::mime::IMAGE_JPEG, picture).await.map_err(connect::judge)?;
    Ok(())
}

impl Worker {
    pub(super) async fn my_name(&self, name: &str) -> Result<()> {
        set_name(&self.client, name).await?;
        self.tell(News::Note("others see your new name".to_owned()));
        Ok(())
    }

    pub(super) async fn my_picture(&self, path: Option<&str>) -> Result<()> {
        set_picture(&self.client, path.map(files::from_home).as_deref()).await?;
        let words = if path.is_some() { "others see your new picture" } else { "you have no picture any more" };
        self.tell(News::Note(words.to_owned()));
        Ok(())
    }

    pub(super) fn tell_trust(&self) {
        let unsaved = self.folder.session().ok().flatten().is_some_and(|session| session.recovery_key.is_some());
        self.tell(News::Trust(trust::state(&self.client, unsaved)));
    }

    pub(super) fn key(&self) -> Result<()> {
        let key = self.folder.session()?.and_then(|session| session.recovery_key);
        self.tell(News::RecoveryKey { key });
        Ok(())
    }

    pub(super) fn key_saved(&self) -> Result<()> {
        self.folder.change(|session| session.recovery_key = None)?;
        self.tell(News::Note("good; it is forgotten here".to_owned()));
        self.tell_trust();
        Ok(())
    }

    pub(super) async fn recover(&self, key: &str) -> Result<()> {
        trust::recover(&self.client, key).await?;
        self.tell(News::Note("restored: older messages open now".to_owned()));
        self.tell_trust();
        Ok(())
    }

    pub(super) async fn devices(&self) -> Result<()> {
        let mut lines = Vec::new();
        let known = self.client.encryption().get_user_devices(&self.me).await?;
        for device in self.client.devices().await?.devices {
            let own = self.client.device_id() == Some(&*device.device_id);
            let verified = known.get(&device.device_id).is_some_and(|device| device.is_verified());
            let seen = device.last_seen_ts.map(|at| when::full(at.get().into()));
            let id = text::line(device.device_id.as_str());
            lines.push(format!("{id}  {}", text::line(device.display_name.as_deref().unwrap_or("without a name"))));
            lines.push(format!(
                "    {}{}{}",
                if verified { "verified" } else { "not verified" },
                if own { ", this one" } else { "" },
                seen.map(|at| format!(", last seen {at}")).unwrap_or_default()
            ));
        }
        lines.push(String::new());
        lines.push("/verify compares emoji with another of them".to_owned());
        self.tell(News::Text { title: "My devices".to_owned(), lines });
        Ok(())
    }

    pub(super) async fn sign_out(&self) -> Result<()> {
        self.client.logout().await.map_err(crate::connect::judge)?;
        self.tell(News::Gone);
        Ok(())
    }
}
