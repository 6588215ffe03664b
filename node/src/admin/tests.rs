use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::RegistrationMode;
use crate::platform::{Clock as _, Spawner as _, SystemClock, TokioSpawner};
use crate::testing::{TestNode, login_body};

/// Keeps the names of its users and nothing else.
#[derive(Default)]
struct Fake {
    users: Mutex<Vec<NewUser>>,
}

impl Admin for Fake {
    fn status(&self) -> BoxFuture<'_, Result<Status, AdminError>> {
        async { Err(AdminError::new("M_UNKNOWN", "not now")) }.boxed()
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<Peer>, AdminError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<UserInfo>, AdminError>> {
        let users = self.users.lock().unwrap();
        let list = users.iter().map(|user| UserInfo {
            user_id: format!("@{}:example.org", user.name),
            admin: user.admin,
            deactivated: false,
            created_ms: 5,
        });
        let list = list.collect();
        async { Ok(list) }.boxed()
    }

    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<String, AdminError>> {
        let id = format!("@{}:example.org", user.name);
        self.users.lock().unwrap().push(user);
        async { Ok(id) }.boxed()
    }

    fn set_password(&self, change: NewPassword) -> BoxFuture<'_, Result<(), AdminError>> {
        async move { Err(AdminError::new("M_NOT_FOUND", format!("there is no account {}", change.name))) }.boxed()
    }

    fn deactivate(&self, _user: Deactivation) -> BoxFuture<'_, Result<(), AdminError>> {
        async { Ok(()) }.boxed()
    }
}

fn start(data_dir: &Path) -> (Arc<TokioSpawner>, Arc<Fake>) {
    let (spawner, fake) = (Arc::new(TokioSpawner::current()), Arc::new(Fake::default()));
    serve(data_dir, Arc::clone(&fake) as _, Arc::clone(&spawner) as _, Arc::new(SystemClock::new())).unwrap();
    (spawner, fake)
}

#[tokio::test]
async fn commands_reach_a_running_node_and_get_its_answers_and_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (spawner, fake) = start(folder.path());
    let client = AdminClient::connect(folder.path()).await.unwrap();
    let user = NewUser { name: "alice".into(), password: "pass word \"1\" ü".into(), admin: true };
    assert_eq!(client.add_user(user).await.unwrap(), "@alice:example.org");
    assert_eq!(fake.users.lock().unwrap()[0].password, "pass word \"1\" ü");
    assert_eq!(client.users().await.unwrap()[0].user_id, "@alice:example.org");
    assert_eq!(client.peers().await.unwrap(), []);
    assert_eq!(client.status().await.unwrap_err().error, "not now");
    let change = NewPassword { name: "bob".into(), password: "x".into(), keep_devices: false };
    assert_eq!(client.set_password(change).await.unwrap_err().errcode, "M_NOT_FOUND");
    spawner.shutdown().await;
}

#[tokio::test]
async fn a_node_that_hangs_is_told_and_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    // The system takes connections for it; nobody reads what comes.
    let _stuck = tokio::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
    let client = AdminClient::connect(folder.path()).await.unwrap().with_patience(std::time::Duration::from_millis(5));
    let error = client.status().await.unwrap_err().to_string();
    assert!(error.contains("did not answer within") && error.contains("restart it"), "{error}");
    let user = NewUser { name: "alice".into(), password: "x".into(), admin: false };
    assert!(client.add_user(user).await.is_err());
}

#[tokio::test]
async fn the_socket_is_for_the_owner_alone_and_goes_with_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let (spawner, _) = start(folder.path());
    let socket = folder.path().join(SOCKET);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    spawner.shutdown().await;
    assert!(!socket.exists());
    assert!(matches!(AdminClient::connect(folder.path()).await, Err(ConnectError::NotRunning(_))));
}

#[tokio::test]
async fn a_socket_left_behind_by_a_crash_is_told_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap());
    assert!(matches!(AdminClient::connect(folder.path()).await, Err(ConnectError::NotRunning(_))));
    let (spawner, _) = start(folder.path());
    AdminClient::connect(folder.path()).await.unwrap();
    spawner.shutdown().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_data_folder_with_a_very_long_path_has_a_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a".repeat(90)).join("b".repeat(90));
    std::fs::create_dir_all(&deep).unwrap();
    let (spawner, _) = start(&deep);
    let client = AdminClient::connect(&deep).await.unwrap();
    assert_eq!(client.peers().await.unwrap(), []);
    assert!(deep.join(SOCKET).exists());
    spawner.shutdown().await;
    assert!(!deep.join(SOCKET).exists());
}

