//! Third-party invites across servers: their exchange for invites, and identity servers that tell of them.

use http::{Method, Request, StatusCode};
use kith::rooms::{Draft, read};
use kith_room::{Builder, Event, Signer, build::build};
use kith_store::tables::rooms::membership::{INVITE, JOIN};
use kith_transport::{Class, Network as _, full, memory::MemoryHub, read_body};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId, RoomVersionId, UInt, UserId, serde::Base64, signatures::sign_json,
};
use serde_json::{Map, Value, json};

use crate::{
    client::Client,
    requests::{Forged, Stranger, key_pair, name},
    world::{Peer, object, until},
};

/// The identity server's key.
const IDENTITY: u8 = 70;

fn invite_content() -> Value {
    let key = Base64::<ruma::serde::base64::Standard, _>::new(key_pair(IDENTITY).public_key().to_vec()).encode();
    json!({"display_name": "t...@example.org", "public_key": key, "key_validity_url": "https://id.example/valid"})
}

/// What the identity server signs for who owns the address.
pub fn signed(user: &UserId, token: &str) -> Value {
    let mut object = serde_json::from_value(json!({"mxid": user, "token": token})).expect("canonical");
    sign_json("id.example", &key_pair(IDENTITY), &mut object).expect("signed");
    serde_json::to_value(object).expect("JSON")
}

/// A room by invite in which the peer has sent a third-party invite with the token `t`.
async fn room_of(one: &Peer, version: RoomVersionId) -> OwnedRoomId {
    let room = one.create_room(version, json!({"join_rule": "invite"})).await.id().to_owned();
    let draft = Draft::state(one.user.clone(), "m.room.third_party_invite", "t", object(invite_content()));
    one.room(&room).send(draft).await.expect("a third-party invite");
    room
}

pub fn template(room: &RoomId, sender: &UserId, invited: &UserId, signed: &Value) -> Value {
    let used = json!({"display_name": "myself", "signed": signed});
    let content = json!({"membership": "invite", "third_party_invite": used});
    json!({"type": "m.room.member", "room_id": room, "sender": sender, "state_key": invited, "content": content})
}

/// Asks `to` for the exchange; gives the error code, none when it was done.
pub async fn exchange(from: &Peer, to: &Peer, room: &RoomId, body: &Value) -> Option<(u16, String)> {
    let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
    let server = to.node().server_name();
    let limit = std::time::Duration::from_secs(30);
    let client = from.node().federation.client();
    match client.request_json(server, Method::PUT, &path, body, Class::Control, limit).await {
        Ok(answer) => {
            assert_eq!(answer, json!({}));
            None
        }
        Err(error) => {
            let status = error.status().expect("an answer").as_u16();
            Some((status, error.errcode().expect("a code").to_owned()))
        }
    }
}

