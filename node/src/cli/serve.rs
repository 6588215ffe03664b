//! `kith serve`: runs a node until it is told to stop, and tells its owner what is happening.

use std::io::IsTerminal as _;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::args::Serve;
use super::browser::{self, Opened};
use super::exit::Failure;
use super::text::{bold, line};
use super::{neighbours, panics};
use crate::accounts::users;
use crate::admin::{self, NodeAdmin};
use crate::config::Config;
use crate::identity;
use crate::platform::{Platform, SystemClock};
use crate::{Handle, Node};

pub(super) async fn run(config: Config, options: &Serve) -> Result<(), Failure> {
    // Before anything takes time, so that no signal is lost.
    let mut signals = Signals::new()?;
    let clock = Arc::new(SystemClock::new());
    let mut platform = Platform::system().map_err(|error| Failure::general(error.to_string()))?;
    platform.clock = Arc::clone(&clock) as _;
    let spawner = Arc::clone(&platform.spawner);

    let opening = panics::opening();
    let handle = tokio::select! {
        biased;
        started = Node::start(config, platform) => started?,
        code = signals.next() => {
            // Nothing was acknowledged yet, so nothing can be lost.
            spawner.shutdown().await;
            tracing::info!(code, "stopped while starting");
            return Ok(());
        }
    };
    drop(opening);
    let node = handle.node();
    let (failed, mut failure) = mpsc::channel(1);
    node.store.on_failure(Box::new(move |error| _ = failed.try_send(error.to_string())));
    let owner = Arc::new(NodeAdmin::new(&handle));
    let data_dir = &node.config.data_dir;
    admin::serve(data_dir, Arc::clone(&owner) as _, Arc::clone(&spawner), Arc::clone(&node.clock)).map_err(
        |error| Failure::general(format!("the local socket in {} cannot be opened: {error}", data_dir.display())),
    )?;

    tell_clock(&clock);
    let opened = welcome(&handle, &owner, options).await;
    if std::io::stdout().is_terminal()
        && let Some(network) = node.transport.network()
    {
        let (network, events) = (Arc::clone(network), network.events());
        spawner.spawn("tell of peers", neighbours::tell(network, events).boxed());
    }
    notify_service_manager();

    let ended = tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        Some(error) = failure.recv() => Err(Failure::general(format!("the node cannot go on: {error}"))),
    };
    line("Stopping. (Once more to stop at once.)");
    drop(opened);
    tokio::select! {
        biased;
        () = handle.stop() => {}
        code = signals.next() => std::process::exit(code),
    }
    ended
}

/// Says who and where the node is, and how to begin.
async fn welcome(handle: &Handle, owner: &NodeAdmin, options: &Serve) -> Option<Opened> {
    let node = handle.node();
    let base_url = node.config.public_base_url_at(handle.addresses());
    line(format!("kith {}\n", env!("CARGO_PKG_VERSION")));
    line(format!("  server name   {}", bold(node.identity.server_name().as_str())));
    line(format!("  data          {}", node.config.data_dir.display()));
    line(format!("  for clients   {base_url}"));
    // Not only at the first start, which may have ended at a port in use before anybody read this.
    let unused = node.store.read(|read| users::any(read)).is_ok_and(|any| !any);
    if node.identity.created || unused {
        let begin = if node.identity.created { "This is the first start." } else { "There is no account yet." };
        line(format!("\n{begin} {}", identity::backup_hint(&node.config.data_dir)));
        line("The server name stands in every account and room, and cannot be changed later.");
    }
    if node.identity.began_anew {
        line(format!("\n{}", bold(&identity::began_anew_warning(&node.config.data_dir))));
        tracing::warn!("the key is there, but its data are not: this server begins anew under its old name");
    }
    let opened = match owner.setup_link().await {
        Ok(Some(link)) => {
            line(format!("\nMake your account here (the link works once, for an hour):\n  {}", bold(&link)));
            (!options.no_open && browser::is_desktop()).then(|| browser::open(&link)).flatten()
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%error, "no setup link could be made; `kith user add` makes accounts too");
            None
        }
    };
    if node.transport.network().is_none() {
        line("\nPeer-to-peer is off: other nodes are not looked for.");
    } else {
        line("\nLooking for other nodes. Ctrl-C stops.");
    }
    opened
}

/// Warns of a clock that cannot be right.
fn tell_clock(clock: &SystemClock) {
    let wall = super::clock::wall();
    if let Some(wrong) = super::clock::judge(wall, wall + clock.ahead_of_wall()) {
        tracing::warn!("this device's clock {}. {}", wrong.what, wrong.remedy);
    }
}

/// Tells systemd (`Type=notify`) that the node is up, by the datagram of sd_notify(3).
fn notify_service_manager() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| path.as_encoded_bytes().starts_with(b"/")) else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", path));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager could not be told that the node is up");
    }
}

/// The signals that mean "stop".
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal was closed; absent where that is to be ignored (`nohup`).
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|error| Failure::general(format!("signals cannot be received: {error}")));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() { None } else { Some(take(SignalKind::hangup())?) },
        })
    }

    /// Waits for one; gives the exit code of a process that it ends.
    async fn next(&mut self) -> i32 {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let number = tokio::select! {
            biased;
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = hangup => SignalKind::hangup(),
        };
        128 + number.as_raw_value()
    }
}

/// Whether this process was started to outlive its terminal. Told on Linux; a handler would undo it.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A mask in hexadecimal, signal 1 (SIGHUP) in the lowest bit.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
