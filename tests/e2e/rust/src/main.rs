//! A person's client on matrix-sdk, told what to do by lines of JSON: see `../driver.py`.

mod person;
mod trust;

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    sync::{OnceCell, mpsc},
};

use crate::person::Person;

/// The options of a command.
pub struct Options(Value);

impl Options {
    /// An option that must be there.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).and_then(Value::as_str).with_context(|| format!("`{name}` is missing"))
    }

    /// One that may be missing.
    pub fn maybe(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// How long to wait.
    pub fn seconds(&self) -> u64 {
        self.0.get("seconds").and_then(Value::as_u64).unwrap_or(20)
    }

    /// Whether something is so.
    pub fn is(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A value as it is.
    pub fn value(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let person = Arc::new(OnceCell::new());
    let (answers, mut to_write) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(answer) = to_write.recv().await {
            let written = out.write_all(format!("{answer}\n").as_bytes()).await;
            if written.and(out.flush().await).is_err() {
                break;
            }
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (person, answers) = (person.clone(), answers.clone());
        tokio::spawn(async move {
            let options = Options(serde_json::from_str(&line).unwrap_or_default());
            let id = options.value("id");
            let answer = match obey(&person, &options).await {
                Ok(ok) => json!({ "id": id, "ok": ok }),
                Err(error) => json!({ "id": id, "error": format!("{error:#}") }),
            };
            answers.send(answer).ok();
        });
    }
    Ok(())
}

async fn obey(cell: &OnceCell<Arc<Person>>, options: &Options) -> Result<Value> {
    let command = options.text("command")?;
    if matches!(command, "register" | "login") {
        let (person, answer) = Person::begin(options, command == "register").await?;
        cell.set(person).map_err(|_| anyhow!("there is a person already"))?;
        return Ok(answer);
    }
    let person = cell.get().context("nobody has logged in")?;
    match command {
        "create_room" => person.create_room().await,
        "invite" => person.invite(options).await,
        "accept" => person.accept(options).await,
        "sees_member" => person.sees_member(options).await,
        "send" => person.send(options).await,
        "send_photo" => person.send_photo(options).await,
        "wait_for_message" => person.wait_for_message(options).await,
        "read" => person.read(options).await,
        "fetch_photo" => person.fetch_photo(options).await,
        "set_up_recovery" => person.set_up_recovery().await,
        "recover" => person.recover(options).await,
        "request_verification" => person.request_verification(options).await,
        "answer_verification" => person.answer_verification(options).await,
        "confirm" => person.confirm().await,
        "device" => person.device(options).await,
        "trust" => person.trust(options).await,
        other => Err(anyhow!("there is no command `{other}`")),
    }
}