#[tokio::test]
async fn nonsense_at_the_socket_is_refused_without_repeating_it() {
    let folder = tempfile::tempdir().unwrap();
    let (spawner, fake) = start(folder.path());
    for request in [
        "POST /users HTTP/1.1\r\nhost: kith\r\nconnection: close\r\ncontent-length: 22\r\n\r\n{\"password\":\"hunter2\"}",
        "GET /nothing HTTP/1.1\r\nhost: kith\r\nconnection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00 hunter2 hunter2\r\n\r\n",
    ] {
        let mut stream = tokio::net::UnixStream::connect(folder.path().join(SOCKET)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    let long = NewUser { name: "a".into(), password: "x".repeat(100_000), admin: false };
    let client = AdminClient::connect(folder.path()).await.unwrap();
    assert!(client.add_user(long).await.is_err());
    assert!(fake.users.lock().unwrap().is_empty());
    client.peers().await.unwrap();
    spawner.shutdown().await;
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    let user = NewUser { name: "a".into(), password: "hunter2".into(), admin: false };
    let change = NewPassword { name: "a".into(), password: "hunter2".into(), keep_devices: true };
    assert!(!format!("{user:?}{change:?}").contains("hunter2"));
}

/// The node's own answers, with the setup link as if it listened.
async fn real(mode: RegistrationMode) -> (TestNode, NodeAdmin) {
    let node = TestNode::start_with(|config| config.registration.mode = mode).await;
    let admin = NodeAdmin::at(&node.handle, &["127.0.0.1:8123".parse().unwrap()]);
    (node, admin)
}

fn token(link: &str) -> &str {
    link.strip_prefix("http://localhost:8123/#/setup/").unwrap()
}

async fn register_with(node: &TestNode, token: &str) -> u16 {
    let account = |auth| serde_json::json!({ "username": "alice", "password": "correct horse", "auth": auth });
    let auth = serde_json::json!({ "type": "m.login.registration_token", "token": token });
    let client = node.client();
    let begun = client.post("/_matrix/client/v3/register", account(serde_json::Value::Null)).await;
    let mut auth = auth;
    auth["session"] = begun.body["session"].clone();
    client.post("/_matrix/client/v3/register", account(auth)).await.status.as_u16()
}

#[tokio::test]
async fn the_setup_link_makes_the_first_account_once_and_is_gone_then() {
    let (node, admin) = real(RegistrationMode::Setup).await;
    let link = admin.setup_link().await.unwrap().unwrap();
    assert!(token(&link).len() >= 22, "128 bits of six each");
    assert_eq!(admin.status().await.unwrap().setup_link.as_ref(), Some(&link), "the same while it is valid");
    assert_eq!(register_with(&node, token(&link)).await, 200);
    assert_eq!(admin.setup_link().await.unwrap(), None);
    assert_eq!(register_with(&node, token(&link)).await, 403);
    let users = admin.users().await.unwrap();
    assert!(users.len() == 1 && users[0].admin && users[0].user_id.starts_with("@alice:"), "{users:?}");
}

#[tokio::test]
async fn a_setup_link_ends_after_an_hour_and_a_new_one_is_given() {
    let (node, admin) = real(RegistrationMode::Setup).await;
    let old = admin.setup_link().await.unwrap().unwrap();
    node.clock.advance(std::time::Duration::from_secs(3_601));
    let new = admin.setup_link().await.unwrap().unwrap();
    assert_ne!(old, new);
    assert_ne!(register_with(&node, token(&old)).await, 200);
    assert_eq!(register_with(&node, token(&new)).await, 200);
}

#[tokio::test]
async fn a_link_that_ended_while_the_device_slept_or_when_its_clock_was_set_is_not_shown_any_more() {
    let (node, admin) = real(RegistrationMode::Setup).await;
    let old = admin.setup_link().await.unwrap().unwrap();
    node.clock.set_wall(node.clock.now_ms() + 7_200_000);
    let new = admin.setup_link().await.unwrap().unwrap();
    assert_ne!(old, new);
    assert_eq!(register_with(&node, token(&new)).await, 200);
}

#[tokio::test]
async fn no_setup_link_is_given_where_registration_is_otherwise() {
    for mode in [RegistrationMode::Open, RegistrationMode::Closed] {
        let (_node, admin) = real(mode).await;
        assert_eq!(admin.setup_link().await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_owner_makes_changes_and_ends_accounts_of_this_node_only() {
    let (node, admin) = real(RegistrationMode::Closed).await;
    let user = NewUser { name: "bob".into(), password: "first pass".into(), admin: false };
    let user_id = admin.add_user(user.clone()).await.unwrap();
    assert_eq!(admin.add_user(user).await.unwrap_err().errcode, "M_USER_IN_USE");
    let login = |password: &'static str| {
        let client = node.client();
        async move { client.post("/_matrix/client/v3/login", login_body("bob", password)).await.status.as_u16() }
    };
    assert_eq!(login("first pass").await, 200);
    let change = NewPassword { name: user_id, password: "second pass".into(), keep_devices: false };
    admin.set_password(change).await.unwrap();
    assert_eq!((login("first pass").await, login("second pass").await), (403, 200));
    admin.deactivate(Deactivation { name: "bob".into(), erase: false }).await.unwrap();
    assert_eq!(login("second pass").await, 403);
    assert!(admin.users().await.unwrap()[0].deactivated);
    assert_eq!(admin.status().await.unwrap().accounts, 0);
    for name in ["@bob:other.org", "nobody", ""] {
        let nobody = Deactivation { name: name.into(), erase: false };
        assert!(admin.deactivate(nobody).await.is_err(), "{name}");
    }
}
