//! From a server name to the addresses, the `Host` header and the certificate of its server.
//!
//! Server-server specification, "Resolving server names". DNS and the well-known request stand behind traits, so that each branch
//! is tested without a network; nothing is connected to here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::host::{self, FEDERATION_PORT, Host};
use super::srv::{Srv, order};
use super::well_known::{self, Cache, Fetch, Found};
use super::{Counters, HttpsError};
use crate::Timer;

/// How many servers of SRV records are tried.
const MOST_TARGETS: usize = 4;

/// Asks DNS.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a host. `Err`: what went wrong, for a person.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;

    /// The SRV records under a name; empty where there are none.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>>;
}

/// Where a server is, and who it must prove to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whom to connect to, in this order.
    pub targets: Vec<(Host, u16)>,
    /// What stands in `Host`.
    pub host_header: String,
    /// What its certificate must be for. A name is sent as SNI too.
    pub certificate: Host,
}

type Asking = Shared<BoxFuture<'static, Option<String>>>;

/// Finds servers, and remembers what hosts say in their well-known documents.
pub struct Discovery {
    resolve: Arc<dyn Resolve>,
    fetch: Arc<dyn Fetch>,
    timer: Arc<dyn Timer>,
    below: super::Below,
    counters: Arc<Counters>,
    cache: Arc<Mutex<Cache>>,
    /// Requests under way: one for each host, however many wait for it. It ends when nobody waits any more.
    asking: Mutex<BTreeMap<String, WeakShared<BoxFuture<'static, Option<String>>>>>,
}

impl Discovery {
    /// Discovery by these means.
    pub(super) fn new(
        resolve: Arc<dyn Resolve>,
        fetch: Arc<dyn Fetch>,
        timer: Arc<dyn Timer>,
        below: super::Below,
        counters: Arc<Counters>,
    ) -> Self {
        Self { resolve, fetch, timer, below, counters, cache: Arc::default(), asking: Mutex::default() }
    }

    /// Finds the server of a name.
    ///
    /// # Errors
    /// The name is none, or its owner says that there is no server.
    pub async fn route(&self, name: &str) -> Result<Route, HttpsError> {
        let (host, port) = host::parse(name).ok_or(HttpsError::Name)?;
        let host = match fixed(name, host, port) {
            Ok(route) => return Ok(route),
            Err(host) => host,
        };
        let Some(delegated) = self.delegated(&host).await else { return self.by_service(host).await };
        let (host, port) = host::parse(&delegated).ok_or(HttpsError::Name)?;
        match fixed(&delegated, host, port) {
            Ok(route) => Ok(route),
            Err(host) => self.by_service(host).await,
        }
    }

    /// Another network may answer where this one did not.
    pub fn network_changed(&self) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).forget_silence();
    }

    /// The server of a host without a port: by the SRV record, by the older one, else at the port of federation.
    async fn by_service(&self, host: String) -> Result<Route, HttpsError> {
        for service in ["_matrix-fed", "_matrix"] {
            let records = match self.resolve.services(&format!("{service}._tcp.{host}")).await {
                Ok(records) if records.is_empty() => continue,
                Ok(records) => records,
                Err(reason) => {
                    // Not every resolver gives such records; most servers have none.
                    tracing::debug!(%host, reason, "no SRV records could be looked up");
                    continue;
                }
            };
            let targets: Vec<(Host, u16)> = order(records, &*self.below)
                .into_iter()
                .filter(|record| record.port != 0)
                .filter_map(|record| match host::parse(&record.target) {
                    Some((host @ Host::Name(_), None)) => Some((host, record.port)),
                    _ => None,
                })
                .take(MOST_TARGETS)
                .collect();
            if targets.is_empty() {
                return Err(HttpsError::NotOffered);
            }
            return Ok(Route { targets, host_header: host.clone(), certificate: Host::Name(host) });
        }
        let name = Host::Name(host.clone());
        Ok(Route { targets: vec![(name.clone(), FEDERATION_PORT)], host_header: host, certificate: name })
    }

    /// To whom a host delegates.
    async fn delegated(&self, host: &str) -> Option<String> {
        let now = self.timer.now();
        if let Some(known) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(host, now) {
            return known;
        }
        self.ask(host).await
    }

    fn ask(&self, host: &str) -> Asking {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.retain(|_, asked| asked.upgrade().is_some_and(|asked| asked.peek().is_none()));
        if let Some(asked) = asking.get(host).and_then(WeakShared::upgrade) {
            return asked;
        }
        let (fetch, cache, timer) = (self.fetch.clone(), self.cache.clone(), self.timer.clone());
        let (counters, name) = (self.counters.clone(), host.to_owned());
        let asked = async move {
            let found = well_known::ask(&*fetch, &name).await;
            match &found {
                Found::Delegates(..) => {}
                Found::Nothing(reason) | Found::Silent(reason) => {
                    counters.without_well_known.add();
                    tracing::debug!(host = name, reason, "no well-known document");
                }
                Found::Invalid(reason) => {
                    counters.invalid_well_known.add();
                    tracing::info!(host = name, reason, "no valid well-known document");
                }
            }
            cache.lock().unwrap_or_else(PoisonError::into_inner).put(&name, &found, timer.now())
        };
        let asked = asked.boxed().shared();
        if let Some(weak) = asked.downgrade() {
            asking.insert(host.to_owned(), weak);
        }
        asked
    }
}

