//! `kith doctor`: looks for what is wrong, and says how to mend it.

mod checks;
mod network;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::args::Output;
use super::exit::Failure;
use super::text;
use crate::admin::{Admin as _, AdminClient, ConnectError, Peer, Status};
use crate::config::{Config, ConfigError};

/// How long the running node is waited for. A node that takes longer is in trouble itself. Less than the socket's client
/// waits, so that it is a finding and not an error.
const PATIENCE: Duration = Duration::from_secs(8);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Worth knowing; nothing is broken.
    Note,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), remedy: None }
    }

    fn note(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Note, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn problem(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Problem, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// What a running node says of itself.
struct Running {
    status: Status,
    peers: Vec<Peer>,
}

/// Whether a node runs on the folder.
enum Life {
    Running(Box<Running>),
    /// Something holds the socket, but it did not say how it is. Its ports and its database are in use.
    Silent,
    Stopped,
}

/// Nothing of what is looked at is changed. `file` is the configuration file that was read if it is there.
pub(super) async fn run(config: Result<Config, ConfigError>, file: &Path, options: &Output) -> Result<(), Failure> {
    let findings = match config {
        Ok(config) => examine(&config, file).await,
        Err(error) => {
            vec![Finding::problem(
                "configuration",
                error.to_string(),
                "Mend it; `kith config` prints all keys with their defaults.",
            )]
        }
    };
    if options.json {
        text::json(&findings)?;
    } else {
        show(&findings);
    }
    if findings.iter().any(|finding| finding.level == Level::Problem) { Err(Failure::problems()) } else { Ok(()) }
}

async fn examine(config: &Config, file: &Path) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("configuration", "is valid")];
    findings.extend(network::certificate(config));
    findings.extend(checks::secrets_in_file(config, file));
    if let Some(finding) = checks::foreign(config) {
        // Nothing there is a node's: what else could be said of the folder would be advice to change somebody's things.
        findings.push(finding);
        findings.extend(network::ports(config));
        findings.push(network::interfaces(config));
        return findings;
    }
    findings.extend(checks::folder(config));
    findings.push(checks::key(config));
    findings.push(checks::disk(config));
    let (life, finding) = life(config).await;
    findings.push(checks::clock(config, &life));
    findings.push(finding);
    match &life {
        Life::Running(running) => {
            findings.extend(network::answers(running).await);
            findings.push(network::peers(config, running));
            findings.push(checks::store_figures(running));
            findings.push(checks::queues(running));
        }
        Life::Silent => {}
        Life::Stopped => {
            findings.extend(network::ports(config));
            findings.extend(checks::store(config));
        }
    }
    findings.push(network::interfaces(config));
    findings
}

/// Asks the running node, if there is one.
async fn life(config: &Config) -> (Life, Finding) {
    let ask = async {
        let client = AdminClient::connect(&config.data_dir).await.map_err(|error| match error {
            ConnectError::NotRunning(_) => {
                (Life::Stopped, Finding::note("node", "is not running", "Start it with `kith`."))
            }
            ConnectError::Forbidden(_) => {
                (Life::Silent, Finding::problem("node", error.to_string(), "Use the account it runs under."))
            }
            ConnectError::Io(..) => (Life::Silent, Finding::problem("node", error.to_string(), "Restart the node.")),
        })?;
        let answer = async { Ok::<_, crate::admin::AdminError>((client.status().await?, client.peers().await?)) };
        let (status, peers) = answer.await.map_err(|error| {
            let finding =
                Finding::problem("node", format!("runs, but answers: {error}"), "Its log says why; then restart it.");
            (Life::Silent, finding)
        })?;
        Ok(Running { status, peers })
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(running)) => {
            let message = format!("is running (process {})", running.status.pid);
            (Life::Running(Box::new(running)), Finding::ok("node", message))
        }
        Ok(Err(found)) => found,
        Err(_) => {
            let message = format!("does not answer within {} s", PATIENCE.as_secs());
            let remedy = "Its disk or processor may be overloaded; its log says more.";
            (Life::Silent, Finding::problem("node", message, remedy))
        }
    }
}

fn show(findings: &[Finding]) {
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok     ",
            Level::Note => "note   ",
            Level::Problem => "PROBLEM",
        };
        text::line(format!("{mark}  {}: {}", finding.check, text::clean(&finding.message)));
        if let Some(remedy) = &finding.remedy {
            text::line(format!("         -> {remedy}"));
        }
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    match problems {
        0 => text::line("\nNo problems found."),
        1 => text::line("\nOne problem found."),
        several => text::line(format!("\n{several} problems found.")),
    }
}
