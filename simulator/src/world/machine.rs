//! One machine: its disk, its clock, and the node on it while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures::FutureExt as _;
use futures::channel::oneshot;
use kith::config::{Config, RegistrationMode};
use kith::platform::{Citing, InlineSpawner, NetworkChoice, NetworkFactory, Platform, Spawner, Storage, WebChoice};
use kith::{Handle, Node};
use kith_store::blobs::MemoryBlobs;
use kith_store::{Driver, MemoryBackend, Options, VolatileRows, WriterMode};
use kith_transport::{Network, SecretKey, ServerKey};

use super::{World, WorldError};
use crate::engine::{NodeClock, Stream, millis};
use crate::memory::{OwnedSpawner, Owner};
use crate::network::Air;
use crate::scenario::Scenario;

/// See the module. It outlives its node.
pub(super) struct Machine {
    number: u32,
    /// Who its node's memory is counted for.
    pub(super) owner: Owner,
    secret: SecretKey,
    /// Kept, as making it of the secret takes long.
    public: ServerKey,
    pub(super) disk: MemoryBackend,
    /// In the place of the disk.
    rows: Option<VolatileRows>,
    pub(super) blobs: MemoryBlobs,
    pub(super) offset_ms: Arc<AtomicI64>,
    drift_ppm: i64,
    /// How long a commit takes, in nanoseconds.
    pub(super) commit: Arc<AtomicU64>,
    pub(super) run: Option<Run>,
    pub(super) runs: u64,
    pub(super) token: String,
    /// The stream position of the last commit that was seen.
    pub(super) seen: u64,
    /// Its power will go in the middle of a commit: its disk is copied after each one that ends.
    pub(super) armed: bool,
    /// Operations of its disk that had failed by the last commit that was published.
    pub(super) failures: u64,
    /// Its disk as it was after the last commit that was published, when it is armed.
    pub(super) published: Option<MemoryBackend>,
}

/// A node that runs, or is starting.
pub(super) struct Run {
    pub(super) spawner: InlineSpawner,
    pub(super) handle: Option<Handle>,
}

impl Machine {
    /// A machine that is off.
    pub(super) fn new(number: u32, owner: Owner, scenario: &Scenario, seed: u64) -> Self {
        let random = Stream::new(seed, "machine", u64::from(number), 0);
        let mut key = [0; 32];
        random.fill(&mut key);
        let offset = random.between(-scenario.nodes.clock_offset_s, scenario.nodes.clock_offset_s);
        let drift = f64::from(scenario.nodes.clock_drift_ppm);
        let secret = SecretKey::from_seed(key);
        Self {
            number,
            owner,
            public: secret.public(),
            secret,
            disk: MemoryBackend::new(),
            rows: scenario.disk.volatile.then(VolatileRows::new),
            blobs: MemoryBlobs::new(),
            offset_ms: Arc::new(AtomicI64::new((offset * 1e3) as i64)),
            drift_ppm: random.between(-drift, drift) as i64,
            commit: Arc::new(AtomicU64::new(millis(scenario.disk.commit_ms))),
            run: None,
            runs: 0,
            token: String::new(),
            seen: 0,
            armed: false,
            failures: 0,
            published: None,
        }
    }

    pub(super) fn key(&self) -> ServerKey {
        self.public
    }

    pub(super) fn user(&self) -> String {
        format!("@u{}:{}", self.number, self.key())
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.run.as_ref()?.handle.clone()
    }

    fn platform(&self, world: &World, air: Air, spawner: InlineSpawner) -> Platform {
        let timeline = world.timeline().clone();
        let stream = |purpose: &str| Stream::new(world.seed(), purpose, u64::from(self.number), self.runs);
        let owner = self.owner;
        let spawner = OwnedSpawner::shared(owner, spawner);
        let (scenario, joiner) = (world.scenario(), spawner.clone());
        let (seen_by, number) = (world.clone(), self.number);
        let cache = scenario.nodes.cache_kib as usize * 1024;
        let join: NetworkFactory = Arc::new(move |secret, router| {
            let router = crate::faults::around(&seen_by, number, router);
            let port = air.join(secret.public(), router, joiner.clone());
            match port {
                Some(port) => port as Arc<dyn Network>,
                // Only the keys of the scenario's nodes are ever used.
                None => kith_transport::memory::MemoryHub::new().join(
                    secret.public(),
                    kith_transport::Router::new(|_| async { http::Response::new(kith_transport::empty()) }),
                ),
            }
        });
        let (commit, jitter) = (self.commit.clone(), scenario.disk.jitter_ms);
        let rows = self.rows.clone();
        let (disk_time, disk_random) = (timeline.clone(), stream("disk"));
        let options = move || {
            let (commit, timeline, random) = (commit.clone(), disk_time.clone(), disk_random.clone());
            let driver: Driver = Box::new(move |waiting| {
                let takes = commit.load(Ordering::Relaxed) + millis(random.between(0.0, jitter));
                timeline.after(takes, move || owner.within(|| waiting.commit()));
            });
            Options {
                cache_bytes: cache,
                volatile: rows.clone(),
                writer: WriterMode::Driven,
                driver: Some(driver),
                // Only a disk that is told to be full has so little.
                reserve_bytes: 64 << 10,
                ..Options::default()
            }
        };
        Platform {
            clock: Arc::new(NodeClock::new(timeline, self.drift_ppm, self.offset_ms.clone())),
            rng: stream("node").into_rng(),
            spawner,
            storage: Storage::Given {
                backend: self.disk.clone(),
                options: Arc::new(options),
                blobs: Arc::new(self.blobs.clone()),
            },
            network: NetworkChoice::Given(join),
            web: WebChoice::None,
            listeners: false,
            secret: Some(self.secret.clone()),
            citing: match scenario.nodes.cites {
                0 => Citing::default(),
                most => Citing::Random(most as usize),
            },
        }
    }
}

