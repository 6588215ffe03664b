//! Deliberate bugs: in no ordinary program, each at its place, each in the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kith_simulator::{mutants, scenario};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What the list says of each in one field, from its text: an ordinary build has no other.
fn field(name: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("mutants/src/list.rs")).unwrap();
    let marked = format!("{name}: \"");
    let value = |(at, mark): (usize, &str)| text[at + mark.len()..].split('"').next().unwrap().to_owned();
    text.match_indices(&marked).map(value).collect()
}

/// `(name, file)` of each.
fn listed() -> Vec<(String, String)> {
    let (names, files) = (field("name"), field("file"));
    assert_eq!(names.len(), files.len());
    names.into_iter().zip(files).collect()
}

#[test]
fn an_ordinary_program_does_not_hold_them() {
    // A control is named as one of them, so what they do is looked for.
    let told: BTreeSet<String> = field("does").into_iter().collect();
    assert_eq!(told.len(), listed().len());
    let texts: Vec<&str> = told.iter().map(String::as_str).collect();
    let patterns = tempfile::NamedTempFile::new().unwrap();
    fs::write(patterns.path(), texts.join("\n")).unwrap();
    // Some hundred megabytes without optimization: grep takes a second, a search of our own minutes.
    let found = Command::new("grep")
        .args(["--text", "--only-matching", "--fixed-strings", "--file"])
        .args([patterns.path(), Path::new(env!("CARGO_BIN_EXE_kith-sim"))])
        .output()
        .unwrap();
    assert!(found.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&found.stderr));
    let found: BTreeSet<String> = String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect();
    assert_eq!(found, if kith_mutants::BUILT { told } else { BTreeSet::new() });
}

#[test]
fn an_ordinary_program_says_how_to_get_them() {
    if kith_mutants::BUILT {
        return;
    }
    let plan = root().join("simulator/mutants.toml");
    let told = Command::new(env!("CARGO_BIN_EXE_kith-sim")).args(["mutants", "--plan"]).arg(plan).output().unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("KITH_MUTANTS=1"));
}

#[test]
fn each_is_at_one_place_in_the_file_that_the_list_names() {
    let listed = listed();
    let names: BTreeSet<&String> = listed.iter().map(|(name, _)| name).collect();
    assert!(names.len() == listed.len() && names.len() >= 24, "{}", listed.len());
    for (name, file) in &listed {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(text.matches(&format!("mutant!(\"{name}\")")).count(), 1, "{name} in {file}");
    }
}

/// Where else one is asked for it would be in no list, and nobody would try it.
#[test]
fn none_is_in_the_code_that_the_list_does_not_have() {
    let listed: BTreeSet<String> = listed().into_iter().map(|(name, _)| name).collect();
    let mut open: Vec<PathBuf> = ["node", "store", "transport", "simulator/src"].map(|part| root().join(part)).into();
    let mut found = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            found.extend(text.split("mutant!(\"").skip(1).filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
        }
    }
    assert_eq!(found, listed);
}

#[test]
fn the_plan_names_what_there_is() {
    let plan = mutants::plan(&root().join("simulator/mutants.toml")).unwrap();
    let listed: BTreeSet<String> = listed().into_iter().map(|(name, _)| name).collect();
    assert!(plan.first.keys().all(|name| listed.contains(name)), "{:?}", plan.first);
    for scenario in plan.scenarios.iter().chain(plan.first.values()).chain(&plan.controls) {
        let path = root().join("simulator/scenarios").join(scenario).with_extension("toml");
        scenario::load(&path).unwrap();
        assert!(!plan.controls.contains(scenario) || fs::read_to_string(path).unwrap().contains("must_fail"));
    }
}

#[test]
fn the_table_has_each_of_them_and_says_what_caught_it() {
    let table = fs::read_to_string(root().join("docs/mutants.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let listed = listed();
    assert_eq!(rows.len(), listed.len());
    for ((name, file), row) in listed.iter().zip(rows) {
        assert!(
            row.starts_with(&format!("| `{name}` | `{file}` |")),
            "run `kith-sim mutants --out docs/mutants.md`: {row}"
        );
        assert!(!row.contains("**nothing**"), "{row}");
    }
}
