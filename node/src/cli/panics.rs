//! Panics while the database is opened.
//!
//! redb panics on some damaged files. The store catches that and says what is wrong; the panic's own text, which comes
//! first and speaks of a bug, would only mislead.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a database is being opened.
static OPENING: AtomicBool = AtomicBool::new(false);

/// From now on, what redb says when it panics goes to the log, at debug, while somebody [opens](opening) a database.
pub(super) fn watch() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if OPENING.load(Ordering::Acquire) && is_of_the_database(info) {
            tracing::debug!(%info, "the database is damaged");
        } else {
            usual(info);
        }
    }));
}

fn is_of_the_database(info: &PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|location| location.file().contains("/redb-"))
}

/// Marks the time in which a database is opened; ends when dropped.
#[derive(Debug)]
pub(super) struct Opening(());

pub(super) fn opening() -> Opening {
    OPENING.store(true, Ordering::Release);
    Opening(())
}

impl Drop for Opening {
    fn drop(&mut self) {
        OPENING.store(false, Ordering::Release);
    }
}
