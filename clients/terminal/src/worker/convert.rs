//! From the SDK's timeline items to what the screen shows.

use matrix_sdk::ruma::{
    UserId,
    events::{
        StateEventContentChange,
        room::message::{FormattedBody, MessageType},
    },
};
use matrix_sdk_ui::timeline::{
    AnyOtherStateEventContentChange as Other, EncryptedMessage, EventSendState, EventTimelineItem, MembershipChange,
    MsgLikeKind, Profile, TimelineDetails, TimelineEventShieldState, TimelineEventShieldStateCode as Shield,
    TimelineItem, TimelineItemContent, TimelineItemKind, VirtualTimelineItem,
};

use crate::{
    model::{Body, Delivery, File, FileKind, Message, Warning},
    text,
};

/// A line of the conversation.
pub fn message(item: &TimelineItem, me: &UserId) -> Message {
    let key = item.unique_id().0.clone();
    match item.kind() {
        TimelineItemKind::Event(event) => said(key, event, me),
        TimelineItemKind::Virtual(VirtualTimelineItem::DateDivider(at)) => bare(key, at.get().into(), Body::Day),
        TimelineItemKind::Virtual(VirtualTimelineItem::ReadMarker) => bare(key, 0, Body::NewFromHere),
        TimelineItemKind::Virtual(VirtualTimelineItem::TimelineStart) => bare(key, 0, Body::Beginning),
    }
}

fn bare(key: String, at_ms: u64, body: Body) -> Message {
    Message {
        key,
        event: None,
        sender: String::new(),
        name: String::new(),
        own: false,
        at_ms,
        body,
        source: String::new(),
        reply: None,
        reactions: Vec::new(),
        edited: false,
        in_thread: false,
        delivery: Delivery::None,
        readers: 0,
        editable: false,
        encrypted: false,
        warning: None,
    }
}

fn said(key: String, event: &EventTimelineItem, me: &UserId) -> Message {
    let content = event.content();
    let (body, source) = body(content);
    let reply = content.in_reply_to().map(|reply| match reply.event {
        TimelineDetails::Ready(original) => {
            let name = name(original.sender.as_str(), &original.sender_profile);
            (name, text::line(&words(&original.content)))
        }
        _ => ("an earlier message".to_owned(), "…".to_owned()),
    });
    let own = event.is_own();
    let reactions = content.reactions().map(|reactions| {
        reactions
            .iter()
            .take(20)
            .map(|(key, senders)| (text::fit(&text::line(key), 16), senders.len(), senders.contains_key(me)))
            .collect()
    });
    let readers = event.read_receipts().keys().filter(|user| **user != *me && *user != event.sender()).count() as u64;
    Message {
        key,
        event: event.event_id().map(ToString::to_string),
        sender: text::line(event.sender().as_str()),
        name: name(event.sender().as_str(), event.sender_profile()),
        own,
        at_ms: event.timestamp().get().into(),
        reply,
        reactions: reactions.unwrap_or_default(),
        edited: content.as_message().is_some_and(matrix_sdk_ui::timeline::Message::is_edited),
        in_thread: content.thread_root().is_some(),
        delivery: delivery(event, own),
        readers,
        editable: own && event.is_editable() && matches!(body, Body::Text(_)),
        encrypted: event.encryption_info().is_some(),
        warning: warning(event),
        body,
        source,
    }
}

/// The display name, with the user id where two have the same.
fn name(user: &str, profile: &TimelineDetails<Profile>) -> String {
    if let TimelineDetails::Ready(profile) = profile
        && let Some(name) = profile.display_name.as_deref().map(text::line).filter(|name| !name.is_empty())
    {
        return if profile.display_name_ambiguous { format!("{name} ({})", text::line(user)) } else { name };
    }
    text::line(user)
}

fn delivery(event: &EventTimelineItem, own: bool) -> Delivery {
    match event.send_state() {
        Some(EventSendState::NotSentYet { .. }) => Delivery::Sending,
        Some(EventSendState::SendingFailed { is_recoverable: true, .. }) => Delivery::Sending,
        Some(EventSendState::SendingFailed { error, .. }) => Delivery::Failed(text::line(&error.to_string())),
        Some(EventSendState::Sent { .. }) => Delivery::Stored,
        None if own && event.content().as_msglike().is_some() && !event.content().is_redacted() => Delivery::Stored,
        None => Delivery::None,
    }
}

