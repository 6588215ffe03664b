//! The commented example, made from the list of keys.

use std::fmt::Write as _;

use super::keys::{KEYS, SECTIONS};

/// A complete `kith.toml`: every key with its explanation, commented out; defaults are shown as they are, keys without
/// a default with an example.
#[must_use]
pub fn example() -> String {
    let mut text = String::from(
        "# kith.toml: every key is optional. Lines that begin with `#` show the defaults, or an example where it says so.\n\
         # KITH_<KEY> and KITH_<SECTION>_<KEY> in the environment override this file (KITH_CLIENT_LISTEN=127.0.0.1:8009).\n",
    );
    for keys in KEYS {
        let section = keys.first().map_or("", |key| key.section);
        text.push('\n');
        if let Some((name, about)) = SECTIONS.iter().find(|(name, _)| *name == section) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# {about}\n[{name}]\n");
        }
        for key in *keys {
            for line in key.doc.lines() {
                let _ = writeln!(text, "# {}", line.trim_start());
            }
            let note = if key.set_by_default { "" } else { "   # example; not set by default" };
            let _ = writeln!(text, "#{} = {}{note}\n", key.name, key.value);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
