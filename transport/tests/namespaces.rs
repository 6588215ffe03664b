//! Two nodes in network namespaces of their own, joined by a switch: discovery over real interfaces, a cable that is pulled and put
//! back, and a slow link. Needs root and `ip` (and `tc` for the slow link). Where they are missing, each test says so and passes; with
//! the environment variable `CI` set it fails.

#![allow(clippy::disallowed_methods, reason = "these tests run on real time and real processes")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kith_transport::libp2p::{Libp2pConfig, Libp2pNetwork, RecordParts};
use kith_transport::{
    Class, Network, NetworkEvent, Router, SecretKey, Sequence, ServerKey, boxed, empty, full, read_body,
};

const NODE: &str = "KITH_TEST_NODE";
const DEADLINE: Duration = Duration::from_secs(40);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn key(n: u8) -> ServerKey {
    secret(n).public()
}

/// The other side of these tests: the same program, started inside a namespace. Without the variable it is no test.
///
/// Commands on standard input: `ask N`, `download N`, `stop`. Reports on standard output: `ready`, `event ...`,
/// `answer N ok|failed MS`, `downloading`.
#[test]
fn node_process() {
    let Some(n) = std::env::var(NODE).ok().and_then(|n| n.parse().ok()) else {
        return;
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(node(n));
}

async fn node(n: u8) {
    let router = Router::new(|request| async move {
        if request.uri().path() == "/endless" {
            let chunk = bytes::Bytes::from(vec![7u8; 16 * 1024]);
            let frames =
                futures::stream::repeat_with(move || Ok::<_, std::io::Error>(http_body::Frame::data(chunk.clone())));
            http::Response::new(boxed(http_body_util::StreamBody::new(frames)))
        } else {
            http::Response::new(full("here"))
        }
    });
    let parts = RecordParts::new(key(n).to_string(), Sequence::for_run(0, 0));
    let network = Libp2pNetwork::start(Libp2pConfig::default(), secret(n), parts, router).await.expect("it starts");
    let mut events = network.events();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            match event {
                NetworkEvent::Discovered { .. } => println!("event discovered"),
                NetworkEvent::Connected { .. } => println!("event connected"),
                NetworkEvent::Disconnected { .. } => println!("event disconnected"),
                _ => {}
            }
        }
    });
    println!("ready {}", network.own_addresses().join(" "));
    let (sender, mut commands) = tokio::sync::mpsc::channel::<String>(16);
    std::thread::Builder::new()
        .spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        })
        .expect("a thread");
    while let Some(command) = commands.recv().await {
        let network = network.clone();
        let (verb, of) = command.split_once(' ').unwrap_or((&command, ""));
        let peer = key(of.parse().unwrap_or(0));
        match verb {
            "ask" => {
                let began = Instant::now();
                let request = http::Request::builder().uri("/ask").body(empty());
                let answer = network.request(peer, Class::Control, request.expect("a request")).await;
                let ok = match answer {
                    Ok(response) => read_body(response.into_body(), 100).await.is_ok(),
                    Err(error) => {
                        println!("error {error}");
                        false
                    }
                };
                let word = if ok { "ok" } else { "failed" };
                println!("answer {word} {}", began.elapsed().as_millis());
            }
            "download" => {
                tokio::spawn(async move {
                    let request = http::Request::builder().uri("/endless").body(empty());
                    let answer = network.request(peer, Class::Bulk, request.expect("a request")).await;
                    println!("downloading {}", answer.is_ok());
                    if let Ok(response) = answer {
                        let mut body = response.into_body();
                        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
                    }
                });
            }
            _ => break,
        }
    }
    network.shutdown().await;
    println!("stopped");
}