fn warning(event: &EventTimelineItem) -> Option<Warning> {
    let code = match event.get_shield(false) {
        TimelineEventShieldState::Red { code } => code,
        _ => return None,
    };
    let words = match code {
        Shield::SentInClear => "not encrypted",
        Shield::UnknownDevice => "from an unknown device",
        Shield::UnsignedDevice => "from a device its owner has not confirmed",
        Shield::VerificationViolation => "the sender's keys have changed: verify anew",
        Shield::MismatchedSender => "the sender is not who encrypted it",
        _ => "who sent it is not certain",
    };
    let grave = matches!(code, Shield::SentInClear | Shield::VerificationViolation | Shield::MismatchedSender);
    Some(Warning { words, grave })
}

/// What it says, and its text as it was written.
fn body(content: &TimelineItemContent) -> (Body, String) {
    let none = String::new;
    match content {
        TimelineItemContent::MsgLike(content) => match &content.kind {
            MsgLikeKind::Message(message) => of_type(message.msgtype()),
            MsgLikeKind::Sticker(sticker) => {
                let name = text::line(&sticker.content().body);
                (Body::File(File { kind: FileKind::Photo, name, bytes: None, caption: None }), none())
            }
            MsgLikeKind::Redacted => (Body::Deleted, none()),
            MsgLikeKind::UnableToDecrypt(message) => (Body::Undecryptable(reason(message).to_owned()), none()),
            MsgLikeKind::Poll(poll) => {
                let poll = poll.results();
                let answers =
                    poll.answers.iter().take(20).map(|answer| format!("\n- {}", answer.text)).collect::<String>();
                (Body::Text(text::block(&format!("poll: {}{answers}", poll.question))), none())
            }
            MsgLikeKind::Other(other) => (unknown(&other.event_type().to_string()), none()),
            MsgLikeKind::LiveLocation(_) => (Body::Placeholder("a location that moves".to_owned()), none()),
        },
        TimelineItemContent::MembershipChange(change) => {
            let who = change.display_name().unwrap_or_else(|| change.user_id().to_string());
            let what = match change.change() {
                Some(MembershipChange::Joined | MembershipChange::InvitationAccepted) => "joined",
                Some(MembershipChange::Left) => "left",
                Some(MembershipChange::Banned | MembershipChange::KickedAndBanned) => "was banned",
                Some(MembershipChange::Unbanned) => "may come again",
                Some(MembershipChange::Kicked) => "was removed",
                Some(MembershipChange::Invited | MembershipChange::KnockAccepted) => "was invited",
                Some(MembershipChange::InvitationRejected) => "declined",
                Some(MembershipChange::InvitationRevoked) => "is no longer invited",
                Some(MembershipChange::Knocked) => "asks to be let in",
                _ => "changed something about themselves",
            };
            (Body::Change(text::line(&format!("{who} {what}"))), none())
        }
        TimelineItemContent::ProfileChange(change) => {
            let what = match change.displayname_change() {
                Some(names) => {
                    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| change.user_id().to_string());
                    format!("{} is now {}", text::line(&name(&names.old)), text::line(&name(&names.new)))
                }
                None => format!("{} has a new picture", change.user_id()),
            };
            (Body::Change(text::line(&what)), none())
        }
        TimelineItemContent::OtherState(state) => (Body::Change(text::line(&state_change(state.content()))), none()),
        TimelineItemContent::FailedToParseMessageLike { event_type, .. } => (unknown(&event_type.to_string()), none()),
        TimelineItemContent::FailedToParseState { event_type, .. } => {
            (Body::Change(text::line(&format!("changed {event_type} in a way that is not understood"))), none())
        }
        TimelineItemContent::CallInvite | TimelineItemContent::RtcNotification { .. } => {
            (Body::Placeholder("a call: not possible in a terminal".to_owned()), none())
        }
    }
}

fn unknown(kind: &str) -> Body {
    Body::Placeholder(format!("something of type {} that this program does not show", text::fit(&text::line(kind), 60)))
}

