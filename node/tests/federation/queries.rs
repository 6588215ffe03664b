//! What servers ask each other about rooms and names.

use kith_transport::memory::MemoryHub;
use ruma::RoomAliasId;
use serde_json::{Map, Value};

use crate::world::{Peer, until};

#[tokio::test]
async fn an_alias_of_another_server_leads_into_its_room() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    let alias = RoomAliasId::parse(format!("#room:{}", one.node().server_name())).expect("an alias");
    let missing = two.node().federation.resolve_alias(&alias).await.expect_err("not made yet");
    assert!(missing.is("M_NOT_FOUND"));
    let row = kith_store::tables::directory::AliasRow { room_id: room.to_string(), creator: one.user.to_string() };
    let key = alias.to_string();
    one.node()
        .store
        .write(move |tx| kith_store::tables::directory::ALIASES.put(tx, &key, &kith_store::Json(row)))
        .await
        .expect("stored");
    let (found, servers) = two.node().federation.resolve_alias(&alias).await.expect("found");
    assert_eq!((found.as_str(), servers.as_slice()), (room.as_str(), [one.node().server_name().to_owned()].as_slice()));
    two.node().federation.join(&two.user, &found, &servers, &Map::<String, Value>::new()).await.expect("joined");
    until("the join is known", || one.state(&room) == two.state(&room)).await;
}

#[tokio::test]
async fn a_server_of_the_dns_world_cannot_be_invited_among_names_without_a_zone() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let room = one.public_room().await;
    let target = ruma::user_id!("@someone:example.org");
    let refused = one.node().federation.invite(&room, &one.user, target, &Map::new()).await.expect_err("refused");
    assert!(refused.is("M_FORBIDDEN") && refused.message.contains("gateway"), "{refused}");
    let via = [ruma::owned_server_name!("example.org")];
    let refused = one.node().federation.join(&one.user, ruma::room_id!("!a:example.org"), &via, &Map::new()).await;
    let refused = refused.expect_err("refused");
    assert!(refused.is("M_FORBIDDEN") && refused.message.contains("gateway"), "{refused}");
}
