//! `kith user`

use std::time::Duration;

use super::args::{Output, User, UserCommand};
use super::exit::Failure;
use super::node_access::NodeAccess;
use super::{password, text};
use crate::admin::{Admin, Deactivation, NewPassword, NewUser, UserInfo};
use crate::config::Config;

pub(super) async fn run(config: Config, options: User) -> Result<(), Failure> {
    // What is asked of the person comes first: the data are not held while somebody types.
    let command = prepare(options.command)?;
    let access = NodeAccess::open(config).await?;
    let result = execute(access.admin(), command).await;
    access.close().await;
    result
}

enum Prepared {
    Add(NewUser, Output),
    Password(NewPassword),
    Deactivate(Deactivation),
    List(Output),
}

fn prepare(command: UserCommand) -> Result<Prepared, Failure> {
    Ok(match command {
        UserCommand::Add { name, admin, password: source, output } => {
            let password = password::read_new(source, &name)?.to_string();
            Prepared::Add(NewUser { name, password, admin }, output)
        }
        UserCommand::Passwd { name, keep_devices, password: source } => {
            let password = password::read_new(source, &name)?.to_string();
            Prepared::Password(NewPassword { name, password, keep_devices })
        }
        UserCommand::Deactivate { name, erase, yes } => {
            let question = format!("End the account {name}? Its devices are signed out, and the name stays taken.");
            if !yes && !password::confirm(&question)? {
                return Err(Failure::general("nothing was changed"));
            }
            Prepared::Deactivate(Deactivation { name, erase })
        }
        UserCommand::List(output) => Prepared::List(output),
    })
}

async fn execute(admin: &dyn Admin, command: Prepared) -> Result<(), Failure> {
    match command {
        Prepared::Add(user, output) => {
            let user_id = admin.add_user(user).await?;
            if output.json {
                return text::json(&serde_json::json!({ "user_id": user_id }));
            }
            text::line(format!("Made {user_id}"));
        }
        Prepared::Password(change) => {
            let note = if change.keep_devices { "" } else { "; its devices are signed out" };
            let name = change.name.clone();
            admin.set_password(change).await?;
            text::line(format!("The password of {name} is set{note}."));
        }
        Prepared::Deactivate(user) => {
            let name = user.name.clone();
            admin.deactivate(user).await?;
            text::line(format!("The account {name} has ended."));
        }
        Prepared::List(output) => list(&admin.users().await?, output)?,
    }
    Ok(())
}

fn list(users: &[UserInfo], output: Output) -> Result<(), Failure> {
    if output.json {
        return text::json(&users);
    }
    if users.is_empty() {
        text::line("There is no account yet. Make one with `kith user add NAME`.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = users
        .iter()
        .map(|user| {
            let state = match (user.deactivated, user.admin) {
                (true, _) => "deactivated",
                (false, true) => "administrator",
                (false, false) => "",
            };
            vec![user.user_id.clone(), text::date(Duration::from_millis(user.created_ms)), state.to_owned()]
        })
        .collect();
    text::out(&text::table(&["USER", "MADE", "NOTE"], &rows));
    Ok(())
}
