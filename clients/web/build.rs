//! Builds the web client and makes a table of its files, for `src/lib.rs`.
//!
//! - `KITH_WEB_DIST=none`: no client.
//! - `KITH_WEB_DIST=FOLDER`: what lies there, built before: for packagers. (Relative to the root of the repository.)
//! - else, where npm is: `npm ci` and `npm run build` on a copy of the sources below `OUT_DIR`. Nothing is written into the sources.
//!   Without npm, or without a network to get the packages from, the program is built without the client, with a warning.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use flate2::{Compression, GzBuilder};

/// What in the folder of this crate does not belong to the client's sources.
const NOT_SOURCES: &[&str] = &["Cargo.toml", "build.rs", "src", "node_modules", "dist", "target"];
/// Bounds of what is embedded.
const MOST_FILES: usize = 2_000;
const MOST_BYTES: u64 = 64 << 20;

type Outcome<T> = Result<T, String>;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=KITH_WEB_DIST");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let given = env::var("KITH_WEB_DIST").ok().filter(|given| !given.is_empty());
    let dist = match given.as_deref() {
        _ if env::var_os("CARGO_FEATURE_EMBED").is_none() => None,
        Some("none") => None,
        Some(folder) => {
            let folder = here.join("../..").join(folder);
            println!("cargo::rerun-if-changed={}", folder.display());
            assert!(
                folder.join("index.html").is_file(),
                "KITH_WEB_DIST: there is no index.html in {}",
                folder.display()
            );
            Some(folder)
        }
        None => match build(&here, &out) {
            Ok(dist) => dist,
            Err(reason) => {
                warn(&reason);
                warn("the node is built without its web client, and serves a plain page instead");
                None
            }
        },
    };
    let table = dist.map_or_else(|| Ok(Vec::new()), |dist| embed(&dist, &out.join("files")));
    let table = table.unwrap_or_else(|error| panic!("the web client cannot be embedded: {error}"));
    fs::write(out.join("files.rs"), written(&table)).expect("OUT_DIR can be written to");
}

fn warn(text: impl fmt::Display) {
    println!("cargo::warning={text}");
}

/// Builds the client with npm. Gives the folder with the result; none: the sources are not here.
fn build(here: &Path, out: &Path) -> Outcome<Option<PathBuf>> {
    if !here.join("package.json").is_file() {
        // A file that is not there cannot be watched.
        println!("cargo::rerun-if-changed={}", here.display());
        return Ok(None);
    }
    let work = out.join("work");
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    let sources = sources(here).map_err(|error| failed("the sources of the web client cannot be read", error))?;
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let npm = Npm { folder: work.clone() };
    if npm.command(&["--version"]).current_dir(out).output().is_err() {
        // Seen when npm is installed later: the folder in which it lies then changes.
        let path = env::var_os("PATH").unwrap_or_default();
        for folder in env::split_paths(&path).filter(|folder| folder.is_dir() && !folder.starts_with(out)) {
            println!("cargo::rerun-if-changed={}", folder.display());
        }
        return Err("npm is not installed, and the web client is built with it".to_owned());
    }
    copy_anew(&sources, &work).map_err(|error| failed("the sources of the web client cannot be copied", error))?;
    // The packages stay for the next build, as long as the same ones are wanted.
    let lock = fs::read(work.join("package-lock.json")).unwrap_or_default();
    let (installed, modules) = (work.join("installed"), work.join("node_modules"));
    if !modules.is_dir() || fs::read(&installed).ok().as_ref() != Some(&lock) {
        let _ = fs::remove_file(&installed);
        npm.run(&["ci", "--ignore-scripts", "--prefer-offline"], out)?;
        fs::write(&installed, &lock).map_err(|error| failed("OUT_DIR cannot be written to", error))?;
    }
    let dist = out.join("dist");
    npm.run(&["run", "build"], &dist)?;
    match dist.join("index.html").is_file() {
        true => Ok(Some(dist)),
        false => Err("npm run build left no index.html".to_owned()),
    }
}

/// The files and folders next to this one that make up the client.
fn sources(here: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(here)? {
        let entry = entry?;
        let name = entry.file_name();
        if !NOT_SOURCES.iter().any(|other| name == *other) && !name.as_encoded_bytes().starts_with(b".") {
            sources.push(entry.path());
        }
    }
    sources.sort();
    Ok(sources)
}

