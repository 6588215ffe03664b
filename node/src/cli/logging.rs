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
    let wrong =
        |what: String| Failure::arguments(format!("--log (KITH_LOG): {what}: try `debug` or `kith=debug,info`"));
    if let Some(word) = filter.split(',').map(str::trim).find(|word| !is_directive(word)) {
        return Err(wrong(format!("`{word}` is no level (error, warn, info, debug, trace, off)")));
    }
    let filter = EnvFilter::builder()
        .parse(&filter)
        .map_err(|error| wrong(format!("`{filter}` is not understood ({error})")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    started.map_err(|error| Failure::general(format!("logging cannot be started: {error}")))
}

/// Whether it is a level, or says of what it filters. The library takes any other word for the name of a part, all of
/// which would be logged: with a mistyped level nothing at all, without a word about it.
fn is_directive(word: &str) -> bool {
    word.is_empty() || word.contains(['=', '[']) || word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_told_and_not_taken_for_the_name_of_a_part() {
        for good in ["debug", "WARN", "off", "kith=debug", "kith[span]", "kith=debug,info"] {
            assert!(good.split(',').all(is_directive), "{good}");
        }
        let failure = start(Some("verbos"), LogFormat::Human, true).unwrap_err();
        assert_eq!(
            failure,
            Failure::arguments(
                "--log (KITH_LOG): `verbos` is no level (error, warn, info, debug, trace, off): try `debug` or `kith=debug,info`"
            )
        );
        assert!(start(Some("kith=loud"), LogFormat::Human, true).is_err());
    }
}
