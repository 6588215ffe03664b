//! This device and the account: trust, recovery key, devices, signing out.

use anyhow::Result;

use super::Worker;
use crate::{protocol::News, text, trust, when};

impl Worker {
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
