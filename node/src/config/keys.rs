//! All keys of the configuration: type, default, explanation. Nothing else knows the list.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::parse::{MdnsMode, ProfilesFor, Rate, RegistrationMode, Secret, on_off};

/// One key, as the loader, the example and the documentation see it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section's name; empty at the top of the file.
    pub section: &'static str,
    /// The key's name within its section.
    pub name: &'static str,
    /// What a value must look like.
    pub kind: Kind,
    /// A value in TOML: the default if `set_by_default`, else an example.
    pub value: &'static str,
    /// Whether the default is `value`; without it the key is unset by default.
    pub set_by_default: bool,
    /// What the key does, in lines.
    pub doc: &'static str,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number that is not negative.
    Integer,
    /// Bytes, or text with a unit.
    Size,
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path; relative ones start at the folder of the configuration file.
    Path,
    /// Several texts.
    List,
    /// Several texts that are never shown.
    Secrets,
    /// Several paths.
    Paths,
    /// Several IP addresses with ports.
    Addresses,
    /// One of these.
    Choice(&'static [&'static str]),
    /// So many per time.
    Rate,
}

impl Key {
    /// `section.name`, or the name alone at the top.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }

    /// The environment variable that overrides this key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("KITH_{}", self.full_name().replace('.', "_").to_uppercase())
    }
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:literal $Name:ident $KEYS:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                $key:ident: $ty:ty = $default:expr, $kind:expr, $state:ident $value:literal;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Name {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)+)])?
                pub $key: $ty,
            )+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        const $KEYS: &[Key] = &[$(Key {
            section: $section,
            name: stringify!($key),
            kind: $kind,
            value: $value,
            set_by_default: section!(@$state),
            doc: concat!($($doc, "\n",)+),
        },)+];
    };
    (@default) => { true };
    (@unset) => { false };
}

section! {
    /// The keys above all sections.
    "" General GENERAL {
        /// The folder that holds everything: key, tables, media, local socket.
        /// By default `~/.local/share/kith` on Linux (`$XDG_DATA_HOME`), `~/Library/Application Support/kith` on macOS.
        data_dir: Option<PathBuf> = None, Kind::Path, unset "\"/var/lib/kith\"";
        /// Makes this an ordinary Matrix homeserver with a DNS name. By default the name is the node's own key.
        /// Fixed at the first start: Matrix has no way to rename a server.
        server_name: Option<String> = None, Kind::Text, unset "\"example.org\"";
        /// The zone of a gateway, appended to the key: `<key>.mesh.example.org`. With it people on ordinary
        /// homeservers can be reached. Fixed at the first start, like `server_name`, and not together with it.
        gateway_zone: Option<String> = None, Kind::Text, unset "\"mesh.example.org\"";
    }
}

section! {
    /// Plain HTTP for clients, meant for this device; also answers federation requests (behind a TLS proxy).
    "client" Client CLIENT {
        /// Addresses to listen on. Other devices can only connect when one of theirs is listed (`0.0.0.0:8008`), and
        /// everything is readable on the way then: prefer a TLS proxy.
        listen: Vec<SocketAddr> = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8008))],
            Kind::Addresses, default "[\"127.0.0.1:8008\"]";
        /// The address that clients are told. By default that of the first listener, `http://localhost:8008`.
        public_base_url: Option<String> = None, Kind::Text, unset "\"http://localhost:8008\"";
        /// Host names that requests may be addressed to, beside that of `public_base_url`, `localhost` and the
        /// addresses listened on. Others are refused, so that no web page can reach in by a name of its own.
        /// Other servers' requests may be addressed to the server name, too. Where `/.well-known/matrix/server` sends
        /// them to another name, that one belongs here.
        allowed_hosts: Vec<String> = Vec::new(), Kind::List, default "[]";
        /// Whether clients can sign in, and make accounts, by OAuth 2.0: on pages of this node, at the address that clients are told.
        /// By default where that can be right for all: when `public_base_url` is set, or only this device can connect.
        oauth: Option<bool> = None, Kind::Bool, unset "true";
        /// Whether clients get previews of web pages that are linked to. The pages' servers learn this node's address then, and
        /// when somebody looks at a link.
        url_previews: bool = false, Kind::Bool, default "false";
        /// Whom users can ask for help: shown at `/.well-known/matrix/support` (an email address, a Matrix ID, or a web page).
        support: Vec<String> = Vec::new(), Kind::List, default "[]";
    }
}

