//! What users do: each kind of workload is a task of the world, with random numbers of its own.

use serde_json::{Value, json};

use crate::engine::{Nanos, Stream, seconds};
use crate::errands;
use crate::scenario::Workload;
use crate::world::World;
use crate::world::client::{Failure, escape};

/// Most pages that a reader scrolls back.
const MOST_PAGES: usize = 200;
/// How often a user tries to come back into a room.
const REJOINS: u32 = 20;

/// Lets the users of a scenario begin. They begin nothing any more at `end`.
pub fn begin(world: &World, end: Nanos) {
    for (workload, number) in world.scenario().workload.clone().into_iter().zip(0..) {
        let (now, hours) = (world.timeline().now(), workload.hours());
        let end = hours.until_s.map_or(end, |until_s| end.min(now.saturating_add(seconds(until_s))));
        let user = Users { world: world.clone(), random: world.stream("users", number), end };
        let begin = now.saturating_add(seconds(hours.from_s));
        world.spawn("users", async move {
            if begin > now {
                user.world.timeline().sleep_until(begin).await;
            }
            if user.now() < user.end {
                user.work(workload).await;
            }
        });
    }
}

#[derive(Clone)]
struct Users {
    world: World,
    random: Stream,
    end: Nanos,
}

impl Users {
    async fn work(self, workload: Workload) {
        match workload {
            Workload::Poisson { room, rate_per_s, bytes, .. } => self.talk(room, bytes, rate_per_s, |_| 1.0).await,
            Workload::Rounds { room, every_s, writers, bytes, .. } => {
                while self.pause(every_s).await {
                    let mut members = self.world.members(room);
                    self.random.shuffle(&mut members);
                    for node in members.into_iter().take(writers as usize) {
                        self.go(move |user| async move { drop(user.world.say(node, room, bytes).await) });
                    }
                }
            }
            Workload::Diurnal { room, peak_per_s, period_s, bytes, .. } => {
                // A cosine from midnight to midnight; moments of a Poisson process are thinned out by it.
                let share = move |at: f64| 0.5 - 0.5 * (at / period_s * std::f64::consts::TAU).cos();
                self.talk(room, bytes, peak_per_s, share).await;
            }
            Workload::Bursts { room, every_s, messages, bytes, .. } => {
                while self.pause(every_s).await {
                    for _ in 0..messages {
                        self.someone(room, bytes);
                    }
                }
            }
            Workload::JoinStorm { room, at_s, over_s, .. } => self.join_storm(room, at_s, over_s).await,
            Workload::Topics { room, every_s, at_once, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    for node in self.moderators(room).into_iter().take(at_once as usize) {
                        let topic = json!({"topic": format!("of {node} at {}", self.now())});
                        self.go(move |user| async move {
                            drop(user.world.set_state(node, room, "m.room.topic", topic).await);
                        });
                    }
                }
            }
            Workload::Names { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    let Some(node) = self.member(room) else { continue };
                    let path = format!("/_matrix/client/v3/profile/{}/displayname", escape(&self.world.user(node)));
                    let name = json!({"displayname": format!("{node} at {}", self.now())});
                    self.go(move |user| async move { drop(user.world.call(node, "PUT", &path, Some(name)).await) });
                }
            }
            Workload::PowerDuel { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    self.duel(room);
                }
            }
            Workload::Bans { room, at_s, every_s, for_s, .. } => {
                for at in at_s {
                    self.go(move |user| async move {
                        user.world.timeline().sleep(seconds(at)).await;
                        user.ban(room, for_s).await;
                    });
                }
                while every_s > 0.0 && self.pause(self.random.exponential(every_s)).await {
                    self.go(move |user| async move { user.ban(room, for_s).await });
                }
            }
            Workload::Churn { room, every_s, away_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    self.go(move |user| async move { user.leave(room, away_s).await });
                }
            }
            Workload::Scroll { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    if let Some(node) = self.member(room) {
                        self.go(move |user| async move { scroll_back(&user.world, node, room, None).await });
                    }
                }
            }
            Workload::Media { room, every_s, bytes, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    self.go(move |user| async move { drop(user.media(room, bytes).await) });
                }
            }
            Workload::Readers { share, .. } => self.readers(share),
            Workload::Redactions { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    let random = self.random.clone();
                    self.go(move |user| async move { errands::redact(&user.world, room, &random).await });
                }
            }
            Workload::Devices { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    let random = self.random.clone();
                    self.go(move |user| async move { errands::send_message(&user.world, room, &random).await });
                    if let Some(node) = self.member(room) {
                        self.go(move |user| async move { errands::collect(&user.world, node).await });
                    }
                }
            }
            Workload::Repeats { room, every_s, .. } => {
                while self.pause(self.random.exponential(every_s)).await {
                    let random = self.random.clone();
                    self.go(move |user| async move { errands::repeat(&user.world, room, &random).await });
                }
            }
        }
    }

    fn now(&self) -> Nanos {
        self.world.timeline().now()
    }

    /// Waits; false when the time of the users is over then.
    async fn pause(&self, wait_s: f64) -> bool {
        // Never in one instant for ever.
        self.world.timeline().sleep(seconds(wait_s).max(1_000_000)).await;
        self.now() < self.end
    }

    /// Does something beside.
    fn go<F: Future<Output = ()> + Send + 'static>(&self, act: impl FnOnce(Self) -> F) {
        self.world.spawn("user", act(self.clone()));
    }

    fn member(&self, room: u32) -> Option<u32> {
        self.random.pick(&self.world.members(room)).copied()
    }

    /// The moderators who are in the room, in any order.
    fn moderators(&self, room: u32) -> Vec<u32> {
        let inside = self.world.members(room);
        let mut moderators: Vec<u32> =
            self.world.moderators(room).into_iter().filter(|node| inside.contains(node)).collect();
        self.random.shuffle(&mut moderators);
        moderators
    }

    fn moderator(&self, room: u32) -> Option<u32> {
        self.moderators(room).first().copied()
    }

    fn someone(&self, room: u32, bytes: u32) {
        if let Some(node) = self.member(room) {
            self.go(move |user| async move { drop(user.world.say(node, room, bytes).await) });
        }
    }

    async fn talk(&self, room: u32, bytes: u32, rate_per_s: f64, share: impl Fn(f64) -> f64) {
        let begin = self.now();
        while self.pause(self.random.exponential(1.0 / rate_per_s)).await {
            if self.random.chance(share((self.now() - begin) as f64 / 1e9)) {
                self.someone(room, bytes);
            }
        }
    }

    async fn join_storm(&self, room: u32, at_s: f64, over_s: f64) {
        if !self.pause(at_s).await {
            return;
        }
        let inside = self.world.members(room);
        for node in self.world.numbers().filter(|node| !inside.contains(node)) {
            let wait = seconds(self.random.between(0.0, over_s));
            self.go(move |user| async move {
                user.world.timeline().sleep(wait).await;
                user.come_back(node, room).await;
            });
        }
    }

    /// Joins, again and again until it works or the time is over.
    async fn come_back(&self, node: u32, room: u32) {
        for _ in 0..REJOINS {
            match self.world.join(node, room).await {
                Ok(()) => {
                    self.world.record().count("joins");
                    return;
                }
                Err(_) if self.now() < self.end => self.world.record().count("joins_failed"),
                Err(_) => return,
            }
            self.world.timeline().sleep(seconds(self.random.between(1.0, 10.0))).await;
        }
    }

    fn duel(&self, room: u32) {
        let [one, other, ..] = self.moderators(room)[..] else { return };
        for (from, against) in [(one, other), (other, one)] {
            // Down and up again, and not always the same.
            let level = 50 + self.random.below(51);
            self.go(move |user| async move {
                let path = format!("{}/state/m.room.power_levels/", user.world.room_path(room));
                let Ok(mut levels) = user.world.call(from, "GET", &path, None).await else { return };
                if let Some(users) = levels.get_mut("users").and_then(Value::as_object_mut) {
                    let name = user.world.user(against);
                    if users.contains_key(&name) {
                        users.insert(name, level.into());
                    }
                }
                levels["events"]["m.duel"] = (user.now() % 100).into();
                let _ = user.world.set_state(from, room, "m.room.power_levels", levels).await;
            });
        }
    }

    async fn ban(&self, room: u32, for_s: f64) {
        let moderators = self.world.moderators(room);
        let members: Vec<u32> =
            self.world.members(room).into_iter().filter(|node| !moderators.contains(node)).collect();
        let (Some(node), Some(victim)) = (self.moderator(room), self.random.pick(&members).copied()) else { return };
        let body = json!({"user_id": self.world.user(victim)});
        if self
            .world
            .call(node, "POST", &format!("{}/ban", self.world.room_path(room)), Some(body.clone()))
            .await
            .is_err()
        {
            return;
        }
        self.world.record().count("bans");
        self.world.set_member(room, victim, false);
        // It does not know, and goes on.
        for _ in 0..3 {
            self.world.timeline().sleep(seconds(self.random.exponential(for_s / 6.0))).await;
            let _ = self.world.say(victim, room, 20).await;
        }
        self.world.timeline().sleep(seconds(for_s / 2.0)).await;
        for _ in 0..REJOINS {
            let path = format!("{}/unban", self.world.room_path(room));
            match self.world.call(node, "POST", &path, Some(body.clone())).await {
                Ok(_) => return self.come_back(victim, room).await,
                Err(Failure::Refused(403, _)) => return,
                Err(_) => self.world.timeline().sleep(seconds(5.0)).await,
            }
        }
    }

    async fn leave(&self, room: u32, away_s: f64) {
        let moderators = self.world.moderators(room);
        let members: Vec<u32> =
            self.world.members(room).into_iter().filter(|node| !moderators.contains(node)).collect();
        let Some(node) = self.random.pick(&members).copied() else { return };
        let left =
            self.world.call(node, "POST", &format!("{}/leave", self.world.room_path(room)), Some(json!({}))).await;
        if left.is_err() {
            return;
        }
        self.world.record().count("leaves");
        self.world.set_member(room, node, false);
        self.world.timeline().sleep(seconds(away_s)).await;
        self.come_back(node, room).await;
    }

    async fn media(&self, room: u32, bytes: u32) -> Result<(), Failure> {
        let (Some(node), Some(other)) = (self.member(room), self.member(room)) else { return Ok(()) };
        let mut file = vec![0; bytes as usize];
        self.random.fill(&mut file);
        let upload = "/_matrix/media/v3/upload?filename=file.bin";
        let made = self.world.exchange(node, "POST", upload, "application/octet-stream", file.clone()).await?;
        let made: Value = serde_json::from_slice(&made).unwrap_or_default();
        let uri = made["content_uri"].as_str().unwrap_or_default().to_owned();
        let content = json!({"msgtype": "m.file", "body": "file.bin", "url": uri});
        self.world.send(node, room, "m.room.message", content).await?;
        let path = uri.replacen("mxc://", "/_matrix/client/v1/media/download/", 1);
        let got = self.world.exchange(other, "GET", &path, "application/json", Vec::new()).await;
        self.world.record().count(match &got {
            Ok(got) if *got == file => "downloads",
            Ok(_) => "downloads_wrong",
            Err(_) => "downloads_failed",
        });
        Ok(())
    }

    fn readers(&self, share: f64) {
        for node in self.world.numbers() {
            if self.random.chance(share) {
                self.go(move |user| async move { user.read(node).await });
            }
        }
    }

    /// Keeps a sync open.
    async fn read(self, node: u32) {
        let mut since = String::new();
        while self.now() < self.end && !self.world.is_over() {
            let path = format!("/_matrix/client/v3/sync?timeout=30000{since}");
            match self.world.call(node, "GET", &path, None).await {
                Ok(answer) => {
                    self.world.record().count("syncs");
                    let rooms = answer["rooms"]["join"].as_object();
                    let timelines = rooms.into_iter().flatten().map(|(_, room)| &room["timeline"]["events"]);
                    self.world.check_shown(node, timelines.filter_map(Value::as_array).flatten());
                    since = format!("&since={}", answer["next_batch"].as_str().unwrap_or_default());
                }
                Err(_) => self.world.timeline().sleep(seconds(2.0)).await,
            }
        }
    }
}

/// Scrolls back to the beginning of a room, as a reader does: from its end, or from an event that somebody has linked to.
pub async fn scroll_back(world: &World, node: u32, room: u32, event: Option<&str>) {
    let mut from = String::new();
    if let Some(event) = event {
        let path = format!("{}/context/{}?limit=0", world.room_path(room), escape(event));
        let Ok(around) = world.call(node, "GET", &path, None).await else { return };
        from = around["start"].as_str().map(|start| format!("&from={}", escape(start))).unwrap_or_default();
    }
    for _ in 0..MOST_PAGES {
        let path = format!("{}/messages?dir=b&limit=50{from}", world.room_path(room));
        let Ok(page) = world.call(node, "GET", &path, None).await else { return };
        world.record().count("pages");
        world.check_shown(node, page["chunk"].as_array().into_iter().flatten());
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", escape(end)),
            None => return,
        }
    }
}
