//! People near and known, and being found by them.

use anyhow::{Context as _, Result};
use matrix_sdk::ruma::{events::GlobalAccountDataEventType, serde::Raw};
use serde_json::{json, value::to_raw_value};

use super::Worker;
use crate::{extension, protocol::News, text};

impl Worker {
    pub(super) async fn people(&self) -> Result<()> {
        let mut people = extension::people(&self.client).await?;
        people.retain(|person| person.user != self.me.as_str());
        self.tell(News::People(people));
        Ok(())
    }

    pub(super) async fn be_found(&self, on: bool) -> Result<()> {
        let content = Raw::from_json(to_raw_value(&json!({ "nearby": on }))?);
        let kind = GlobalAccountDataEventType::from("org.kith.introduction");
        self.client.account().set_account_data_raw(kind, content).await?;
        let words =
            if on { "people near see your name and picture" } else { "people near do not see your name any more" };
        self.tell(News::Note(words.to_owned()));
        Ok(())
    }

    pub(super) async fn contact(&self) -> Result<()> {
        let link = if self.has_extension() {
            extension::contact(&self.client).await?
        } else {
            self.me.matrix_uri(true).to_string()
        };
        self.tell(News::Contact { link });
        Ok(())
    }

    pub(super) async fn add(&self, link: &str) -> Result<()> {
        let user = match self.has_extension() {
            true => extension::add(&self.client, link.trim()).await?,
            false => user_in(link).context("that is no link to a person")?,
        };
        self.tell(News::Note(format!("writing to {}", text::line(&user))));
        self.chat(&user).await
    }
}

/// The user that a link leads to.
fn user_in(link: &str) -> Option<String> {
    use matrix_sdk::ruma::{MatrixToUri, MatrixUri, UserId, matrix_uri::MatrixId};
    let link = link.trim();
    let id = match (MatrixUri::parse(link), MatrixToUri::parse(link)) {
        (Ok(uri), _) => uri.id().clone(),
        (_, Ok(uri)) => uri.id().clone(),
        _ => return UserId::parse(link).ok().map(|user| user.to_string()),
    };
    match id {
        MatrixId::User(user) => Some(user.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_each_form_lead_to_their_person() {
        for link in
            ["matrix:u/alice:example.org?action=chat", "https://matrix.to/#/@alice:example.org", " @alice:example.org "]
        {
            assert_eq!(user_in(link).as_deref(), Some("@alice:example.org"), "{link}");
        }
        for link in ["", "matrix:r/room:example.org", "https://example.org", "alice"] {
            assert_eq!(user_in(link), None, "{link}");
        }
    }
}
