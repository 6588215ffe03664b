//! The task that sends delayed events when their time has come.

use std::{sync::Arc, time::Duration};

use kith_store::{
    Json,
    tables::{
        accounts::USERS,
        delayed::{DELAYED_EVENTS_DUE, DelayedEvent, Finished},
    },
};
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde_json::json;

use super::{TRANSACTION, finish, get, put_off};
use crate::{
    Node,
    accounts::standing,
    client_api::rooms::{send, state},
    http::{Anonymous, Answer, MatrixError, Session},
    platform::timeout,
    rooms::Draft,
};

/// The clock may be set meanwhile, so it is looked at so often.
const LOOK: Duration = Duration::from_secs(60);
/// After this time it is tried again to send an event that this node could not send for reasons of its own (a full disk), and for how
/// long, in milliseconds.
const AGAIN_MS: u64 = 30_000;
const GIVE_UP_MS: u64 = 24 * 3_600_000;

/// Sends what is due, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    loop {
        let rung = node.delayed.bell.notified();
        let mut rung = std::pin::pin!(rung);
        // From here on a ring is noticed: what is scheduled while the disk is read is not overslept.
        rung.as_mut().enable();
        let next = node.store.read(|read| DELAYED_EVENTS_DUE.first(read));
        let now = node.clock.now_ms();
        let wait = match next {
            Ok(None) => {
                rung.await;
                continue;
            }
            Ok(Some(((due, user, id), ()))) if due <= now => {
                if let Err(error) = send_due(&node, user, id).await {
                    tracing::warn!(%error, "a delayed event could not be looked after");
                    node.clock.sleep(LOOK).await;
                }
                continue;
            }
            Ok(Some(((due, ..), ()))) => Duration::from_millis(due - now).min(LOOK),
            Err(error) => {
                tracing::warn!(%error, "delayed events could not be read");
                LOOK
            }
        };
        let _ = timeout(&*node.clock, wait, rung).await;
    }
}

async fn send_due(node: &Arc<Node>, user: String, id: String) -> Answer<()> {
    let turn = node.delayed.turn(&id);
    let _turn = turn.lock().await;
    // It may have been restarted or cancelled a moment ago.
    let row = node.store.read(|read| get(read, &user, &id))?;
    let now = node.clock.now_ms();
    let Some(row) = row.filter(|row| row.finished.is_none() && row.due <= now) else { return Ok(()) };
    let finished = match send(node, &user, &id, &row).await {
        Ok(event_id) => Finished { at: now, event_id: Some(event_id), error: None },
        Err(error) if error.status.is_server_error() && now < row.since.saturating_add(row.delay) + GIVE_UP_MS => {
            tracing::warn!(%error, "a delayed event could not be sent: it will be tried again");
            return Ok(put_off(node, user, id, move |row| row.due = now.saturating_add(AGAIN_MS)).await?);
        }
        Err(error) => {
            let error = json!({ "errcode": error.errcode, "error": error.message });
            Finished { at: now, event_id: None, error: Some(error) }
        }
    };
    Ok(finish(node, user, id, finished).await?)
}

/// Sends an event as its user would now; gives its ID.
pub(super) async fn send(node: &Arc<Node>, user: &str, id: &str, row: &DelayedEvent) -> Answer<String> {
    let account = node.store.read(|read| USERS.get(read, &user.to_owned()))?.map(|Json(account)| account);
    let account = account
        .filter(|account| account.deactivated.is_none())
        .ok_or_else(|| MatrixError::forbidden("this account is not in use any more"))?;
    standing::check_sending(&account)?;
    let session = Session {
        user_id: OwnedUserId::try_from(user).map_err(MatrixError::internal)?,
        device_id: OwnedDeviceId::from(row.device.as_str()),
        admin: false,
        appservice: None,
        from: Anonymous::default(),
    };
    let room_id = OwnedRoomId::try_from(row.room_id.as_str()).map_err(MatrixError::internal)?;
    let (kind, content) = (row.kind.clone(), row.content.clone());
    let transaction = format!("{TRANSACTION}{id}");
    let mut draft = Draft::message(session.user_id.clone(), kind, content);
    draft.state_key.clone_from(&row.state_key);
    let event_id = if draft.state_key.is_some() {
        draft.transaction = Some((row.device.clone(), transaction));
        state::set(node, &session, &room_id, draft).await?
    } else {
        send::send(node, &session, &room_id, draft, &transaction).await?
    };
    Ok(event_id.to_string())
}