section! {
    /// Who may make an account.
    "registration" Registration REGISTRATION {
        /// "setup": a one-time link for the first account, shown at start. "open": anyone who can connect.
        /// "token": whoever knows one of `tokens`. "closed": nobody (`kith user add` always works).
        mode: RegistrationMode = RegistrationMode::Setup,
            Kind::Choice(&["setup", "open", "token", "closed"]), default "\"setup\"";
        /// What mode "token" accepts: 1 to 64 characters of `A-Za-z0-9._~-` each.
        tokens: Vec<Secret> = Vec::new(), Kind::Secrets, default "[]";
        /// Must be true for mode "open" when a client listener can be reached from other devices.
        open_to_network: bool = false, Kind::Bool, default "false";
        /// Enables `/_synapse/admin/v1/register` for whoever knows this secret.
        shared_secret: Option<Secret> = None, Kind::Secret, unset "\"a long random text\"";
    }
}

section! {
    /// Federation over HTTPS with ordinary homeservers: for nodes with a `server_name`.
    "federation" Federation FEDERATION {
        /// Addresses to listen on, with TLS. By default `["0.0.0.0:8448"]` when a certificate is set, `["0.0.0.0:443"]` with `acme`, else none: a proxy may stand before
        /// the client listener instead.
        listen: Option<Vec<SocketAddr>> = None, Kind::Addresses, unset "[\"0.0.0.0:8448\"]";
        /// The certificate chain, PEM. It is read again when it is renewed.
        tls_certificate: Option<PathBuf> = None, Kind::Path, unset "\"cert.pem\"";
        /// Its private key, PEM.
        tls_private_key: Option<PathBuf> = None, Kind::Path, unset "\"key.pem\"";
        /// Gets the certificate by itself (ACME) and renews it: for the host that `/.well-known/matrix/server` tells. The authority must reach a
        /// `listen` address at port 443 of that name. With this its terms of service are accepted.
        acme: bool = false, Kind::Bool, default "false";
        /// The authority, by the URL of its ACME directory.
        acme_directory: String = "https://acme-v02.api.letsencrypt.org/directory".into(), Kind::Text,
            default "\"https://acme-v02.api.letsencrypt.org/directory\"";
        /// The email address to which the authority may write.
        acme_contact: Option<String> = None, Kind::Text, unset "\"you@example.org\"";
        /// Certificates (PEM) trusted beside the platform's.
        extra_roots: Vec<PathBuf> = Vec::new(), Kind::Paths, default "[]";
        /// Lets federation, push, previews and bridges reach loopback and private addresses.
        allow_private_addresses: bool = false, Kind::Bool, default "false";
        /// Keys with which this server name signed before it was this node's, published so that what they signed still counts: key ID, key and
        /// until when it was used (Unix milliseconds), as in "ed25519:a_Xy12 Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw 1700000000000".
        old_verify_keys: Vec<String> = Vec::new(), Kind::List, default "[]";
        /// Servers that are neither heard nor asked: names without ports, in which `*` stands for any characters and `?` for one.
        blocked_servers: Vec<String> = Vec::new(), Kind::List, default "[]";
        /// Servers asked for the keys of servers that cannot be asked themselves. They are believed.
        trusted_key_servers: Vec<String> = Vec::new(), Kind::List, default "[]";
    }
}

section! {
    /// Federation between kith nodes, without servers.
    "p2p" P2p P2P {
        /// Whether other nodes are looked for and reached at all.
        enabled: bool = true, Kind::Bool, default "true";
        /// Multiaddrs to listen on; port 0 takes a free one.
        listen: Vec<String> = vec!["/ip4/0.0.0.0/udp/0/quic-v1".into(), "/ip6/::/udp/0/quic-v1".into()],
            Kind::List, default "[\"/ip4/0.0.0.0/udp/0/quic-v1\", \"/ip6/::/udp/0/quic-v1\"]";
        /// Who on the local network sees this node: "everyone"; "contacts", who recognise tags that change; "off".
        mdns: MdnsMode = MdnsMode::Everyone, Kind::Choice(&["everyone", "contacts", "off"]), default "\"everyone\"";
        /// Who may ask for the names and pictures of this node's users: "contacts", the servers that share a room with the user;
        /// "everyone".
        profiles: ProfilesFor = ProfilesFor::Contacts, Kind::Choice(&["contacts", "everyone"]), default "\"contacts\"";
        /// Multiaddrs of nodes to connect to at start, each ending in `/p2p/<peer id>`. None is contacted otherwise.
        bootstrap: Vec<String> = Vec::new(), Kind::List, default "[]";
        /// How many peers may be connected at once.
        max_peers: u32 = 256, Kind::Integer, default "256";
    }
}