impl World {
    /// Starts the node of a machine, and waits until it runs.
    ///
    /// # Errors
    /// It does not start, or crashed before it did.
    pub async fn start(&self, number: u32) -> Result<(), WorldError> {
        let (take, run) = {
            let Some(mut machine) = self.machine(number) else { return Ok(()) };
            if machine.run.is_some() {
                return Ok(());
            }
            machine.runs += 1;
            let spawner = self.0.engine.spawner();
            machine.run = Some(Run { spawner: spawner.clone(), handle: None });
            let platform = machine.platform(self, self.0.air.clone(), spawner.clone());
            let mut config = Config::in_folder("/nonexistent");
            config.registration.mode = RegistrationMode::Closed;
            config.limits.rate_limits = false;
            let (give, take) = oneshot::channel();
            let task = async move {
                let _ = give.send(Node::start(config, platform).await);
            };
            let run = machine.runs;
            spawner.spawn("start", machine.owner.task(task.boxed()));
            (take, run)
        };
        let started = take.await.map_err(|_| WorldError("it crashed while it started".to_owned()))?;
        let handle = started.map_err(|error| WorldError(format!("node {number} does not start: {error}")))?;
        {
            let Some(mut machine) = self.machine(number) else { return Ok(()) };
            if machine.runs != run {
                return Err(WorldError("it crashed while it started".to_owned()));
            }
            if let Some(run) = &mut machine.run {
                run.handle = Some(handle.clone());
            }
        }
        self.watch(number, &handle);
        self.record().note(&format!("{number} runs"));
        Ok(())
    }

    /// Cuts the power of a machine. Its disk keeps what was synced, and of the rest what the seed says.
    pub fn crash(&self, number: u32) {
        self.note_own_counters(number);
        self.0.air.leave(number);
        let (ended, before, after, troubled) = {
            let Some(mut machine) = self.machine(number) else { return };
            let Some(run) = machine.run.take() else { return };
            let chance = Stream::new(self.0.seed, "crash", u64::from(number), machine.runs).u64();
            let troubled = machine.disk.failures() > machine.failures;
            let before = machine.published.take().unwrap_or_else(|| machine.disk.copy());
            machine.armed = false;
            machine.disk = machine.disk.crash(chance);
            machine.failures = machine.disk.failures();
            machine.blobs = machine.blobs.crash(chance);
            (run, before, machine.disk.copy(), troubled)
        };
        // One that did not come up has left nothing since.
        if ended.handle.is_some() {
            self.check_left(number, before, after, troubled);
        }
        // Its tasks end at once, wherever they are.
        let _ = ended.spawner.shutdown().now_or_never();
        drop(ended);
        self.record().note(&format!("{number} is off"));
    }

    /// Adds a node's own counters, of this run of it, to what occurred.
    pub fn note_own_counters(&self, number: u32) {
        let Some(node) = self.node(number) else { return };
        let stats = &node.federation.stats;
        let mut state = self.record().lock();
        for (name, many) in stats.entries().into_iter().chain(stats.refused.entries()).filter(|(_, many)| *many > 0) {
            state.count(name, many);
        }
    }

    /// Ends all nodes and all that is still under way, so that nothing of this world is held by itself.
    pub fn power_off(&self) {
        for number in self.numbers() {
            self.0.air.leave(number);
            let run = self.machine(number).and_then(|mut machine| machine.run.take());
            if let Some(run) = run {
                let _ = run.spawner.shutdown().now_or_never();
            }
        }
        let _ = self.0.spawner.shutdown().now_or_never();
    }

    /// Whether a node runs.
    pub fn runs(&self, number: u32) -> bool {
        self.machine(number).is_some_and(|machine| machine.run.as_ref().is_some_and(|run| run.handle.is_some()))
    }

    /// Does something with a machine's disk.
    pub fn with_disk<T>(&self, number: u32, act: impl FnOnce(&MemoryBackend) -> T) -> Option<T> {
        self.machine(number).map(|machine| act(&machine.disk))
    }

    /// Bytes of a node's database.
    pub fn database_bytes(&self, number: u32) -> Option<u64> {
        let machine = self.machine(number)?;
        Some(machine.rows.as_ref().map_or_else(|| machine.disk.used_bytes(), VolatileRows::bytes))
    }

    /// Has the power of a machine go in the middle of a commit: its disk fails after so many more operations. Gives how many it did
    /// by now.
    pub fn arm(&self, number: u32, after: u64) -> Option<u64> {
        let mut machine = self.machine(number)?;
        machine.armed = true;
        machine.published = Some(machine.disk.copy());
        machine.disk.fail_after(after);
        Some(machine.disk.operations())
    }

    /// Sets how long commits of a machine take, in milliseconds.
    pub fn set_commit_ms(&self, number: u32, ms: f64) {
        if let Some(machine) = self.machine(number) {
            machine.commit.store(millis(ms), Ordering::Relaxed);
        }
    }

    /// Sets a machine's wall clock forward or back.
    pub fn set_clock(&self, number: u32, by_ms: i64) {
        if let Some(machine) = self.machine(number) {
            machine.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// The spawner of the node that runs on a machine.
    pub(super) fn spawner_of(&self, number: u32) -> Option<OwnedSpawner> {
        let machine = self.machine(number)?;
        let inner = machine.run.as_ref()?.spawner.clone();
        Some(OwnedSpawner { owner: machine.owner, inner })
    }
}
