//! The load of the benchmarks: many senders, a follower, room creation and first syncs over the client-server API.
//!
//! `tests/bench/run` starts the servers and calls this once per figure; it works against any Matrix homeserver, so kith and
//! others are measured by the same program. Each command prints one line of JSON. Latencies are milliseconds.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall time and runs on plain tokio")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kith_store::{Store, tables::rooms::EVENTS};
use serde_json::{Value, json};
use tokio::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Load on a Matrix homeserver, measured.
#[derive(Parser)]
struct Options {
    /// Address of the client API, without TLS: host:port.
    #[arg(long, default_value = "127.0.0.1:8008")]
    server: String,
    /// Access tokens; senders take turns with them.
    #[arg(long = "token")]
    tokens: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends messages, each sender over a connection of its own, the next when the last is acknowledged.
    Send {
        /// The rooms; senders take turns with them.
        #[arg(long = "room", required = true)]
        rooms: Vec<String>,
        /// How many send at the same time.
        #[arg(long, default_value_t = 1)]
        senders: u64,
        /// How many messages in all.
        #[arg(long)]
        count: u64,
        /// Milliseconds from the beginning of one request of a sender to that of its next, if that is answered by then; without it, at
        /// once.
        #[arg(long, default_value_t = 0)]
        pace: u64,
        /// Bytes of ciphertext for messages of the form of encrypted ones; without it, short texts.
        #[arg(long)]
        ciphertext: Option<usize>,
    },
    /// Follows one room by long-polling and measures from the moment a message's text names (see `send`) to its arrival.
    Follow {
        /// The room.
        #[arg(long)]
        room: String,
        /// How many messages to wait for.
        #[arg(long)]
        count: u64,
    },
    /// Creates rooms.
    Rooms {
        /// How many do at the same time, each the next when the last is made.
        #[arg(long, default_value_t = 1)]
        senders: u64,
        /// How many rooms in all.
        #[arg(long)]
        count: u64,
    },
    /// First syncs, one after the other.
    Sync {
        /// How many.
        #[arg(long)]
        count: u64,
    },
    /// Syncs with nothing new, one after the other, which do not wait.
    Nothing {
        /// How many.
        #[arg(long)]
        count: u64,
    },
    /// Syncs that wait for something new, until its input ends.
    Wait {
        /// How many.
        #[arg(long)]
        count: u64,
    },
    /// Compacts the store of a stopped kith, and tells the size of its file beside that of the events' JSON.
    Compact {
        /// The data folder.
        folder: PathBuf,
    },
}

/// Compacts a store.
fn compact(folder: &Path) -> Outcome<Value> {
    let store = Store::open_folder(folder, kith_store::Options::default())?;
    store.compact()?;
    let (mut events, mut json) = (0_u64, 0_u64);
    store.read(|read| {
        for row in EVENTS.range(read, ..)? {
            events += 1;
            json += row?.1.json.len() as u64;
        }
        Ok::<(), kith_store::StoreError>(())
    })?;
    drop(store);
    let file = std::fs::metadata(folder.join("kith.redb"))?.len();
    Ok(json!({"events": events, "json": json, "file": file}))
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    let result = match &options.command {
        Command::Compact { folder } => compact(folder)?,
        Command::Send { rooms, senders, count, pace, ciphertext } => {
            let pace = Duration::from_millis(*pace);
            at_once(&options, *senders, *count, pace, message(rooms.clone(), *ciphertext)).await?
        }
        Command::Follow { room, count } => follow(&options, room, *count).await?,
        Command::Rooms { senders, count } => at_once(&options, *senders, *count, Duration::ZERO, room()).await?,
        Command::Sync { count } => at_once(&options, 1, *count, Duration::ZERO, first_sync()).await?,
        Command::Nothing { count } => nothing(&options, *count).await?,
        Command::Wait { count } => wait(&options, *count).await?,
    };
    println!("{result}");
    Ok(())
}

/// What a sender asks next: of its number, and the number of the request.
type Ask = dyn Fn(usize, u64) -> (Method, String, Option<Value>) + Send + Sync;

/// So many senders ask, each over a connection of its own, the next when the last is answered and the pace allows it.
async fn at_once(options: &Options, senders: u64, count: u64, pace: Duration, ask: Arc<Ask>) -> Outcome<Value> {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..senders)
        .zip(options.tokens.iter().cycle())
        .enumerate()
        .map(|(sender, (_, token))| {
            let (next, ask, server, token) =
                (Arc::clone(&next), Arc::clone(&ask), options.server.clone(), token.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&server, token).await?;
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Outcome::Ok(latencies);
                    }
                    let (method, path, body) = ask(sender, number);
                    let asked = Instant::now();
                    client.request(method, &path, body.as_ref()).await?;
                    latencies.push(asked.elapsed());
                    tokio::time::sleep(pace.saturating_sub(asked.elapsed())).await;
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await??);
    }
    Ok(summary(latencies, begin.elapsed()))
}

fn message(rooms: Vec<String>, ciphertext: Option<usize>) -> Arc<Ask> {
    let run = nanoseconds();
    Arc::new(move |sender, number| {
        let (kind, content) = match ciphertext {
            // The text is the moment of sending, for `follow`.
            None => ("m.room.message", json!({"msgtype": "m.text", "body": nanoseconds().to_string()})),
            Some(length) => ("m.room.encrypted", encrypted(length, number)),
        };
        let room = &rooms[sender % rooms.len()];
        (Method::PUT, format!("/_matrix/client/v3/rooms/{room}/send/{kind}/bench{run}-{number}"), Some(content))
    })
}