/// A node in a namespace.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(namespace: &str, n: u8) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(program)
            .args(["--exact", "node_process", "--nocapture"])
            .env(NODE, n.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip netns exec");
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            })
            .expect("a thread");
        Self { input: child.stdin.take().expect("piped"), child, lines }
    }

    fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the node listens");
    }

    /// Waits for a line that begins like this; gives its rest, and how long it took.
    fn wait(&mut self, begin: &str) -> (String, Duration) {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain for {begin:?}"));
            if let Some(rest) = line.strip_prefix(begin) {
                return (rest.trim().to_owned(), began.elapsed());
            }
            if line.starts_with("error") {
                println!("{line}");
            }
        }
    }

    /// One request; how long it took when it was answered.
    fn ask(&mut self, n: u8) -> Option<Duration> {
        self.say(&format!("ask {n}"));
        let (rest, _) = self.wait("answer");
        let (word, millis) = rest.split_once(' ')?;
        (word == "ok").then(|| Duration::from_millis(millis.parse().unwrap_or(u64::MAX)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A switch and two namespaces on it; taken away when dropped.
struct Lan {
    name: String,
}

fn run(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A test cannot be made here.
fn left_out(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and nothing may be left out here");
    eprintln!("SKIPPED: {why}");
}

impl Lan {
    /// `None`, said aloud, where namespaces cannot be made.
    fn new(name: &str) -> Option<Self> {
        let lan = Self { name: format!("kt{}{name}", std::process::id() % 10_000) };
        let name = &lan.name;
        // The switch has a namespace of its own, so that nothing of this touches the machine's network.
        let mut works = run(&format!("ip netns add {name}s"))
            && run(&format!("ip -n {name}s link add name sw0 type bridge"))
            && run(&format!("ip -n {name}s link set dev sw0 up"));
        for (n, side) in [(1, "a"), (2, "b")] {
            works = works
                && run(&format!("ip netns add {name}{side}"))
                && run(&format!("ip -n {name}s link add port{side} type veth peer name eth0 netns {name}{side}"))
                && run(&format!("ip -n {name}s link set port{side} master sw0 up"))
                && run(&format!("ip -n {name}{side} link set lo up"))
                && run(&format!("ip -n {name}{side} addr add 10.77.0.{n}/24 dev eth0"))
                && run(&format!("ip -n {name}{side} addr add fd77::{n}/64 dev eth0 nodad"))
                && run(&format!("ip -n {name}{side} link set eth0 up"));
        }
        if !works {
            left_out("network namespaces cannot be made here (root and iproute2 are needed)");
            return None;
        }
        Some(lan)
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    /// Pulls the cable of a side out of the switch, or puts it back.
    fn cable(&self, side: &str, state: &str) {
        let name = &self.name;
        assert!(run(&format!("ip -n {name}s link set port{side} {state}")));
    }

    /// Both nodes, once they see each other.
    fn nodes(&self) -> (Process, Process) {
        let mut a = Process::start(&self.namespace("a"), 1);
        a.wait("ready");
        let mut b = Process::start(&self.namespace("b"), 2);
        let (addresses, _) = b.wait("ready");
        assert!(addresses.contains("10.77.0.2") && addresses.contains("fd77::2"));
        assert!(!addresses.contains("fe80") && !addresses.contains("127.0.0.1"));
        let (_, b_saw) = b.wait("event discovered");
        let (_, a_saw) = a.wait("event discovered");
        println!("discovered: the newcomer after {b_saw:?}, then the other after {a_saw:?} more");
        assert!(a_saw < Duration::from_secs(4) && b_saw < Duration::from_secs(4));
        (a, b)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for side in ["a", "b", "s"] {
            run(&format!("ip netns del {}{side}", self.name));
        }
    }
}

#[test]
fn a_cable_pulled_and_put_back_is_noticed_and_mended_within_seconds() {
    let Some(lan) = Lan::new("c") else { return };
    let (mut a, mut b) = lan.nodes();
    assert!(a.ask(2).is_some() && b.ask(1).is_some());
    lan.cable("a", "down");
    let (_, a_saw) = a.wait("event disconnected");
    let (_, b_saw) = b.wait("event disconnected");
    println!("noticed after {a_saw:?} and {b_saw:?} more");
    assert!(a_saw + b_saw < Duration::from_secs(15));
    assert!(a.ask(2).is_none());
    // Long enough that the wait between attempts has grown as far as it does for a peer nearby.
    std::thread::sleep(Duration::from_secs(5));
    lan.cable("a", "up");
    let (_, back) = a.wait("event connected");
    println!("connected again after {back:?}");
    assert!(back < Duration::from_secs(6));
    b.wait("event connected");
    assert!(a.ask(2).is_some() && b.ask(1).is_some());
}

#[test]
fn small_requests_stay_quick_on_a_slow_link_that_a_download_fills() {
    let Some(lan) = Lan::new("s") else { return };
    let (mut a, mut b) = lan.nodes();
    assert!(a.ask(2).is_some());
    let name = &lan.name;
    // 1 Mbit/s each way; 100 kB of buffer in the switch, as home routers have.
    for side in ["a", "b"] {
        if !run(&format!("tc -n {name}s qdisc add dev port{side} root tbf rate 1mbit burst 3000 limit 100000")) {
            left_out("tc cannot shape traffic here");
            return;
        }
    }
    a.say("download 2");
    assert_eq!(a.wait("downloading").0, "true");
    let began = Instant::now();
    let mut times = vec![];
    while began.elapsed() < Duration::from_secs(20) {
        times.push(a.ask(2).expect("answered"));
        times.push(b.ask(1).expect("answered"));
    }
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{} requests: p50 {:?}, p99 {:?}", times.len(), at(50), at(99));
    assert!(at(99) < Duration::from_secs(1), "p99 {:?}", at(99));
}