/// The route of a name with an address or a port, which no record can change; else the host.
fn fixed(name: &str, host: Host, port: Option<u16>) -> Result<Route, String> {
    let port = match (&host, port) {
        (_, Some(port)) => port,
        (Host::Ip(_), None) => FEDERATION_PORT,
        (Host::Name(host), None) => return Err(host.clone()),
    };
    Ok(Route { targets: vec![(host.clone(), port)], host_header: name.to_owned(), certificate: host })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::executor::block_on;
    use http::Uri;

    use super::super::well_known::Answer;
    use super::*;

    #[derive(Default)]
    struct World {
        services: BTreeMap<String, Result<Vec<Srv>, String>>,
        documents: BTreeMap<String, String>,
        asked: Mutex<Vec<String>>,
        gate: Mutex<Option<Shared<futures::channel::oneshot::Receiver<()>>>>,
    }

    impl Resolve for World {
        fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
            panic!("routes are made without looking up addresses")
        }

        fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
            self.asked.lock().unwrap().push(name.to_owned());
            Box::pin(futures::future::ready(self.services.get(name).cloned().unwrap_or(Ok(Vec::new()))))
        }
    }

    impl Fetch for World {
        fn get(&self, url: Uri) -> BoxFuture<'_, Result<Answer, String>> {
            self.asked.lock().unwrap().push(url.to_string());
            let document = self.documents.get(url.host().unwrap()).cloned();
            let gate = self.gate.lock().unwrap().clone();
            Box::pin(async move {
                if let Some(gate) = gate {
                    let _ = gate.await;
                }
                let body = document.map(|server| Bytes::from(format!(r#"{{"m.server":"{server}"}}"#)));
                let status = if body.is_some() { 200 } else { 404 };
                Ok(Answer {
                    status,
                    location: None,
                    cache_control: None,
                    expires: None,
                    body: Some(body.unwrap_or_default()),
                })
            })
        }
    }

    struct Stopped;

    impl Timer for Stopped {
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(futures::future::pending())
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn discovery(world: World) -> (Discovery, Arc<World>) {
        let world = Arc::new(world);
        let below: super::super::Below = Arc::new(|_| 0);
        let discovery =
            Discovery::new(world.clone(), world.clone(), Arc::new(Stopped), below, Arc::new(Counters::default()));
        (discovery, world)
    }

    fn srv(target: &str, port: u16) -> Srv {
        Srv { priority: 1, weight: 1, target: target.to_owned(), port }
    }

    fn world(documents: &[(&str, &str)], services: &[(&str, Vec<Srv>)]) -> World {
        World {
            documents: documents.iter().map(|(host, server)| ((*host).to_owned(), (*server).to_owned())).collect(),
            services: services.iter().map(|(name, records)| ((*name).to_owned(), Ok(records.clone()))).collect(),
            ..World::default()
        }
    }

    /// Each branch of the specification: name, where to connect, `Host`, certificate, how much was asked.
    #[test]
    fn each_branch_of_the_specification_leads_to_its_server() {
        let documents = [
            ("ip.test", "192.0.2.7"),
            ("ip-port.test", "[2001:db8::7]:9"),
            ("port.test", "matrix.port.test:443"),
            ("srv.test", "deleg.test"),
            ("plain.test", "plain-deleg.test"),
            ("old.test", "old-deleg.test"),
        ];
        let services = [
            ("_matrix-fed._tcp.deleg.test", vec![srv("host.test", 7)]),
            ("_matrix._tcp.deleg.test", vec![srv("never.test", 1)]),
            ("_matrix._tcp.old-deleg.test", vec![srv("old-host.test", 6)]),
            ("_matrix-fed._tcp.no-document.test", vec![srv("new.test", 5)]),
            ("_matrix._tcp.older.test", vec![srv("older-host.test", 4)]),
            // The well-known document has the last word.
            ("_matrix-fed._tcp.port.test", vec![srv("never.test", 1)]),
        ];
        let table = [
            // 1. An address.
            ("192.0.2.1", "192.0.2.1 8448", "192.0.2.1", "192.0.2.1", 0),
            ("192.0.2.1:1", "192.0.2.1 1", "192.0.2.1:1", "192.0.2.1", 0),
            ("[2001:db8::1]:2", "2001:db8::1 2", "[2001:db8::1]:2", "2001:db8::1", 0),
            // 2. A port.
            ("example.org:3", "example.org 3", "example.org:3", "example.org", 0),
            // 3.1 to 3.5. A well-known document.
            ("ip.test", "192.0.2.7 8448", "192.0.2.7", "192.0.2.7", 1),
            ("ip-port.test", "2001:db8::7 9", "[2001:db8::7]:9", "2001:db8::7", 1),
            ("port.test", "matrix.port.test 443", "matrix.port.test:443", "matrix.port.test", 1),
            ("srv.test", "host.test 7", "deleg.test", "deleg.test", 2),
            ("old.test", "old-host.test 6", "old-deleg.test", "old-deleg.test", 3),
            ("plain.test", "plain-deleg.test 8448", "plain-deleg.test", "plain-deleg.test", 3),
            // 4 to 6. None.
            ("no-document.test", "new.test 5", "no-document.test", "no-document.test", 2),
            ("older.test", "older-host.test 4", "older.test", "older.test", 3),
            ("nothing.test", "nothing.test 8448", "nothing.test", "nothing.test", 3),
        ];
        for (name, target, host_header, certificate, asked) in table {
            let (discovery, world) = discovery(world(&documents, &services));
            let route = block_on(discovery.route(name)).unwrap();
            let targets: Vec<_> = route.targets.iter().map(|(host, port)| format!("{host} {port}")).collect();
            assert_eq!(targets, [target], "{name}");
            assert_eq!(route.host_header, host_header, "{name}");
            assert_eq!(route.certificate.to_string(), certificate, "{name}");
            assert_eq!(world.asked.lock().unwrap().len(), asked, "{name}");
        }
    }

    #[test]
    fn a_document_is_asked_for_once_and_again_when_the_network_changed_only_after_silence() {
        let (discovery, world) = discovery(world(&[("a.test", "b.test:1")], &[]));
        for _ in 0..3 {
            block_on(discovery.route("a.test")).unwrap();
            block_on(discovery.route("none.test")).unwrap();
            discovery.network_changed();
        }
        let asked = world.asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|asked| asked.starts_with("https")).count(), 2, "{asked:?}");
    }

    #[test]
    fn many_that_wait_for_one_document_ask_once_and_one_that_gives_up_takes_nothing_from_the_others() {
        let (open, gate) = futures::channel::oneshot::channel();
        let (discovery, world) = discovery(world(&[("a.test", "b.test:1")], &[]));
        *world.gate.lock().unwrap() = Some(gate.shared());
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(discovery.route("a.test"))).collect();
        for route in &mut waiting {
            assert!(route.as_mut().now_or_never().is_none());
        }
        drop(waiting.remove(0));
        open.send(()).unwrap();
        for route in waiting {
            assert_eq!(block_on(route).unwrap().host_header, "b.test:1");
        }
        assert_eq!(world.asked.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_that_does_not_answer_holds_up_nobody_else() {
        let (_open, gate) = futures::channel::oneshot::channel();
        let (discovery, world) = discovery(world(&[], &[]));
        *world.gate.lock().unwrap() = Some(gate.shared());
        let mut slow = Box::pin(discovery.route("slow.test"));
        assert!(slow.as_mut().now_or_never().is_none());
        *world.gate.lock().unwrap() = None;
        assert!(discovery.route("quick.test").now_or_never().is_some());
    }

    #[test]
    fn records_that_lead_nowhere_and_names_that_are_none_are_refused_and_dns_that_fails_is_no_record() {
        let none = vec![srv("", 0)];
        let services = [
            ("_matrix-fed._tcp.a.test", none),
            ("_matrix-fed._tcp.b.test", vec![srv("127.0.0.1", 1), srv("", 1), srv("good.test", 2)]),
        ];
        let mut broken = world(&[], &services);
        broken.services.insert("_matrix-fed._tcp.c.test".to_owned(), Err("refused".to_owned()));
        let (discovery, _) = discovery(broken);
        assert!(matches!(block_on(discovery.route("a.test")), Err(HttpsError::NotOffered)));
        assert_eq!(block_on(discovery.route("b.test")).unwrap().targets, [(Host::Name("good.test".to_owned()), 2)]);
        assert_eq!(block_on(discovery.route("c.test")).unwrap().targets[0].1, FEDERATION_PORT);
        for name in ["", "a b", "a:0", "http://a"] {
            assert!(matches!(block_on(discovery.route(name)), Err(HttpsError::Name)), "{name}");
        }
    }
}