fn member(peer: &Peer, room: &RoomId, user: &UserId) -> Map<String, Value> {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let event = read::state_event(&snapshot, number, "m.room.member", user.as_str()).expect("readable");
    let event = event.expect("a membership");
    Map::from_iter([
        ("sender".to_owned(), json!(event.sender())),
        ("content".to_owned(), Value::Object(event.content().clone())),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_to_be_meant_is_invited_through_its_server_and_joins_in_rooms_of_old_and_new_versions() {
    for version in [RoomVersionId::V1, RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let hub = MemoryHub::new();
        let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
        let room = room_of(&one, version).await;
        let body = template(&room, &one.user, &two.user, &signed(&two.user, "t"));
        assert_eq!(exchange(&two, &one, &room, &body).await, None);
        assert_eq!((one.membership(&room, &two.user), two.membership(&room, &two.user)), (Some(INVITE), Some(INVITE)));
        let invite = member(&one, &room, &two.user);
        assert_eq!(invite["sender"], one.user.as_str());
        let used = &invite["content"]["third_party_invite"];
        assert_eq!(used["signed"], signed(&two.user, "t"));
        assert_eq!(used["display_name"], "t...@example.org", "the name that the room has");

        // Asked once more, as when the answer was lost, it does nothing.
        let before = one.state(&room);
        assert_eq!(exchange(&two, &one, &room, &body).await, None);
        assert_eq!(one.state(&room), before);
        two.join(&room, &one).await.expect("joined");
        until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
        assert_eq!(one.state(&room), two.state(&room));
        // Nor is who is in the room made an invited user again.
        assert_eq!(exchange(&two, &one, &room, &body).await, Some((403, "M_FORBIDDEN".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_proves_nothing_is_refused_and_changes_nothing() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let (two, three) = (Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let room = room_of(&one, RoomVersionId::V12).await;
    let good = template(&room, &one.user, &two.user, &signed(&two.user, "t"));
    let with = |place: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(place).expect("a place") = value;
        body
    };
    let without = |place: &str, field: &str| {
        let mut body = good.clone();
        body.pointer_mut(place).and_then(Value::as_object_mut).expect("an object").remove(field);
        body
    };
    let used = "/content/third_party_invite";
    let mut stolen = signed(&three.user, "t");
    stolen["mxid"] = json!(two.user);
    let before = one.state(&room);
    let cases = [
        (with("/type", json!("m.room.name")), 400, "M_INVALID_PARAM"),
        (with("/room_id", json!("!other:x")), 400, "M_INVALID_PARAM"),
        (with("/content/membership", json!("join")), 400, "M_INVALID_PARAM"),
        (with("/sender", json!("nobody")), 400, "M_BAD_JSON"),
        (with("/state_key", json!(5)), 400, "M_BAD_JSON"),
        (with(used, json!(null)), 400, "M_BAD_JSON"),
        (with(&format!("{used}/display_name"), json!(5)), 400, "M_BAD_JSON"),
        (with(&format!("{used}/signed/signatures"), json!("x")), 400, "M_BAD_JSON"),
        (with(&format!("{used}/signed/token"), json!("t".repeat(256))), 400, "M_INVALID_PARAM"),
        (without("", "room_id"), 400, "M_MISSING_PARAM"),
        (without("", "content"), 400, "M_MISSING_PARAM"),
        (without("/content", "third_party_invite"), 400, "M_MISSING_PARAM"),
        (without(used, "signed"), 400, "M_MISSING_PARAM"),
        (without(&format!("{used}/signed"), "mxid"), 400, "M_MISSING_PARAM"),
        (without(&format!("{used}/signed"), "token"), 400, "M_MISSING_PARAM"),
        (without(&format!("{used}/signed"), "signatures"), 400, "M_MISSING_PARAM"),
        (with(&format!("{used}/signed"), signed(&three.user, "t")), 403, "M_FORBIDDEN"),
        (with(&format!("{used}/signed"), signed(&two.user, "unknown")), 403, "M_FORBIDDEN"),
        (with(&format!("{used}/signed"), stolen), 403, "M_FORBIDDEN"),
        (with(&format!("{used}/signed/signatures"), json!({})), 403, "M_FORBIDDEN"),
        (with("/sender", json!(two.user)), 403, "M_FORBIDDEN"),
        // Another server's user.
        (template(&room, &one.user, &three.user, &signed(&three.user, "t")), 403, "M_FORBIDDEN"),
    ];
    for (body, status, errcode) in cases {
        assert_eq!(exchange(&two, &one, &room, &body).await, Some((status, errcode.to_owned())), "{body}");
    }
    let elsewhere = RoomId::parse("!nowhere:x").expect("a room ID");
    let body = template(&elsewhere, &one.user, &two.user, &signed(&two.user, "t"));
    assert_eq!(exchange(&two, &one, &elsewhere, &body).await, Some((404, "M_NOT_FOUND".to_owned())));
    assert_eq!(one.state(&room), before);
    // A ban holds, and so does taking the third-party invite back.
    one.set_member(&room, &two.user, "ban").await;
    assert_eq!(exchange(&two, &one, &room, &good).await, Some((403, "M_FORBIDDEN".to_owned())));
    one.set_member(&room, &two.user, "leave").await;
    let empty = Draft::state(one.user.clone(), "m.room.third_party_invite", "t", Map::new());
    one.room(&room).send(empty).await.expect("taken back");
    assert_eq!(exchange(&two, &one, &room, &good).await, Some((403, "M_FORBIDDEN".to_owned())));
    assert_eq!(two.membership(&room, &two.user), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_of_the_room_makes_the_invite_while_that_of_its_sender_is_away() {
    for version in [RoomVersionId::V6, RoomVersionId::V12] {
        let hub = MemoryHub::new();
        let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
        let room = room_of(&one, version).await;
        super::memberships::invite(&one, &room, &three).await.expect("invited");
        three.join(&room, &one).await.expect("joined");
        hub.isolate(one.key());
        let client = Client::of(&two).await;
        let mut shown = signed(&two.user, "t");
        // Clients are given what the sender's name is signed with, too.
        shown["sender"] = json!(one.user);
        shown.as_object_mut().expect("an object").remove("signatures");
        let mut covered = serde_json::from_value(shown).expect("canonical");
        sign_json("id.example", &key_pair(IDENTITY), &mut covered).expect("signed");
        let path = format!("/join/{room}?via={}", three.node().server_name());
        let (status, answer) = client.call(Method::POST, &path, json!({"third_party_signed": covered})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        hub.rejoin(one.key());
        until("the sender's server believes it", || one.membership(&room, &two.user) == Some(JOIN)).await;
        until("all have one state", || one.state(&room) == two.state(&room)).await;
    }
}

/// An invite of a room of Mallory's server to the user of `to`, in the name of `sender`, and its path.
fn forged_invite(to: &Peer, sender: &UserId, shown: bool) -> (String, Value) {
    let mallory = UserId::parse(format!("@mallory:{}", name(9))).expect("a user");
    let (server_name, key) = (name(9), key_pair(9));
    let make = |builder: Builder, prev: &[ruma::OwnedEventId], depth| {
        let signer = Signer { server_name: &server_name, key: &key };
        let at = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32));
        build(builder, &RoomVersionId::V12, prev, &[], depth, at, signer).expect("an event")
    };
    let content = |value: Value| serde_json::from_value(value).expect("canonical");
    let parse = |event: &Event| serde_json::from_str::<Value>(event.text()).expect("JSON");
    let create = Builder::new(&mallory, "m.room.create", content(json!({"room_version": "12"}))).state_key("");
    let create = make(create, &[], 1);
    let prev = [create.event_id().to_owned()];
    let room = create.room_id().to_owned();
    let used = json!({"display_name": "x", "signed": signed(&to.user, "t")});
    let member = content(json!({"membership": "invite", "third_party_invite": used}));
    let member = Builder::new(sender, "m.room.member", member).state_key(to.user.as_str()).room_id(room.clone());
    let member = make(member, &prev, 2);
    let mut state = vec![parse(&create)];
    if shown {
        let invite = Builder::new(&mallory, "m.room.third_party_invite", content(invite_content()));
        state.push(parse(&make(invite.state_key("t").room_id(room.clone()), &prev, 2)));
    }
    let body = json!({"room_version": "12", "event": parse(&member), "invite_room_state": state});
    (format!("/_matrix/federation/v2/invite/{room}/{}", member.event_id()), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_invited_in_the_name_of_one_whose_third_party_invite_is_not_shown() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let mallory = Stranger::new(&hub, 9);
    let send = async |sender: &UserId, shown: bool| {
        let (path, body) = forged_invite(&two, sender, shown);
        mallory.send(&two, Forged { path: &path, body, ..mallory.honest(&two) }).await
    };
    for shown in [false, true] {
        let (status, answer) = send(&one.user, shown).await;
        assert_eq!((status.as_u16(), &answer["errcode"]), (403, &json!("M_FORBIDDEN")), "{answer}");
    }
    // In its own name a server may.
    let own = UserId::parse(format!("@mallory:{}", name(9))).expect("a user");
    let (status, answer) = send(&own, true).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// An identity server, which signs no request, tells `to` of a binding.
async fn bind(identity: &Stranger, to: &Peer, body: Vec<u8>) -> (u16, Value) {
    bind_by(Method::PUT, identity, to, body).await
}

async fn bind_by(method: Method, identity: &Stranger, to: &Peer, body: Vec<u8>) -> (u16, Value) {
    let uri = format!("https://{}/_matrix/federation/v1/3pid/onbind", to.node().server_name());
    let request = Request::builder().method(method).uri(uri).body(full(body)).expect("a request");
    let response = identity.network.request(to.key(), Class::Control, request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = read_body(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn pending(rooms: &[(&RoomId, Value)], sender: &UserId, user: &UserId) -> Vec<u8> {
    let invites: Vec<Value> = rooms
        .iter()
        .map(|(room, signed)| {
            json!({
                "medium": "email", "address": "a@example.org", "mxid": user, "room_id": room, "sender": sender, "signed": signed,
            })
        })
        .collect();
    json!({"medium": "email", "address": "a@example.org", "mxid": user, "invites": invites}).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_address_is_bound_to_a_user_its_invites_come_and_forged_ones_are_passed_over() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let identity = Stranger::new(&hub, 8);
    let room = room_of(&one, RoomVersionId::V11).await;
    let other = room_of(&one, RoomVersionId::V12).await;
    // In this one the user's server is already.
    let shared = room_of(&one, RoomVersionId::V12).await;
    super::memberships::invite(&one, &shared, &two).await.expect("invited");
    two.join(&shared, &one).await.expect("joined");
    let second = kith::accounts::users::create(two.node(), "second", None, false).await.expect("an account");
    let good = || signed(&second, "t");
    let body = pending(&[(&other, signed(&second, "u")), (&room, good()), (&shared, good())], &one.user, &second);
    assert_eq!(bind(&identity, &two, body.clone()).await, (200, json!({})));
    assert_eq!(two.membership(&room, &second), Some(INVITE));
    assert_eq!(two.membership(&shared, &second), Some(INVITE));
    assert_eq!(member(&two, &shared, &second)["sender"], one.user.as_str());
    assert_eq!(two.membership(&other, &second), None, "what was signed is of another token");
    until("the sender's server takes it", || one.membership(&shared, &second) == Some(INVITE)).await;
    // Twice is once.
    let before = (one.state(&room), two.state(&shared));
    assert_eq!(bind(&identity, &two, body).await.0, 200);
    assert_eq!((one.state(&room), two.state(&shared)), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_server_may_tell_of_a_binding_as_the_ones_do_that_there_are() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let identity = Stranger::new(&hub, 8);
    let room = room_of(&one, RoomVersionId::V12).await;
    // Nothing waits, which the specification says with an empty list.
    let nothing = json!({"medium": "email", "address": "a@example.org", "mxid": two.user, "ts": 1, "signatures": {}});
    let nothing = nothing.to_string().into_bytes();
    assert_eq!(bind_by(Method::POST, &identity, &two, nothing).await, (200, json!({})));
    let body = pending(&[(&room, signed(&two.user, "t"))], &one.user, &two.user);
    assert_eq!(bind_by(Method::POST, &identity, &two, body).await, (200, json!({})));
    assert_eq!(two.membership(&room, &two.user), Some(INVITE));
    for (body, errcode) in [("{", "M_NOT_JSON"), ("[]", "M_BAD_JSON"), ("{}", "M_BAD_JSON")] {
        let (status, answer) = bind_by(Method::POST, &identity, &two, body.into()).await;
        assert_eq!((status, answer["errcode"].as_str()), (400, Some(errcode)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anybody_may_say_of_bindings_is_bounded_and_invites_nobody_who_takes_no_invites() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let anybody = Stranger::new(&hub, 8);
    let room = room_of(&one, RoomVersionId::V12).await;
    let proof = signed(&two.user, "t");
    let refused = async |body: Vec<u8>, status: u16, errcode: &str| {
        let (got, answer) = bind(&anybody, &two, body).await;
        assert_eq!((got, answer["errcode"].as_str()), (status, Some(errcode)), "{answer}");
    };
    let many: Vec<_> = (0..21).map(|_| (&*room, proof.clone())).collect();
    refused(pending(&many, &one.user, &two.user), 413, "M_TOO_LARGE").await;
    refused(vec![b' '; 100_000], 413, "M_TOO_LARGE").await;
    refused(b"{".to_vec(), 400, "M_NOT_JSON").await;
    refused(b"{}".to_vec(), 400, "M_BAD_JSON").await;
    refused(pending(&[(&room, json!("x"))], &one.user, &two.user), 400, "M_BAD_JSON").await;
    refused(pending(&[(&room, json!({}))], &one.user, &two.user), 400, "M_MISSING_PARAM").await;
    refused(pending(&[(&room, proof.clone())], &one.user, &one.user), 400, "M_INVALID_PARAM").await;
    // Nobody learns who has an account.
    let nobody = UserId::parse(format!("@nobody:{}", two.node().server_name())).expect("a user");
    assert_eq!(bind(&anybody, &two, pending(&[(&room, signed(&nobody, "t"))], &one.user, &nobody)).await.0, 200);

    let client = Client::of(&two).await;
    let config = format!("/user/{}/account_data/m.invite_permission_config", two.user);
    let set = async |action: &str| client.call(Method::PUT, &config, json!({"default_action": action})).await.0;
    assert_eq!(set("block").await, StatusCode::OK);
    let body = pending(&[(&room, proof)], &one.user, &two.user);
    assert_eq!(bind(&anybody, &two, body.clone()).await.0, 200);
    assert_eq!(two.membership(&room, &two.user), None);
    assert_eq!(set("allow").await, StatusCode::OK);
    // The identity server is to come again when nobody could be asked.
    hub.isolate(one.key());
    assert_eq!(bind(&anybody, &two, body.clone()).await.0, 502);
    hub.rejoin(one.key());
    assert_eq!(bind(&anybody, &two, body).await.0, 200);
    assert_eq!(two.membership(&room, &two.user), Some(INVITE));
}
