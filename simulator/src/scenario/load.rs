//! Reading scenarios, with errors that say what was probably meant.

use std::path::{Path, PathBuf};

use super::{Scenario, validate};

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{} cannot be read: {cause}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It is no TOML, has an unknown key, or a value of the wrong kind.
    #[error("{0}")]
    Form(String),
    /// Values that make no sense together.
    #[error("{0}")]
    Sense(String),
}

/// Reads a scenario file. What it names is looked for beside it, and taken in.
///
/// # Errors
/// [`LoadError`] names the place, and the nearest key to one that is unknown.
pub fn load(path: &Path) -> Result<Scenario, LoadError> {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|cause| LoadError::Read { path: path.to_owned(), cause });
    let mut scenario = form(&read(path)?)?;
    if let Some(contacts) = &mut scenario.network.contacts
        && let Some(file) = contacts.file.take()
    {
        contacts.text = Some(read(&path.parent().unwrap_or(Path::new(".")).join(file))?);
    }
    validate::check(&scenario)?;
    Ok(scenario)
}

/// Reads a scenario from its text.
///
/// # Errors
/// As [`load`]. One that needs another file is refused.
pub fn parse(text: &str) -> Result<Scenario, LoadError> {
    let scenario = form(text)?;
    validate::check(&scenario)?;
    Ok(scenario)
}

fn form(text: &str) -> Result<Scenario, LoadError> {
    toml::from_str(text).map_err(|error| LoadError::Form(explain(text, &error)))
}

/// The error with its line, and the nearest of the words that would do.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let message = error.message();
    // serde: "unknown field `x`, expected one of `a`, `b`"; likewise for variants.
    let mut words = message.split('`').skip(1).step_by(2);
    let nearest = if message.starts_with("unknown ") {
        words.next().and_then(|unknown| {
            let mut known: Vec<String> = words.map(str::to_owned).collect();
            if known.is_empty() {
                // Where fields are shared by several kinds, serde does not know them all.
                keys(schemars::schema_for!(Scenario).as_value(), &mut known);
            }
            known.into_iter().min_by_key(|word| strsim::damerau_levenshtein(unknown, word))
        })
    } else {
        None
    };
    match nearest {
        Some(nearest) => format!("{place}{message}; did you mean `{nearest}`?"),
        None => format!("{place}{message}"),
    }
}

/// All keys that a schema knows anywhere.
fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        found.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(parts) => parts.values().for_each(|part| keys(part, found)),
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| keys(part, found)),
        _ => {}
    }
}

/// The JSON Schema of scenarios, as it stands in `simulator/scenario.schema.json`.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Scenario)).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "version = 1\nname = \"x\"\nduration_s = 10\n[nodes]\ncount = 3\n";

    fn refusal(extra: &str) -> String {
        parse(&format!("{LEAST}{extra}")).unwrap_err().to_string()
    }

    #[test]
    fn the_least_scenario_is_one_room_on_a_full_mesh() {
        let scenario = parse(LEAST).unwrap();
        assert_eq!(scenario.topology, super::super::Topology::FullMesh);
        assert_eq!(scenario.rooms.len(), 1);
        assert_eq!(scenario.seed, 1);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
        let error = refusal("[network]\njiter_ms = 1\n");
        assert!(error.contains("line 7") && error.contains("did you mean `jitter_ms`?"), "{error}");
        let error = refusal("[[faults]]\nkind = \"partition\"\nfor_s = 1\ngrups = 2\n");
        assert!(error.contains("did you mean `groups`?"), "{error}");
        let error = refusal("[topology]\nkind = \"rign\"\n");
        assert!(error.contains("did you mean `ring`?"), "{error}");
    }

    #[test]
    fn without_disks_no_fault_may_touch_one() {
        let without = "[disk]\nvolatile = true\n";
        for kind in ["crash", "disk_full\"\nfor_s = 1 #", "disk_error", "disk_lies\"\nnode = 1 #"] {
            let fault = format!("[[faults]]\nkind = \"{kind}\"\nat_s = [1]\n");
            assert!(parse(&format!("{LEAST}{fault}")).is_ok(), "{kind}");
            assert!(refusal(&format!("{without}{fault}")).contains("disk.volatile"), "{kind}");
        }
        let harmless = "[[faults]]\nkind = \"partition\"\nat_s = [1]\nfor_s = 1\n";
        assert!(parse(&format!("{LEAST}{without}{harmless}")).is_ok());
    }

    #[test]
    fn a_scenario_written_out_reads_back_the_same() {
        let all = include_str!("../../scenarios/everything.toml");
        let scenario = parse(all).unwrap();
        assert_eq!(parse(&toml::to_string(&scenario).unwrap()).unwrap(), scenario);
    }

    #[test]
    fn the_published_schema_is_that_of_the_program() {
        let published = include_str!("../../scenario.schema.json");
        assert!(published == schema(), "run `kith-sim schema > simulator/scenario.schema.json`");
    }
}
