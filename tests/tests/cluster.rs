//! Groups of nodes through crashes and cuts: nothing acknowledged is lost, nothing appears twice, all agree.

use std::collections::BTreeMap;

use kith_tests::{Client, Cluster, eventually};

/// Waits until all have the same texts and the same state, and gives the texts.
async fn agreed(clients: &[Client], room: &str, count: usize) -> Vec<(String, String)> {
    eventually("agreement", async || {
        let first = clients[0].texts(room).await;
        if first.len() < count {
            return None;
        }
        let state = clients[0].state(room).await;
        for client in &clients[1..] {
            let mut theirs = client.texts(room).await;
            let mut ours = first.clone();
            theirs.sort();
            ours.sort();
            if theirs != ours || client.state(room).await != state {
                return None;
            }
        }
        Some(first)
    })
    .await
}

fn none_twice(texts: &[(String, String)]) {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for (text, _) in texts {
        *times.entry(text).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "shown twice: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_five_nodes_hears_everybody_in_the_order_each_spoke() {
    let cluster = Cluster::start(5, 1).await;
    let mut clients = Vec::new();
    for index in 0..5 {
        clients.push(cluster.register(index, &format!("user{index}")).await);
    }
    let others: Vec<&str> = clients[1..].iter().map(|client| client.user.as_str()).collect();
    let room = clients[0].create_room(&others).await;
    for client in &clients[1..] {
        client.join(&room).await;
    }
    for number in 0..10 {
        for (index, client) in clients.iter().enumerate() {
            client.say(&room, &format!("{index}-{number}")).await.expect("sent");
        }
    }
    let texts = agreed(&clients, &room, 50).await;
    none_twice(&texts);
    for index in 0..5 {
        let own: Vec<&str> =
            texts.iter().map(|(text, _)| text.as_str()).filter(|text| text.starts_with(&format!("{index}-"))).collect();
        let expected: Vec<String> = (0..10).map(|number| format!("{index}-{number}")).collect();
        assert_eq!(own, expected, "what user{index} said came out of order");
    }
}

/// Everybody speaks at once, so that events overtake each other on their ways. A message that came behind one that follows it
/// was once put into the history only, where no sync shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_five_people_say_at_the_same_time_is_shown_to_everybody_by_sync_once_and_in_order() {
    const EACH: usize = 20;
    for seed in 0..rounds(4) {
        let cluster = Cluster::start_slow(5, seed, 150).await;
        let mut clients = Vec::new();
        for index in 0..5 {
            clients.push(cluster.register(index, &format!("user{index}")).await);
        }
        let others: Vec<&str> = clients[1..].iter().map(|client| client.user.as_str()).collect();
        let room = clients[0].create_room(&others).await;
        for client in &clients[1..] {
            client.join(&room).await;
        }
        let talk = clients.iter().enumerate().map(|(index, client)| {
            let room = &room;
            async move {
                for number in 0..EACH {
                    client.say(room, &format!("{index}-{number}")).await.expect("sent");
                }
            }
        });
        let listen = clients.iter().enumerate().map(|(index, client)| {
            let room = &room;
            async move {
                let (mut seen, mut since): (Vec<String>, Option<String>) = (Vec::new(), None);
                eventually(&format!("seed {seed}: user{index} hears everybody"), async || {
                    let (texts, next) = client.sync(room, since.as_deref()).await.expect("synced");
                    seen.extend(texts);
                    since = Some(next);
                    (seen.len() >= 5 * EACH).then_some(())
                })
                .await;
                for speaker in 0..5 {
                    let prefix = format!("{speaker}-");
                    let own: Vec<&String> = seen.iter().filter(|text| text.starts_with(&prefix)).collect();
                    let said: Vec<String> = (0..EACH).map(|number| format!("{prefix}{number}")).collect();
                    assert_eq!(own, said.iter().collect::<Vec<_>>(), "seed {seed}: user{index} reads user{speaker}");
                }
            }
        });
        futures::future::join(futures::future::join_all(talk), futures::future::join_all(listen)).await;
    }
}

/// How many rounds a test takes: as many as `KITH_ROUNDS` says, for a search that takes its time.
fn rounds(usual: u64) -> u64 {
    std::env::var("KITH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_while_200_messages_were_written_gets_them_all_in_order() {
    let cluster = Cluster::start(2, 2).await;
    let clients = [cluster.register(0, "alice").await, cluster.register(1, "bob").await];
    let room = clients[0].create_room(&[&clients[1].user]).await;
    clients[1].join(&room).await;
    cluster.isolate(1, true);
    let expected: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    for text in &expected {
        clients[0].say(&room, text).await.expect("sent");
    }
    cluster.isolate(1, false);
    agreed(&clients, &room, 200).await;
    let texts: Vec<String> = clients[1].texts(&room).await.into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_in_traffic_lose_nothing_that_was_acknowledged() {
    for seed in 0..4u64 {
        let mut cluster = Cluster::start(2, seed).await;
        let mut clients = vec![cluster.register(0, "alice").await, cluster.register(1, "bob").await];
        let room = clients[0].create_room(&[&clients[1].user]).await;
        clients[1].join(&room).await;
        let mut acknowledged = Vec::new();
        for round in 0..3u64 {
            // Both speak; the power of one is cut while its messages are on their way.
            let crashed = usize::try_from((seed + round) % 2).expect("0 or 1");
            let say = |who: usize| {
                let (client, room) = (clients[who].clone(), room.clone());
                async move {
                    let mut sent = Vec::new();
                    for number in 0..15 {
                        if let Ok(id) = client.say(&room, &format!("{round}-{who}-{number}")).await {
                            sent.push(id);
                        }
                    }
                    sent
                }
            };
            let (here, there) = (say(0), say(1));
            let heard = clients[crashed].clone();
            let wanted = acknowledged.len() + 6;
            let power_cut = async {
                eventually("some traffic", async || (heard.texts(&room).await.len() >= wanted).then_some(())).await;
                cluster.crash(crashed, seed * 31 + round).await;
            };
            let (one, other, ()) = tokio::join!(here, there, power_cut);
            acknowledged.extend(one.into_iter().chain(other));
            cluster.restart(crashed).await;
            clients[crashed] = cluster.again(crashed, &clients[crashed]);
        }
        let texts = agreed(&clients, &room, acknowledged.len()).await;
        none_twice(&texts);
        let shown: Vec<&String> = texts.iter().map(|(_, id)| id).collect();
        for id in &acknowledged {
            assert!(shown.contains(&id), "seed {seed}: {id} was acknowledged and is lost");
        }
    }
}