fn of_type(kind: &MessageType) -> (Body, String) {
    let file = |kind, name: &str, bytes: Option<u64>, caption: Option<&str>| {
        let caption = caption.map(text::block).filter(|caption| !caption.is_empty());
        Body::File(File { kind, name: text::line(name), bytes, caption })
    };
    let source = kind.body().to_owned();
    let body = match kind {
        MessageType::Text(content) => Body::Text(readable(&content.body, content.formatted.as_ref())),
        MessageType::Notice(content) => Body::Notice(readable(&content.body, content.formatted.as_ref())),
        MessageType::Emote(content) => Body::Emote(readable(&content.body, content.formatted.as_ref())),
        MessageType::ServerNotice(content) => Body::Notice(text::block(&content.body)),
        MessageType::Image(content) => {
            let bytes = content.info.as_ref().and_then(|info| info.size).map(Into::into);
            file(FileKind::Photo, content.filename(), bytes, content.caption())
        }
        MessageType::Video(content) => {
            let bytes = content.info.as_ref().and_then(|info| info.size).map(Into::into);
            file(FileKind::Video, content.filename(), bytes, content.caption())
        }
        MessageType::Audio(content) => {
            let bytes = content.info.as_ref().and_then(|info| info.size).map(Into::into);
            file(FileKind::Audio, content.filename(), bytes, content.caption())
        }
        MessageType::File(content) => {
            let bytes = content.info.as_ref().and_then(|info| info.size).map(Into::into);
            file(FileKind::File, content.filename(), bytes, content.caption())
        }
        MessageType::Location(content) => {
            Body::Text(text::block(&format!("location: {} {}", content.body, content.geo_uri)))
        }
        MessageType::VerificationRequest(_) => Body::Placeholder("asked to be verified".to_owned()),
        other => match text::block(other.body()) {
            body if body.is_empty() => unknown(other.msgtype()),
            body => Body::Text(body),
        },
    };
    (body, source)
}

/// The plain body. The formatted one is never shown: it is HTML of a stranger, and says the same.
fn readable(body: &str, _formatted: Option<&FormattedBody>) -> String {
    text::block(body)
}

fn reason(message: &EncryptedMessage) -> &'static str {
    use matrix_sdk_base::crypto::types::events::UtdCause;
    match message {
        EncryptedMessage::MegolmV1AesSha2 { cause, .. } => match cause {
            UtdCause::SentBeforeWeJoined => "it was sent before you were here",
            UtdCause::VerificationViolation => "the sender's keys have changed: verify them anew",
            UtdCause::UnsignedDevice | UtdCause::UnknownDevice => "its device is not confirmed by its owner",
            UtdCause::HistoricalMessageAndBackupIsDisabled => {
                "it is older than this device, and there is no backup of keys"
            }
            UtdCause::HistoricalMessageAndDeviceIsUnverified => {
                "it is older than this device: /verify or /recover opens it"
            }
            UtdCause::WithheldForUnverifiedOrInsecureDevice => "its sender shares keys with verified devices only",
            UtdCause::WithheldBySender => "its sender keeps the key back",
            _ => "its key has not come; it opens when it does",
        },
        _ => "it is encrypted in a way that is not known here",
    }
}

fn words(content: &TimelineItemContent) -> String {
    match body(content) {
        (Body::Text(text) | Body::Notice(text) | Body::Emote(text), _) => text,
        (Body::File(file), _) => format!("{} {}", file.kind.sign(), file.name),
        (Body::Deleted, _) => "deleted".to_owned(),
        (Body::Undecryptable(_), _) => "cannot be read yet".to_owned(),
        (Body::Change(text) | Body::Placeholder(text), _) => text,
        (Body::Day | Body::NewFromHere | Body::Beginning, _) => String::new(),
    }
}

fn state_change(content: &Other) -> String {
    match content {
        Other::RoomCreate(_) => "the room was made".to_owned(),
        Other::RoomEncryption(_) => "messages are encrypted from here on".to_owned(),
        Other::RoomName(StateEventContentChange::Original { content, .. }) => {
            format!("the room is now called {}", content.name)
        }
        Other::RoomTopic(StateEventContentChange::Original { content, .. }) => {
            format!("the topic is now: {}", content.topic)
        }
        Other::RoomAvatar(_) => "the room has a new picture".to_owned(),
        Other::RoomJoinRules(_) => "who may join was changed".to_owned(),
        Other::RoomHistoryVisibility(_) => "who may read the past was changed".to_owned(),
        Other::RoomGuestAccess(_) => "whether guests may come was changed".to_owned(),
        Other::RoomPowerLevels(_) => "who may do what was changed".to_owned(),
        Other::RoomPinnedEvents(_) => "the pinned messages were changed".to_owned(),
        Other::RoomTombstone(_) => "this room was replaced by another".to_owned(),
        Other::RoomCanonicalAlias(_) => "the room's address was changed".to_owned(),
        Other::RoomServerAcl(_) => "which servers may take part was changed".to_owned(),
        other => format!("changed: {}", other.event_type()),
    }
}