fn room() -> Arc<Ask> {
    let body = json!({"preset": "private_chat"});
    Arc::new(move |_, _| (Method::POST, "/_matrix/client/v3/createRoom".to_owned(), Some(body.clone())))
}

/// Synapse keeps answers to the same question for minutes: no two are the same.
fn first_sync() -> Arc<Ask> {
    Arc::new(|_, number| (Method::GET, format!("/_matrix/client/v3/sync?timeout={number}"), None))
}

/// Content of the form and size of an encrypted message. What stands in it does not repeat, so that nothing compresses it.
fn encrypted(length: usize, number: u64) -> Value {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let ciphertext: String = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(DIGITS[(state >> 33) as usize % DIGITS.len()])
        })
        .collect();
    json!({
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": ciphertext,
        "device_id": "BENCHMARKS",
        "sender_key": "7xUmR5nBnXQ8XvZzBtWq4pGzq1Jr0mJ8Ck1V2hZ5o3E",
        "session_id": "ZxP0x1V8mJ7n5GJq2u0Jq7kHq2z1uH8x1X3q8Y6k9aA",
    })
}

/// `{"room":{"timeline":{"limit":1000}}}`: what came while an answer was on its way is not cut.
const WHOLE_TIMELINE: &str = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";

async fn follow(options: &Options, room: &str, count: u64) -> Outcome<Value> {
    let token = options.tokens.first().ok_or("a token is needed")?;
    let mut client = Client::connect(&options.server, token.clone()).await?;
    let mut since = client.request(Method::GET, "/_matrix/client/v3/sync", None).await?["next_batch"].clone();
    // The caller starts the senders when it reads this.
    println!("ready");
    let begin = Instant::now();
    let mut delays = Vec::new();
    while (delays.len() as u64) < count {
        let position = since.as_str().ok_or("no next_batch")?;
        let path = format!("/_matrix/client/v3/sync?timeout=30000&since={position}&filter={WHOLE_TIMELINE}");
        let answer = client.request(Method::GET, &path, None).await?;
        let now = nanoseconds();
        let timeline = &answer["rooms"]["join"][room]["timeline"];
        if timeline["limited"] == true {
            return Err("the timeline was cut: the follower does not keep up".into());
        }
        for event in timeline["events"].as_array().into_iter().flatten() {
            if let Some(sent) = event["content"]["body"].as_str().and_then(|body| body.parse::<u64>().ok()) {
                delays.push(Duration::from_nanos(now.saturating_sub(sent)));
            }
        }
        since = answer["next_batch"].clone();
    }
    Ok(summary(delays, begin.elapsed()))
}

/// A connection, and the token of its first sync.
async fn synced(options: &Options) -> Outcome<(Client, String)> {
    let token = options.tokens.first().ok_or("a token is needed")?;
    let mut client = Client::connect(&options.server, token.clone()).await?;
    let since = client.request(Method::GET, "/_matrix/client/v3/sync", None).await?["next_batch"].clone();
    Ok((client, since.as_str().ok_or("no next_batch")?.to_owned()))
}

async fn nothing(options: &Options, count: u64) -> Outcome<Value> {
    let (mut client, since) = synced(options).await?;
    let mut latencies = Vec::new();
    let begin = Instant::now();
    for number in 0..count {
        // Synapse keeps answers to the same question: no two are the same.
        let filter = format!("%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A{}%7D%7D%7D", number + 1);
        let path = format!("/_matrix/client/v3/sync?timeout=0&since={since}&filter={filter}");
        let asked = Instant::now();
        let answer = client.request(Method::GET, &path, None).await?;
        latencies.push(asked.elapsed());
        if answer["rooms"]["join"].as_object().is_some_and(|rooms| !rooms.is_empty()) {
            return Err("there was something new".into());
        }
    }
    Ok(summary(latencies, begin.elapsed()))
}

async fn wait(options: &Options, count: u64) -> Outcome<Value> {
    let (_, since) = synced(options).await?;
    let token = options.tokens.first().ok_or("a token is needed")?;
    let path = format!("/_matrix/client/v3/sync?timeout=600000&since={since}");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut client = Client::connect(&options.server, token.clone()).await?;
        let path = path.clone();
        waiting.spawn(async move { client.request(Method::GET, &path, None).await.map(|_| ()) });
    }
    // The caller looks at the server now, and ends the input.
    println!("ready");
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    tokio::select! {
        answered = waiting.join_next() => Err(format!("a sync did not wait: {answered:?}").into()),
        _ = ended => Ok(json!({"count": waiting.len()})),
    }
}

fn summary(mut latencies: Vec<Duration>, whole: Duration) -> Value {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).map(|latency| latency.as_secs_f64() * 1000.0)
    };
    json!({
        "count": latencies.len(),
        "seconds": whole.as_secs_f64(),
        "per_second": latencies.len() as f64 / whole.as_secs_f64(),
        "p50": at(0.5),
        "p99": at(0.99),
        "max": at(1.0),
    })
}

/// Wall time, which processes of one machine share.
fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// One keep-alive connection of one user.
struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: String,
    token: String,
}

impl Client {
    async fn connect(server: &str, token: String) -> Outcome<Client> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Client { connection, host: server.to_owned(), token })
    }

    async fn request(&mut self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", &self.host)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let status = answer.status();
        let content = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&content)).into());
        }
        Ok(serde_json::from_slice(&content)?)
    }
}
