//! Discovery on the local network: DNS-SD over multicast DNS (RFC 6762, RFC 6763), service `_kith._udp.local`.
//!
//! TXT entries: `v=1`; the listening ports `q4`, `q6` (QUIC over IPv4 and IPv6), `t4`, `t6` (TCP); and who it is: `id`, the server
//! key as in a name, in mode "everyone", or the [`tags`] in mode "contacts". Nothing announced is believed: it leads to an
//! attempt to connect, in which the peer must prove the key.

mod seen;
mod tags;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD;
use libp2p::Multiaddr;
use mdns_sd::{
    DaemonEvent, IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo, TxtProperty,
    UnregisterStatus,
};
use rand::Rng as _;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::addresses::{is_dialable, quic, socket, tcp};
use super::config::MdnsMode;
use super::shared::Shared;
use crate::ServerKey;
use seen::Seen;
use tags::Tags;

const SERVICE: &str = "_kith._udp.local.";
const VERSION: &str = "1";
/// How often, in seconds, the interfaces' addresses are looked up.
const INTERFACES: u32 = 3;
/// Names of our own that are remembered.
const MAX_OWN_NAMES: usize = 1024;
/// Addresses taken from one service.
const MAX_SERVICE_ADDRESSES: usize = 16;
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Before a daemon that was flooded is replaced.
const FLOODED: Duration = Duration::from_secs(1);
/// How long after the start of a session those it has not heard of, but the one before had, count as there.
const INHERITED: Duration = Duration::from_secs(15);
/// How long a service may be without its TXT record before it is asked for again; doubling while that does not help.
const INCOMPLETE: Duration = Duration::from_millis(1500);
/// How often that doubles at most.
const MOST_LOOKS: u32 = 8;
/// Services without a TXT record that are remembered.
const MAX_INCOMPLETE: usize = 64;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Announces and listens until stopped.
pub(super) struct Mdns {
    renew: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Mdns {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let renew = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(shared, renew.clone(), stopped));
        Self { renew, stop, task }
    }

    /// Our addresses or contacts changed.
    pub(super) fn announce(&self) {
        self.renew.notify_one();
    }

    /// Says goodbye.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(GOODBYE * 2, self.task).await;
    }
}

async fn run(shared: Arc<Shared>, renew: Arc<Notify>, mut stopped: oneshot::Receiver<()>) {
    let mut complained = false;
    let mut seen = Seen::new();
    loop {
        let pause = match Session::open(&shared, &mut seen) {
            Ok(mut session) => match session.run(&renew, &mut stopped).await {
                End::Stopped => return,
                End::Flooded => FLOODED,
                End::Failed => RETRY,
            },
            Err(error) => {
                complain(&mut complained, &error.to_string());
                RETRY
            }
        };
        seen.next_session();
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            () = renew.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// More is announced than can be listened to.
    Flooded,
    /// The daemon ended.
    Failed,
}

/// Says once, clearly, that discovery does not work; later only for those who debug.
fn complain(complained: &mut bool, error: &str) {
    if std::mem::replace(complained, true) {
        tracing::debug!(error, "local discovery");
    } else {
        tracing::warn!(
            error,
            "local discovery does not work here (no network with multicast, a firewall on UDP port 5353, or no permission). \
             Peers are still reached at known addresses; \"kith doctor\" shows more"
        );
    }
}

/// A daemon on the interfaces of the configuration.
fn daemon(shared: &Shared) -> Result<ServiceDaemon, mdns_sd::Error> {
    let config = &shared.config.mdns;
    let daemon = ServiceDaemon::new_with_port(config.port)?;
    daemon.set_ip_check_interval(INTERFACES)?;
    if config.interfaces.is_empty() {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    } else {
        daemon.disable_interface(IfKind::All)?;
        let names = config.interfaces.iter().map(|name| IfKind::Name(name.clone()));
        daemon.enable_interface(names.collect::<Vec<_>>())?;
    }
    Ok(daemon)
}

/// At a time; never if there is none.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The next that a second daemon tells; nothing for ever if there is none.
async fn told(second: Option<&(ServiceDaemon, Receiver<ServiceEvent>)>) -> Result<ServiceEvent, mdns_sd::RecvError> {
    match second {
        Some((_, events)) => events.recv_async().await,
        None => std::future::pending().await,
    }
}

/// One life of the mDNS daemon.
struct Session<'a> {
    shared: Arc<Shared>,
    daemon: ServiceDaemon,
    browse: Receiver<ServiceEvent>,
    monitor: Receiver<DaemonEvent>,
    tags: Tags,
    /// What is registered now.
    own: Option<String>,
    /// All names we have used since the start: echoes of them are not peers.
    own_names: BTreeSet<String>,
    rotation: usize,
    /// What outlasts the session.
    seen: &'a mut Seen<ResolvedService>,
    /// Services that came without their TXT record. A daemon leaves out what it sent within the last second, and the answers
    /// that this one has already are not told again, so only a second daemon, which knows nothing, gets the whole answer.
    incomplete: BTreeSet<String>,
    second: Option<(ServiceDaemon, Receiver<ServiceEvent>)>,
    looks: u32,
    complained: bool,
}

