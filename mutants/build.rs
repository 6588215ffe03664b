//! Deliberate bugs are built only where the environment asks for them. A Cargo feature would not do: any package of a build
//! could switch it on for all of them.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(kith_mutants)");
    println!("cargo::rerun-if-env-changed=KITH_MUTANTS");
    if std::env::var_os("KITH_MUTANTS").is_some_and(|value| value == "1") {
        println!("cargo::rustc-cfg=kith_mutants");
    }
}