/// Copies sources into a folder, in which nothing else is left but what npm installed.
fn copy_anew(sources: &[PathBuf], into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(into)? {
        let entry = entry?;
        let keep = ["node_modules", "installed"];
        if !keep.iter().any(|kept| entry.file_name() == *kept) {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    sources.iter().try_for_each(|source| copy(source, &into.join(source.file_name().unwrap_or_default())))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

struct Npm {
    folder: PathBuf,
}

impl Npm {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
        command.args(arguments).current_dir(&self.folder);
        // What is asked of the network ends soon where there is none.
        command.env("npm_config_fetch_retries", "1").env("npm_config_fetch_retry_mintimeout", "1000");
        command.env("npm_config_fetch_retry_maxtimeout", "5000");
        command.env("npm_config_audit", "false").env("npm_config_fund", "false");
        command.env("npm_config_update_notifier", "false");
        command
    }

    /// Runs npm; on failure gives the end of what it said.
    fn run(&self, arguments: &[&str], dist: &Path) -> Outcome<()> {
        let what = format!("npm {}", arguments.join(" "));
        let output = self.command(arguments).env("KITH_WEB_OUT", dist).output();
        let Output { status, stdout, stderr } = output.map_err(|error| format!("{what}: {error}"))?;
        if status.success() {
            return Ok(());
        }
        let said = [stdout, stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> =
            said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("npm warn")).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(12)) {
            warn(line);
        }
        let again = "when that is mended, touch clients/web/package.json and build again";
        Err(format!("`{what}` failed ({status}); {again}"))
    }
}

/// A line of the table.
struct Entry {
    path: String,
    content_type: &'static str,
    etag: String,
    immutable: bool,
    gzip: bool,
    length: usize,
}

/// Writes the files of a built client, compressed where that helps, under their number in the table.
fn embed(dist: &Path, into: &Path) -> Outcome<Vec<Entry>> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    if into.exists() {
        fs::remove_dir_all(into).map_err(|error| failed(into, error))?;
    }
    fs::create_dir_all(into).map_err(|error| failed(into, error))?;
    let mut paths = Vec::new();
    list(dist, "", &mut paths).map_err(|error| failed(dist, error))?;
    // Maps of the sources are for those who work on them.
    paths.retain(|path| !path.ends_with(".map"));
    paths.sort();
    let mut table = Vec::new();
    let mut bytes = 0;
    for path in paths {
        let content = fs::read(dist.join(&path)).map_err(|error| failed(&dist.join(&path), error))?;
        bytes += content.len() as u64;
        if table.len() >= MOST_FILES || bytes > MOST_BYTES {
            return Err(format!("more than {MOST_FILES} files or {MOST_BYTES} bytes"));
        }
        let small = gzip(&content).map_err(|error| failed(&dist.join(&path), error))?;
        // Pictures and fonts are compressed already.
        let gzip = small.len() < content.len() / 10 * 9;
        let place = into.join(table.len().to_string());
        fs::write(&place, if gzip { &small } else { &content }).map_err(|error| failed(&place, error))?;
        table.push(Entry {
            content_type: content_type(&path),
            etag: etag(&content),
            immutable: is_hashed(&path),
            gzip,
            length: content.len(),
            path,
        });
    }
    Ok(table)
}

/// All files below a folder, by their paths with slashes.
fn list(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is not UTF-8")))?;
        match entry.path().is_dir() {
            true => list(&entry.path(), &format!("{prefix}{name}/"), paths)?,
            false => paths.push(format!("{prefix}{name}")),
        }
    }
    Ok(())
}

fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut small = Vec::new();
    // Without a time and a name in its head, so that the same file is always the same bytes.
    let mut encoder = GzBuilder::new().write(&mut small, Compression::best());
    io::Write::write_all(&mut encoder, content)?;
    encoder.finish()?;
    Ok(small)
}

/// What changes with the content: FNV-1a of 64 bits, and the length.
fn etag(content: &[u8]) -> String {
    let hash = content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}{:x}", content.len())
}

/// Whether the build has put a hash of the content into the name: `assets/name-1a2B3c4D.js`.
fn is_hashed(path: &str) -> bool {
    let Some((stem, _)) = path.strip_prefix("assets/").and_then(|name| name.rsplit_once('.')) else { return false };
    let hash = stem.get(stem.len().saturating_sub(9)..).and_then(|end| end.strip_prefix('-'));
    hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "ogg" => "audio/ogg",
        "mp3" => "audio/mpeg",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn written(table: &[Entry]) -> String {
    let mut text =
        "/// The files of the client, in the order of their paths.\npub(crate) static FILES: &[File] = &[\n".to_owned();
    for (number, Entry { path, content_type, etag, immutable, gzip, length }) in table.iter().enumerate() {
        let encoding = if *gzip { "Gzip" } else { "Identity" };
        text.push_str(&format!(
            "    File {{ path: {path:?}, content_type: {content_type:?}, etag: {etag:?}, immutable: {immutable}, encoding: {encoding}, \
             bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/files/{number}\")), length: {length} }},\n"
        ));
    }
    text + "];\n"
}
