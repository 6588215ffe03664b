//! Which program holds a port: for the message that it is in use. Linux only; elsewhere nobody is named.

use std::net::SocketAddr;
use std::path::Path;

/// "name (process 123)" of the one that listens on the address's port, if that can be told.
pub(super) fn holder(address: SocketAddr) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, address.port()))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let folder = process.path();
        if holds(&folder, &inodes) {
            let name = std::fs::read_to_string(folder.join("comm")).ok()?;
            return Some(format!("{} (process {number})", super::text::clean(name.trim())));
        }
    }
    // It belongs to another user, whose files we cannot see.
    None
}

/// The inodes of sockets that listen on the port, of a table as proc(5) describes it.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?;
            (local.ends_with(&end) && state == LISTEN).then(|| inode.to_owned())
        })
        .collect()
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = holder(address).unwrap();
        assert!(holder.contains(&format!("(process {})", std::process::id())), "{holder}");
        drop(listener);
    }
}