impl<'a> Session<'a> {
    fn open(shared: &Arc<Shared>, seen: &'a mut Seen<ResolvedService>) -> Result<Self, mdns_sd::Error> {
        let daemon = daemon(shared)?;
        Ok(Self {
            shared: shared.clone(),
            monitor: daemon.monitor()?,
            browse: daemon.browse(SERVICE)?,
            daemon,
            tags: Tags::new(shared.secret.clone()),
            own: None,
            own_names: BTreeSet::new(),
            rotation: 0,
            seen,
            incomplete: BTreeSet::new(),
            second: None,
            looks: 0,
            complained: false,
        })
    }

    async fn run(&mut self, renew: &Notify, stopped: &mut oneshot::Receiver<()>) -> End {
        self.contacts_changed();
        self.register();
        let contacts_mode = self.shared.config.mdns.mode == MdnsMode::Contacts;
        let mut rotate = tokio::time::interval(self.shared.config.mdns.rotation);
        rotate.reset();
        let mut settled = std::pin::pin!(tokio::time::sleep(INHERITED));
        let mut is_settled = false;
        let mut look_at = None;
        let end = loop {
            if self.seen.is_flooded() {
                break End::Flooded;
            }
            if self.incomplete.is_empty() {
                self.end_second_look();
                look_at = None;
            } else if look_at.is_none() {
                look_at = Some(tokio::time::Instant::now() + INCOMPLETE * 2_u32.pow(self.looks));
            }
            tokio::select! {
                biased;
                _ = &mut *stopped => break End::Stopped,
                () = renew.notified() => {
                    self.contacts_changed();
                    self.register();
                }
                _ = rotate.tick(), if contacts_mode => self.register(),
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    for (name, peer) in self.seen.take_inherited() {
                        self.shared.change(|table, now| table.gone_nearby(peer, &name, now));
                    }
                }
                event = self.browse.recv_async() => match event {
                    Ok(event) => self.on_service(event),
                    // The daemon drops a listener that lags behind a flood. To a new one it would tell all that it remembers at
                    // once, which is more than a listener takes: only a new daemon has forgotten.
                    Err(_) => break End::Flooded,
                },
                () = until(look_at) => {
                    look_at = None;
                    self.look_again();
                }
                event = told(self.second.as_ref()) => match event {
                    // Only for what the first daemon lacks: what comes and goes is the first one's to tell.
                    Ok(ServiceEvent::ServiceResolved(service)) if self.incomplete.contains(service.get_fullname()) => {
                        self.on_resolved(*service);
                    }
                    Ok(_) => {}
                    Err(_) => self.second = None,
                },
                event = self.monitor.recv_async() => match event {
                    Ok(DaemonEvent::Error(error)) => {
                        complain(&mut self.complained, &error.to_string());
                    }
                    Ok(_) => {}
                    Err(_) => match self.daemon.monitor() {
                        Ok(monitor) => self.monitor = monitor,
                        Err(_) => break End::Failed,
                    },
                },
            }
        };
        self.close().await;
        if end == End::Flooded {
            self.shared.stats.bad_announcements.add();
            tracing::debug!("a flood of announcements: local discovery begins anew");
        }
        end
    }

    async fn close(&mut self) {
        if let Some(own) = self.own.take()
            && let Ok(goodbye) = self.daemon.unregister(&own)
        {
            let _ = tokio::time::timeout(GOODBYE, goodbye.recv_async()).await;
        }
        let _ = self.daemon.shutdown();
        self.end_second_look();
    }

    /// Asks once more for what came without its TXT record.
    fn look_again(&mut self) {
        let looks = self.looks.saturating_add(1);
        self.end_second_look();
        if looks > MOST_LOOKS {
            // There is none to be had.
            self.incomplete.clear();
            return;
        }
        self.looks = looks;
        tracing::debug!(count = self.incomplete.len(), "services without a TXT record are asked for again");
        self.second = daemon(&self.shared).and_then(|daemon| Ok((daemon.clone(), daemon.browse(SERVICE)?))).ok();
    }

    fn end_second_look(&mut self) {
        self.looks = 0;
        if let Some((daemon, _)) = self.second.take() {
            let _ = daemon.shutdown();
        }
    }

    /// The contacts may have changed: announcements not recognised so far are looked at again.
    fn contacts_changed(&mut self) {
        let contacts = self.shared.table().contacts.clone();
        self.tags.set_contacts(&contacts);
        for service in self.seen.take_unknown() {
            self.on_resolved(service);
        }
    }

    /// Announces us as we are now: in contacts mode under a new name.
    fn register(&mut self) {
        let Some(info) = self.own_service() else {
            return;
        };
        let name = info.get_fullname().to_owned();
        if let Some(former) = self.own.take_if(|former| *former != name)
            && let Ok(goodbye) = self.daemon.unregister(&former)
        {
            // The goodbye goes out by itself; nobody needs to wait for its report.
            drop::<Receiver<UnregisterStatus>>(goodbye);
        }
        if self.own_names.len() >= MAX_OWN_NAMES {
            self.own_names.clear();
        }
        self.own_names.insert(name.to_ascii_lowercase());
        match self.daemon.register(info) {
            Ok(()) => self.own = Some(name),
            Err(error) => complain(&mut self.complained, &error.to_string()),
        }
    }

    fn own_service(&mut self) -> Option<ServiceInfo> {
        let listening: Vec<(IpAddr, u16, bool)> = self.shared.own_addresses().iter().filter_map(socket).collect();
        let mut ports: BTreeMap<&str, u16> = BTreeMap::new();
        for (ip, port, quic) in &listening {
            let key = match (quic, ip.is_ipv4()) {
                (true, true) => "q4",
                (true, false) => "q6",
                (false, true) => "t4",
                (false, false) => "t6",
            };
            ports.entry(key).or_insert(*port);
        }
        let port = *ports.values().next()?;
        let mut entries: Vec<(String, Vec<u8>)> = vec![("v".to_owned(), VERSION.as_bytes().to_vec())];
        for (key, port) in ports {
            entries.push((key.to_owned(), port.to_string().into_bytes()));
        }
        let mut rng = rand::rng();
        let instance = if self.shared.config.mdns.mode == MdnsMode::Contacts {
            entries.extend(self.tags.announce(self.rotation, &mut |bytes| rng.fill_bytes(bytes)));
            self.rotation = self.rotation.wrapping_add(1);
            let mut name = [0; 10];
            rng.fill_bytes(&mut name);
            BASE32_NOPAD.encode(&name).to_ascii_lowercase()
        } else {
            let id = self.shared.local.to_string();
            entries.push(("id".to_owned(), id.clone().into_bytes()));
            id
        };
        let properties: Vec<TxtProperty> = entries.into_iter().map(Into::into).collect();
        let host = format!("{instance}.local.");
        // Where we listen on all addresses, the daemon names those of each interface and follows their changes.
        let anywhere = self.listens_anywhere();
        let ips: Vec<IpAddr> = if anywhere { vec![] } else { listening.iter().map(|(ip, _, _)| *ip).collect() };
        let info = ServiceInfo::new(SERVICE, &instance, &host, &ips[..], port, properties);
        match info {
            Ok(mut info) => {
                // The name is a key or random: nobody else has it, so there is nothing to probe for.
                info.set_requires_probe(false);
                Some(if anywhere { info.enable_addr_auto() } else { info })
            }
            Err(error) => {
                complain(&mut self.complained, &error.to_string());
                None
            }
        }
    }

    fn listens_anywhere(&self) -> bool {
        let addresses = self.shared.config.listen.iter();
        addresses
            .filter_map(|text| text.parse::<Multiaddr>().ok())
            .filter_map(|address| socket(&address))
            .any(|(ip, _, _)| ip.is_unspecified())
    }

    fn on_service(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => self.on_resolved(*service),
            ServiceEvent::ServiceRemoved(_, name) => {
                self.incomplete.remove(&name);
                if let Some(peer) = self.seen.forget(&name) {
                    self.shared.change(|table, now| table.gone_nearby(peer, &name, now));
                }
            }
            _ => {}
        }
    }

    fn on_resolved(&mut self, service: ResolvedService) {
        let name = service.get_fullname().to_owned();
        if self.own_names.contains(&name.to_ascii_lowercase()) {
            return;
        }
        let bad = || self.shared.stats.bad_announcements.add();
        if service.txt_properties.is_empty() {
            if self.incomplete.len() >= MAX_INCOMPLETE {
                self.incomplete.pop_first();
            }
            self.incomplete.insert(name);
            return;
        }
        self.incomplete.remove(&name);
        if service.get_property_val_str("v") != Some(VERSION) {
            return bad();
        }
        let get = |key: &str| service.get_property_val(key).flatten();
        let peer = match service.get_property_val_str("id") {
            Some(id) => match id.parse::<ServerKey>() {
                Ok(key) => Some(key),
                Err(_) => return bad(),
            },
            None => self.tags.recognise(get),
        };
        if peer == Some(self.shared.local) {
            return bad();
        }
        let is_used = |key| {
            let table = self.shared.table();
            let used = |peer: &super::table::Peer| peer.connected || peer.is_wanted(Instant::now());
            table.contacts.contains(&key) || table.peers.get(&key).is_some_and(used)
        };
        match self.seen.make_room(&name, is_used) {
            None => return bad(),
            Some(None) => {}
            Some(Some((gone, peer))) => self.shared.change(|table, now| table.gone_nearby(peer, &gone, now)),
        }
        let Some(peer) = peer else {
            if let Some(former) = self.seen.put_unknown(name.clone(), service) {
                self.shared.change(|table, now| table.gone_nearby(former, &name, now));
            }
            return;
        };
        let addresses = self.addresses(&service);
        if let Some(former) = self.seen.put(name.clone(), peer) {
            self.shared.change(|table, now| table.gone_nearby(former, &name, now));
        }
        if !addresses.is_empty() {
            self.shared.change(|table, now: Instant| table.seen_nearby(peer, &name, addresses, now));
        }
    }

    /// The addresses of a service that can be dialled.
    fn addresses(&self, service: &ResolvedService) -> Vec<Multiaddr> {
        let port = |key: &str| -> Option<u16> {
            let port = service.get_property_val_str(key)?.parse().ok()?;
            (port != 0).then_some(port)
        };
        // An announcement from outside that names our own loopback is meant to make us dial ourselves.
        let loopback = !self.shared.config.mdns.interfaces.is_empty();
        let mut ips: Vec<IpAddr> = service
            .get_addresses()
            .iter()
            .map(|scoped| scoped.to_ip_addr())
            .filter(|ip| is_dialable(*ip) && (loopback || !ip.is_loopback()))
            .collect();
        ips.sort();
        let mut addresses = vec![];
        for ip in ips {
            let (q, t) = if ip.is_ipv4() { ("q4", "t4") } else { ("q6", "t6") };
            addresses.extend(port(q).map(|port| quic(ip, port)));
            addresses.extend(port(t).map(|port| tcp(ip, port)));
        }
        addresses.truncate(MAX_SERVICE_ADDRESSES);
        addresses
    }
}
