use futures::executor::block_on;

use super::*;
use crate::{SecretKey, empty, full, read_body};

fn key(n: u8) -> ServerKey {
    SecretKey::from_seed([n; 32]).public()
}

/// Answers with the key of who asks and the body; counts what it carried out.
fn echo(count: Arc<Mutex<u32>>) -> Router {
    Router::new(move |request| {
        let count = count.clone();
        async move {
            let peer = request.extensions().get::<RemotePeer>().expect("known").0;
            let body = match read_body(request.into_body(), 1000).await {
                Ok(body) => body,
                Err(error) => return http::Response::new(full(error.to_string())),
            };
            *count.lock().unwrap() += 1;
            http::Response::new(full([peer.to_string().as_bytes(), b" ", &body].concat()))
        }
    })
}

fn ask(network: &MemoryNetwork, peer: ServerKey) -> Result<String, NetworkError> {
    block_on(async {
        let request = http::Request::new(full("hello"));
        let response = network.request(peer, Class::Control, request).await?;
        let body = read_body(response.into_body(), 1000)
            .await
            .map_err(|error| NetworkError::Lost { peer, reason: error.to_string() })?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    })
}

struct Three {
    hub: MemoryHub,
    nodes: [Arc<MemoryNetwork>; 3],
    carried_out: Arc<Mutex<u32>>,
}

fn three() -> Three {
    let hub = MemoryHub::new();
    let carried_out = Arc::new(Mutex::new(0));
    let nodes = [1, 2, 3].map(|n| hub.join(key(n), echo(carried_out.clone())));
    Three { hub, nodes, carried_out }
}

fn drain(events: &mut broadcast::Receiver<NetworkEvent>) -> Vec<NetworkEvent> {
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

#[test]
fn a_request_arrives_with_the_senders_key() {
    let t = three();
    let answer = ask(&t.nodes[0], key(2)).unwrap();
    assert_eq!(answer, format!("{} hello", key(1)));
}

#[test]
fn a_forged_peer_in_the_request_is_replaced() {
    let t = three();
    let mut request = http::Request::new(empty());
    request.extensions_mut().insert(RemotePeer(key(3)));
    let response = block_on(t.nodes[0].request(key(2), Class::Bulk, request)).unwrap();
    let body = block_on(read_body(response.into_body(), 1000)).unwrap();
    assert!(body.starts_with(key(1).to_string().as_bytes()));
}

#[test]
fn a_cut_link_stops_requests_until_it_heals_and_both_ends_are_told() {
    let t = three();
    let mut events = t.nodes[0].events();
    t.hub.cut(key(1), key(2));
    t.hub.cut(key(2), key(1));
    let error = ask(&t.nodes[0], key(2)).unwrap_err();
    assert!(matches!(error, NetworkError::Unreachable { .. }) && !error.maybe_delivered());
    assert!(ask(&t.nodes[0], key(3)).is_ok());
    t.hub.heal(key(2), key(1));
    assert!(ask(&t.nodes[0], key(2)).is_ok());
    let peer = key(2);
    assert_eq!(
        drain(&mut events),
        [
            NetworkEvent::Disconnected { peer },
            NetworkEvent::Lost { peer },
            NetworkEvent::Discovered { peer },
            NetworkEvent::Connected { peer, direct: true },
        ]
    );
}

#[test]
fn an_isolated_node_reaches_nobody_and_rejoins() {
    let t = three();
    t.hub.isolate(key(1));
    assert!(ask(&t.nodes[0], key(2)).is_err() && ask(&t.nodes[2], key(1)).is_err());
    assert!(t.nodes[0].peers().is_empty());
    assert_eq!(t.nodes[1].peers().len(), 1);
    t.hub.rejoin(key(1));
    assert!(ask(&t.nodes[0], key(2)).is_ok());
}

#[test]
fn faults_strike_the_chosen_request_once() {
    let t = three();
    t.hub.fail(key(1), key(2), 1, Fault::LoseResponse);
    t.hub.fail(key(1), key(2), 2, Fault::Unreachable);
    t.hub.fail(key(1), key(2), 3, Fault::BreakBody);
    assert!(ask(&t.nodes[0], key(2)).is_ok());
    let lost = ask(&t.nodes[0], key(2)).unwrap_err();
    assert!(lost.maybe_delivered());
    assert_eq!(*t.carried_out.lock().unwrap(), 2, "it was carried out all the same");
    let unreachable = ask(&t.nodes[0], key(2)).unwrap_err();
    assert!(!unreachable.maybe_delivered());
    assert_eq!(*t.carried_out.lock().unwrap(), 2);
    assert!(ask(&t.nodes[0], key(2)).is_err(), "the body broke off");
    assert!(ask(&t.nodes[0], key(2)).is_ok());
    assert!(ask(&t.nodes[1], key(1)).is_ok(), "the other direction has no faults");
    assert_eq!(t.hub.requests(), 6);
}

#[test]
fn a_body_breaks_off_when_the_link_is_cut_under_it() {
    let t = three();
    let response = block_on(t.nodes[0].request(key(2), Class::Bulk, http::Request::new(empty())));
    t.hub.cut(key(1), key(2));
    let body = block_on(read_body(response.unwrap().into_body(), 1000));
    assert!(matches!(body, Err(crate::BodyError::Broken(_))));
}

#[test]
fn after_shutdown_nothing_is_sent_and_the_others_know() {
    let t = three();
    let mut events = t.nodes[1].events();
    block_on(t.nodes[0].shutdown());
    assert_eq!(ask(&t.nodes[0], key(2)), Err(NetworkError::Closed));
    assert!(ask(&t.nodes[1], key(1)).is_err());
    let peer = key(1);
    assert_eq!(drain(&mut events), [NetworkEvent::Disconnected { peer }, NetworkEvent::Lost { peer }]);
    // The node comes back under the same key; the old end stays closed.
    let again = t.hub.join(key(1), echo(t.carried_out.clone()));
    assert!(ask(&again, key(2)).is_ok());
    assert_eq!(ask(&t.nodes[0], key(2)), Err(NetworkError::Closed));
}

#[test]
fn nobody_asks_himself() {
    let t = three();
    assert_eq!(ask(&t.nodes[0], key(1)), Err(NetworkError::Ourselves));
}
