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
            vec![user.user_id.clone(), date(user.created_ms), state.to_owned()]
        })
        .collect();
    text::out(&text::table(&["USER", "MADE", "NOTE"], &rows));
    Ok(())
}

/// The day (UTC) of a Unix time.
fn date(unix_ms: u64) -> String {
    // Days to a civil date, by the method of Howard Hinnant's `civil_from_days`.
    let days = i64::try_from(Duration::from_millis(unix_ms).as_secs() / 86_400).unwrap_or(0) + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_right_around_leap_days_and_ends_of_years() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds * 1_000), day);
        }
    }
}
