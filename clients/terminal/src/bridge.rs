//! Commands of scripts while a kith-chat is open on the same data: they are run by that one, through a socket in its private
//! folder. Two processes on the same keys would break these.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, words},
    folder::Folder,
    scripts::{Request, perform},
};

/// Bytes of a command.
#[cfg(unix)]
const LONGEST: u64 = 1 << 20;

/// Serves commands until the program ends.
#[cfg(unix)]
pub async fn serve(client: matrix_sdk::Client, folder: Folder) -> Result<()> {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    let path = folder.socket();
    // The folder's lock is ours: nobody serves there any more.
    std::fs::remove_file(&path).ok();
    let listener = tokio::net::UnixListener::bind(&path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let client = client.clone();
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            let mut line = String::new();
            if BufReader::new(reader.take(LONGEST)).read_line(&mut line).await.is_err() {
                return;
            }
            let answer = match serde_json::from_str::<Request>(&line) {
                Ok(request) => match perform(&client, request).await {
                    Ok(ok) => json!({ "ok": ok }),
                    Err(error) => {
                        let code = error.downcast_ref::<Failure>().map(Failure::code);
                        json!({ "error": words(&error), "code": code })
                    }
                },
                Err(_) => json!({ "error": "the other kith-chat is of another version" }),
            };
            writer.write_all(format!("{answer}\n").as_bytes()).await.ok();
        });
    }
}

/// Has the open kith-chat do it. None where none is open.
#[cfg(unix)]
pub async fn ask(folder: &Folder, request: &Request) -> Result<Option<Value>> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let Ok(stream) = tokio::net::UnixStream::connect(folder.socket()).await else { return Ok(None) };
    let (reader, mut writer) = stream.into_split();
    writer.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).await?;
    let answer: Value = serde_json::from_str(&line).map_err(|_| anyhow!("the open kith-chat ended meanwhile"))?;
    if let Some(error) = answer["error"].as_str() {
        let code = answer["code"].as_u64().and_then(|code| u8::try_from(code).ok());
        return Err(match code.and_then(|code| Failure::from_code(code, error)) {
            Some(failure) => anyhow!(failure),
            None => anyhow!("{error}"),
        });
    }
    Ok(Some(answer["ok"].clone()))
}

#[cfg(not(unix))]
pub async fn serve(_: matrix_sdk::Client, _: Folder) -> Result<()> {
    std::future::pending().await
}

#[cfg(not(unix))]
pub async fn ask(_: &Folder, _: &Request) -> Result<Option<Value>> {
    Ok(None)
}
