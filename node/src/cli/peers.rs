//! `kith peers` and `kith status`: what a running node says.

use std::time::Duration;

use super::args::Output;
use super::exit::Failure;
use super::text::{self, bold, bytes, clean, duration};
use crate::admin::{Admin as _, AdminClient, Peer, Queue, Status};
use crate::config::Config;

pub(super) async fn peers(config: &Config, options: &Output) -> Result<(), Failure> {
    let peers = AdminClient::connect(&config.data_dir).await?.peers().await?;
    if options.json {
        return text::json(&peers);
    }
    if peers.is_empty() {
        text::line(
            "Nobody is near, and nobody else is known. Nodes on the same network find each other within a second or two.",
        );
        text::line("If one should be there: `kith doctor` on both devices.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
    text::out(&text::table(&["SERVER NAME", "STATE", "ROUND TRIP", "LAST HEARD OF", "ADDRESS"], &rows));
    Ok(())
}

/// A peer's name for people: what its key proves, and beside it what it merely says.
pub(super) fn shown_name(proven: &str, claimed: Option<&str>) -> String {
    match claimed {
        Some(claimed) => format!("{} (says it is {}: unverified)", clean(proven), clean(claimed)),
        None => clean(proven),
    }
}

fn row(peer: &Peer) -> Vec<String> {
    let state = match (peer.connected, peer.direct, peer.nearby) {
        (true, _, true) => "near, connected",
        (true, true, false) => "connected",
        (true, false, false) => "connected by relay",
        (false, _, true) => "near, not connected",
        (false, _, false) => "away",
    };
    vec![
        shown_name(&peer.server_name, peer.unverified_name.as_deref()),
        state.to_owned(),
        peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms")),
        peer.last_seen_s.map_or_else(
            || "never".to_owned(),
            |seen| format!("{} ago", duration(Duration::from_secs_f64(seen.clamp(0.0, 1e9)))),
        ),
        peer.addresses.first().map_or_else(|| "-".to_owned(), |address| clean(address)),
    ]
}

pub(super) async fn status(config: &Config, options: &Output) -> Result<(), Failure> {
    let status = AdminClient::connect(&config.data_dir).await?.status().await?;
    if options.json {
        return text::json(&status);
    }
    show(&status);
    Ok(())
}

fn show(status: &Status) {
    let field = |name: &str, value: &str| text::line(format!("{name:<13} {value}"));
    field("server name", &bold(&status.server_name));
    field("peer id", &status.peer_id);
    let uptime = duration(Duration::from_secs(status.uptime_s));
    field("running", &format!("for {uptime}, process {}, kith {}", status.pid, status.version));
    field("data", &status.data_dir.display().to_string());
    field("for clients", &format!("{} (listening on {})", status.public_base_url, list(&status.client_listeners)));
    if !status.federation_listeners.is_empty() {
        field("federation", &format!("HTTPS on {}", list(&status.federation_listeners)));
    }
    field("peers", &format!("{} near, {} connected", status.peers_nearby, status.peers_connected));
    for address in &status.addresses {
        field("", address);
    }
    field("accounts", &status.accounts.to_string());
    field("rooms", &status.rooms.to_string());
    let free = status.store.free_bytes.map_or_else(String::new, |free| format!(", {} free on the disk", bytes(free)));
    field("store", &format!("{}{free}, {} changes waiting", bytes(status.store.file_bytes), status.store.waiting));
    let refused: Vec<String> = status
        .federation
        .refused
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} {}", clean(reason)))
        .collect();
    if !refused.is_empty() {
        field("refused", &format!("events of other servers: {}", refused.join(", ")));
    }
    if let Some(link) = &status.setup_link {
        text::line(format!("\nThere is no account yet. Make the first one here:\n  {}", bold(link)));
    }
    if status.queues.is_empty() {
        text::line("\nNothing is queued.");
        return;
    }
    text::line("");
    let rows: Vec<Vec<String>> = status.queues.iter().map(|queue| queue_row(queue, status.now_ms)).collect();
    text::out(&text::table(&["WAITING FOR", "ROOMS", "MESSAGES", "AWAY", "NEXT TRY", "LAST ERROR"], &rows));
}

fn queue_row(queue: &Queue, now_ms: u64) -> Vec<String> {
    let none = || "-".to_owned();
    let away = queue.away_since_ms.map(|since| duration(Duration::from_millis(now_ms.saturating_sub(since))));
    vec![
        clean(&queue.destination),
        queue.rooms.to_string(),
        queue.messages.to_string(),
        away.unwrap_or_else(none),
        queue.retry_in_ms.map_or_else(none, |wait| format!("in {}", duration(Duration::from_millis(wait)))),
        queue.last_error.as_deref().map_or_else(none, clean),
    ]
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod names {
    use super::shown_name;

    #[test]
    fn a_name_that_a_peer_merely_claims_is_shown_as_unverified_beside_its_key() {
        assert_eq!(shown_name("key", None), "key");
        assert_eq!(shown_name("key", Some("matrix.org")), "key (says it is matrix.org: unverified)");
    }
}
