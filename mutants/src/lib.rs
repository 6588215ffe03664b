//! Deliberate bugs of one line each, in the node's own code, to see whether the simulator's checkers find them.
//!
//! Where one is, the code asks `mutant!("its-name")`. Ordinarily that is the word `false`: nothing of it is compiled. A build with
//! `KITH_MUTANTS=1` in its environment holds all of them, and the variable `KITH_MUTANT` chooses the one that is at work when it
//! runs; without it none is. `kith-sim mutants` runs them all.
//!
//! A new one is a line in `list.rs` and its place in the code. One that is asked for and not listed does not compile.

#[cfg(kith_mutants)]
mod list;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// What the code and `KITH_MUTANT` call it.
    pub name: &'static str,
    /// Where it is.
    pub file: &'static str,
    /// What is wrong with it at work.
    pub does: &'static str,
}

/// Whether this build holds them.
pub const BUILT: bool = cfg!(kith_mutants);

/// All that this build holds.
#[cfg(kith_mutants)]
pub const ALL: &[Mutant] = list::ALL;
/// All that this build holds: none.
#[cfg(not(kith_mutants))]
pub const ALL: &[Mutant] = &[];

/// Whether a deliberate bug is at work.
#[cfg(not(kith_mutants))]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

/// Whether a deliberate bug is at work.
#[cfg(kith_mutants)]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {{
        const { assert!($crate::is_listed($name), "mutants/src/list.rs has no mutant of this name") };
        $crate::is_at_work($name)
    }};
}

/// The one that the environment chooses. Always none in a build that holds none.
///
/// # Errors
/// There is none of that name.
pub fn chosen() -> Result<Option<&'static Mutant>, String> {
    if !BUILT {
        return Ok(None);
    }
    let Some(name) = std::env::var_os("KITH_MUTANT").filter(|name| !name.is_empty()) else { return Ok(None) };
    let found = ALL.iter().find(|mutant| *mutant.name == *name);
    found.map(Some).ok_or_else(|| format!("KITH_MUTANT is {name:?}, and there is no such mutant"))
}

/// A mutant, and whether it is at work just now.
pub type Somewhere = (&'static str, Box<dyn Fn() -> bool>);

#[cfg(kith_mutants)]
thread_local! {
    static SOMEWHERE: std::cell::RefCell<Option<Somewhere>> = const { std::cell::RefCell::new(None) };
}

/// Puts one to work on this thread, now and then: so that of many nodes only one has it. In a build that holds none this does nothing.
pub fn put_to_work(somewhere: Option<Somewhere>) {
    #[cfg(kith_mutants)]
    SOMEWHERE.set(somewhere);
    #[cfg(not(kith_mutants))]
    drop(somewhere);
}

/// Whether this one was chosen, by the environment (looked up once) or by [`put_to_work`].
///
/// # Panics
/// The environment chooses one that is not there: a run without it would prove nothing.
#[cfg(kith_mutants)]
pub fn is_at_work(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<&'static Mutant>> =
        std::sync::LazyLock::new(|| chosen().unwrap_or_else(|error| panic!("{error}")));
    CHOSEN.is_some_and(|mutant| mutant.name == name)
        || SOMEWHERE.with_borrow(|somewhere| somewhere.as_ref().is_some_and(|(of, here)| *of == name && here()))
}

/// Whether [`ALL`] has one of this name.
#[cfg(kith_mutants)]
pub const fn is_listed(name: &str) -> bool {
    let mut index = 0;
    while index < ALL.len() {
        if is_same(ALL[index].name.as_bytes(), name.as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

#[cfg(kith_mutants)]
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_build_holds_none() {
        assert_eq!(BUILT, cfg!(kith_mutants));
        assert_eq!(ALL.is_empty(), !BUILT);
    }
}