section! {
    /// Application services: bridges to other networks, and bots.
    "appservices" Appservices APPSERVICES {
        /// Their registration files (YAML), which the services make themselves. Read at start.
        registrations: Vec<PathBuf> = Vec::new(), Kind::Paths, default "[]";
    }
}

section! {
    /// Bounds. Sizes are bytes or have a unit (KiB, MiB, GiB, kB, MB, GB); rates are `<number>/<s, min, h or day>`.
    "limits" Limits LIMITS {
        /// The largest file that a user may upload.
        upload_size: u64 = 100 << 20, Kind::Size, default "\"100 MiB\"";
        /// The largest file that is fetched from another server.
        remote_media_size: u64 = 100 << 20, Kind::Size, default "\"100 MiB\"";
        /// How much is kept of files of other servers. Beyond it, those not asked for longest are dropped, to be fetched again.
        remote_media_cache: u64 = 1 << 30, Kind::Size, default "\"1 GiB\"";
        /// The largest body of any other client request.
        client_body_size: u64 = 8 << 20, Kind::Size, default "\"8 MiB\"";
        /// The largest body of a federation request.
        federation_body_size: u64 = 16 << 20, Kind::Size, default "\"16 MiB\"";
        /// Memory for pages of the store.
        store_cache_size: u64 = 8 << 20, Kind::Size, default "\"8 MiB\"";
        /// Free space on the disk below which nothing is written any more; reading goes on.
        free_disk_reserve: u64 = 64 << 20, Kind::Size, default "\"64 MiB\"";
        /// "off" lifts all rates below: for tests and conformance suites.
        #[serde(deserialize_with = "on_off")]
        rate_limits: bool = true, Kind::Choice(&["on", "off"]), default "\"on\"";
        /// Tries to log in, for each address (and each web page that calls from it) and for each account.
        rate_login: Rate = Rate::per_minute(10), Kind::Rate, default "\"10/min\"";
        /// Accounts made, for each address.
        rate_registration: Rate = Rate::per_minute(5), Kind::Rate, default "\"5/min\"";
        /// Events sent, for each user.
        rate_message: Rate = Rate::per_second(30), Kind::Rate, default "\"30/s\"";
        /// Rooms made or joined, for each user.
        rate_join: Rate = Rate::per_minute(60), Kind::Rate, default "\"60/min\"";
        /// Invites sent, for each user.
        rate_invite: Rate = Rate::per_minute(60), Kind::Rate, default "\"60/min\"";
        /// Searches for words in messages, and previews of web pages, for each user.
        rate_search: Rate = Rate::per_second(5), Kind::Rate, default "\"5/s\"";
        /// Requests taken from each other server.
        rate_federation: Rate = Rate::per_second(200), Kind::Rate, default "\"200/s\"";
    }
}

/// All keys, in the order of the example.
pub static KEYS: &[&[Key]] = &[GENERAL, CLIENT, REGISTRATION, FEDERATION, P2P, APPSERVICES, LIMITS];

/// All keys, one by one.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().flat_map(|section| section.iter())
}

/// The explanation of each section, by name.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("client", "Plain HTTP for clients, meant for this device; also answers federation requests (behind a TLS proxy)."),
    ("registration", "Who may make an account."),
    ("federation", "Federation over HTTPS with ordinary homeservers: for nodes with a `server_name`."),
    ("p2p", "Federation between kith nodes, without servers."),
    ("appservices", "Application services: bridges to other networks, and bots."),
    (
        "limits",
        "Bounds. Sizes are bytes or have a unit (KiB, MiB, GiB, kB, MB, GB); rates are \"<number>/<s, min, h or day>\".",
    ),
];
