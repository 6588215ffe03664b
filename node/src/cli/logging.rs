//! Logs, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use super::exit::Failure;

/// What a running node logs by default; other commands only tell what is wrong.
const SERVING: &str = "warn,kith=info,kith_store=info,kith_room=info,kith_transport=info,ruma_state_res=error";

/// Starts logging.
///
/// # Errors
/// When the filter is not one.
pub(super) fn start(filter: Option<&str>, format: LogFormat, serving: bool) -> Result<(), Failure> {
    let asked = filter.map(str::trim).filter(|filter| !filter.is_empty());
    let filter = match asked {
        // A bare level means kith's own parts; what libraries say is rarely wanted with it.
        Some(level @ ("info" | "debug" | "trace")) => {
            let others = if level == "info" { "warn" } else { "info" };
            format!(
                "{others},ruma_state_res=error,kith={level},kith_store={level},kith_room={level},kith_transport={level}"
            )
        }
        Some(other) => other.to_owned(),
        None if serving => SERVING.to_owned(),
        None => "warn,ruma_state_res=error".to_owned(),
    };
    let filter = EnvFilter::builder().parse(&filter).map_err(|error| {
        Failure::general(format!(
            "--log (KITH_LOG): `{filter}` is not understood ({error}): try `debug` or `kith=debug,info`"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    started.map_err(|error| Failure::general(format!("logging cannot be started: {error}")))
}
