//! The program as it is used: two processes with one seed, and what they leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.toml"))
}

fn kith_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kith-sim")).args(args).output().unwrap()
}

/// Runs a scenario into a folder; gives all files with their names.
fn run(name: &str, seed: &str, folder: &Path) -> Vec<(String, Vec<u8>)> {
    let scenario = scenario(name);
    let args = ["run", scenario.to_str().unwrap(), "--seed", seed, "--quiet", "--out", folder.to_str().unwrap()];
    let output = kith_sim(&args);
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn two_processes_with_one_seed_leave_the_same_files_to_the_byte_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, seed| run("adversarial-5", seed, &folder.path().join(name));
    let (one, two, other) = (of("one", "3"), of("two", "3"), of("other", "4"));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"manifest.json") && names.contains(&"deliveries.parquet"), "{names:?}");
    for ((name, first), (_, second)) in one.iter().zip(&two) {
        assert!(first == second, "{name} differs");
    }
    let manifest = |files: &[(String, Vec<u8>)]| files.iter().find(|file| file.0 == "manifest.json").unwrap().1.clone();
    assert_ne!(manifest(&one), manifest(&other));
    let replayed = kith_sim(&["replay", folder.path().join("one").to_str().unwrap()]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));
    let text = String::from_utf8(manifest(&one)).unwrap().replacen("\"digest\": \"", "\"digest\": \"0", 1);
    fs::write(folder.path().join("one/manifest.json"), text).unwrap();
    let replayed = kith_sim(&["replay", folder.path().join("one").to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(1), "another digest is told");
}

#[test]
fn without_disks_all_happens_as_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let traced = |name: &str, disk: &str| {
        let text = format!(
            "version = 1\nname = \"x\"\nduration_s = 20\n[nodes]\ncount = 6\n[disk]\n{disk}\n[network]\nloss = 0.05\n\
             [[workload]]\nkind = \"poisson\"\nrate_per_s = 3\n[[workload]]\nkind = \"media\"\nevery_s = 5\nbytes = 5000\n\
             [[faults]]\nkind = \"partition\"\nat_s = [5]\nfor_s = 6\n"
        );
        let (scenario, trace) =
            (folder.path().join(format!("{name}.toml")), folder.path().join(format!("{name}.trace")));
        fs::write(&scenario, text).unwrap();
        let output = kith_sim(&["run", scenario.to_str().unwrap(), "--quiet", "--trace", trace.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(&trace).unwrap()
    };
    let (with, without) = (traced("with", ""), traced("without", "volatile = true"));
    let happened: Vec<&str> = with.lines().filter(|line| !line.contains(" disk of ")).collect();
    assert_eq!(with.lines().count() - happened.len(), 6);
    assert!(happened.len() > 1000 && happened == without.lines().collect::<Vec<_>>());
}

#[test]
fn every_scenario_that_ships_can_be_run() {
    let folder = scenario("x").parent().unwrap().to_owned();
    let files = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let all = [files(&folder), files(&folder.join("results"))].concat();
    let (sweeps, all): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| path.to_str().unwrap().to_owned())
        .partition(|path| path.ends_with(".sweep.toml"));
    assert!(all.len() >= 20 && sweeps.len() >= 2, "{all:?} {sweeps:?}");
    for sweep in &sweeps {
        let out = tempfile::tempdir().unwrap();
        let planned = kith_sim(&["sweep", "plan", sweep, "--out", out.path().join("plan").to_str().unwrap()]);
        assert!(planned.status.success(), "{sweep}: {}", String::from_utf8_lossy(&planned.stderr));
    }
    let mut args = vec!["check"];
    args.extend(all.iter().map(String::as_str));
    let checked = kith_sim(&args);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_scenario_that_makes_no_sense_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    fs::write(&path, "version = 1\nname = \"x\"\nduration_s = 1\n[nodes]\ncuont = 3\n").unwrap();
    let output = kith_sim(&["run", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("line 5") && told.contains("did you mean `count`?"), "{told}");
}
