//! Opens the setup link in the owner's browser.
//!
//! The link is a secret until it is used, and other users of the device can see the arguments of every process. So the
//! browser is given a file that only the owner can read and that leads on to the link. It lies in the home folder
//! itself and is not hidden, because sandboxed browsers (snap, flatpak) cannot read hidden folders.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file that leads to the link; removed when dropped.
#[derive(Debug)]
pub(super) struct Opened {
    file: PathBuf,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Whether somebody sits at a desktop in front of this process.
pub(super) fn is_desktop() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let screen = cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY");
    let person = std::io::stdout().is_terminal() && !set("CI") && !set("SSH_CONNECTION");
    screen && person && !rustix::process::geteuid().is_root()
}

/// Opens `link`; nothing if that cannot be done. The link is shown on the terminal anyway.
pub(super) fn open(link: &str) -> Option<Opened> {
    let home = std::env::home_dir().filter(|home| home.is_dir())?;
    let opened = write(&home.join("kith-setup.html"), link)
        .inspect_err(|error| tracing::debug!(%error, "no file for the browser"))
        .ok()?;
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let file = opened.file.clone();
    // On its own thread: some openers last as long as the browser, and nobody needs their end.
    let started = std::thread::Builder::new().name("open link".into()).spawn(move || {
        let _ = Command::new(opener)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .inspect_err(|error| tracing::debug!(%error, "no browser was opened"));
    });
    started.is_ok().then_some(opened)
}

fn write(path: &Path, link: &str) -> std::io::Result<Opened> {
    // One left behind by a crash.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let opened = Opened { file: path.to_owned() };
    // The link is made of a checked base address and a token: nothing in it needs escaping beyond quotes.
    let link = link.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    writeln!(
        file,
        "<!DOCTYPE html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0; url={link}\"><title>kith</title><a href=\"{link}\">Set up kith</a>"
    )?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_with_the_link_is_for_the_owner_alone_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.html");
        fs::write(&path, "left behind").unwrap();
        let opened = write(&path, "http://localhost:8008/#/setup/abc").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("url=http://localhost:8008/#/setup/abc\""));
        drop(opened);
        assert!(!path.exists());
    }
}
