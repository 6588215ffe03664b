//! The arguments, with the texts of `--help`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "A Matrix homeserver that runs on your own device";

const LONG_ABOUT: &str = "\
kith is a Matrix homeserver for one person, a family or a few friends, that runs on their own device. Nodes on the same \
network find each other and chat without any server or internet.

Without a command, `kith` runs the node, as `kith serve` does. The first start makes the node's key, which is also its \
name, and shows a link that makes the first account. Then use any Matrix app on this device.

Everything the node has is in one folder: its key, messages, media and the local socket over which the other commands \
talk to it.";

const AFTER: &str = "\
Examples:
  kith                             run the node
  kith status                      what it is doing, and the setup link while there is no account
  kith user add alice              make an account
  kith --data /srv/kith identity   name and peer id of the node in that folder
  kith doctor                      look for problems, and how to mend them

Files:
  ~/.local/share/kith              the data folder (macOS: ~/Library/Application Support/kith)
  <data folder>/kith.toml          configuration, if any; `kith config` prints all keys
  <data folder>/server.key         the node's key: keep a copy in a safe place

Environment:
  KITH_<KEY>, KITH_<SECTION>_<KEY> override keys of the configuration (KITH_CLIENT_LISTEN=127.0.0.1:8009)
  KITH_CONFIG, KITH_LOG, KITH_LOG_FORMAT stand for the options of these names

Exit codes:
  0  done                                    5  the data folder is in use by another process
  1  failed; the message says why            6  an address cannot be listened on
  2  wrong arguments                         7  no node is running on the data folder
  3  wrong configuration                     8  `kith doctor` found problems
  4  the data folder or key cannot be used   130, 143  stopped by a second signal";

/// The end of the long help of `kith user ...`.
fn user_help(examples: &str) -> String {
    format!(
        "Examples:\n  {examples}\n\nExit codes: 0 done, 1 refused (the message says why), 4 there is no node in the data \
         folder; `kith --help`\nlists all."
    )
}

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// The command line. What stands for options in the environment is read by [`Cli::with_environment`], since clap takes an
/// empty variable for a value.
#[derive(Debug, Parser)]
#[command(name = "kith", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER, max_term_width = 100)]
#[command(after_help = "`kith --help` tells more, also about files, environment and exit codes.")]
pub(super) struct Cli {
    /// Read the configuration from this file
    ///
    /// By default `kith.toml` in the data folder is read if it is there.
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(super) config: Option<PathBuf>,

    /// Keep everything in this folder
    ///
    /// Made if it does not exist. Overrides `data_dir` of the configuration.
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub(super) data: Option<PathBuf>,

    /// What to log: error, warn, info, debug, trace, or filters such as `kith=debug`
    #[arg(long, global = true, value_name = "LEVEL", help_heading = GLOBAL)]
    pub(super) log: Option<String>,

    /// How to log (to standard error) [default: human]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = GLOBAL)]
    pub(super) log_format: Option<LogFormat>,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

impl Cli {
    /// Takes from the environment what the arguments leave open. Empty variables count as unset.
    ///
    /// # Errors
    /// A sentence about a variable whose value is none.
    pub(super) fn with_environment(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| {
            variable(name).map(|value| value.into_string().map_err(|_| format!("{name} is no text"))).transpose()
        };
        self.config = self.config.or_else(|| variable("KITH_CONFIG").map(PathBuf::from));
        if self.log.is_none() {
            self.log = text("KITH_LOG")?;
        }
        if self.log_format.is_none() {
            let format = text("KITH_LOG_FORMAT")?.map(|value| {
                LogFormat::from_str(&value, true)
                    .map_err(|_| format!("KITH_LOG_FORMAT must be human or json, not {value:?}"))
            });
            self.log_format = format.transpose()?;
        }
        Ok(self)
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the node (what `kith` alone does)
    ///
    /// Runs until it gets SIGINT (Ctrl-C) or SIGTERM; a second one ends it at once. While there is no account, it shows
    /// the link that makes the first one, and opens it in the browser when run from a terminal on a desktop.
    #[command(
        after_long_help = "Examples:\n  kith                                run it, in the folder of this user\n  kith --data /srv/kith               run it in another folder\n  KITH_CLIENT_LISTEN=127.0.0.1:8009 kith serve\n\nExit codes: 0 stopped as asked, 3 wrong configuration, 4 the data cannot be used, 5 they are in use, 6 an\naddress cannot be listened on, 130 and 143 ended by a second signal; `kith --help` lists all."
    )]
    Serve(Serve),

    /// Show who this node is: server name, peer id, addresses
    ///
    /// The server name is made of the node's key at the first start and never changes. Addresses are known while the
    /// node runs.
    #[command(
        after_long_help = "Examples:\n  kith identity\n  kith identity --json | jq -r .server_name\n\nExit codes: 0 shown, 4 there is no node in the data folder; `kith --help` lists all."
    )]
    Identity(Output),

    /// Make, change, end and list accounts
    ///
    /// Works on a running node through its local socket, and on a stopped one by opening its data.
    #[command(
        after_long_help = "Examples:\n  kith user add alice\n  kith user passwd alice\n  kith user list --json\n\nExit codes: 0 done, 1 refused (the message says why), 4 there is no node in the data folder; `kith --help`\nlists all."
    )]
    User(User),

    /// Show who is near, and who else is known
    #[command(
        after_long_help = "Examples:\n  kith peers\n\nExit codes: 0 shown, 7 no node is running on the data folder; `kith --help` lists all."
    )]
    Peers(Output),

    /// Show what the node is doing: addresses, accounts, queues, store
    #[command(
        after_long_help = "Examples:\n  kith status\n  kith status --json | jq .queues\n\nExit codes: 0 shown, 7 no node is running on the data folder; `kith --help` lists all."
    )]
    Status(Output),

    /// Look for problems, and say how to mend them
    ///
    /// Checks the configuration, the data folder and its permissions, the key, the disk, the clock, the ports, the
    /// network interfaces, the store, who is near and what is queued. Ends with exit code 8 if there is a problem.
    #[command(
        after_long_help = "Examples:\n  kith doctor\n  sudo kith doctor --data /var/lib/kith\n\nExit codes: 0 nothing is wrong, 8 there are problems; `kith --help` lists all."
    )]
    Doctor(Output),

    /// Print all keys of the configuration, with explanations and defaults
    #[command(
        after_long_help = "Examples:\n  kith config > kith.toml\n\nExit codes: 0 printed; `kith --help` lists all."
    )]
    Config,
}

#[derive(Debug, Default, Args)]
pub(super) struct Serve {
    /// Do not open the setup link in the browser
    #[arg(long)]
    pub(super) no_open: bool,
}

#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Output {
    /// Print JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct User {
    #[command(subcommand)]
    pub(super) command: UserCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make an account
    #[command(after_long_help = user_help("kith user add alice\n  kith user add bob --admin --password-stdin < file"))]
    Add {
        /// The name, such as `alice` (or the whole user id)
        name: String,
        /// Let the account administer the node through its API
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        output: Output,
    },
    /// Set an account's password, and sign its devices out
    ///
    /// A deactivated account becomes usable again.
    #[command(after_long_help = user_help("kith user passwd alice"))]
    Passwd {
        /// The name, such as `alice` (or the whole user id)
        name: String,
        /// Leave the account's devices signed in
        #[arg(long)]
        keep_devices: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// End an account: sign its devices out and leave its rooms; the name stays taken
    #[command(after_long_help = user_help("kith user deactivate bob --erase"))]
    Deactivate {
        /// The name, such as `alice` (or the whole user id)
        name: String,
        /// Also delete its profile and settings, and let others hide its messages from newcomers
        #[arg(long)]
        erase: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the accounts
    #[command(after_long_help = user_help("kith user list"))]
    List(Output),
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PasswordSource {
    /// Read the password from standard input (its first line) instead of asking for it
    #[arg(long)]
    pub(super) password_stdin: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound_and_every_command_explains_itself() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for part in ["Exit codes:", "Examples:", "Files:", "Environment:", "--config", "--data"] {
            assert!(help.contains(part), "{part}");
        }
        // What clap makes itself (`help`) explains itself.
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            let help = sub.clone().render_long_help().to_string();
            assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
            for deeper in sub.get_subcommands().filter(|deeper| deeper.get_name() != "help") {
                let help = deeper.clone().render_long_help().to_string();
                assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
            }
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "kith --config a.toml --data /d identity --json",
            "kith identity --config a.toml --data /d --json",
            "kith --data /d identity --json --config a.toml",
            "kith --config=a.toml identity --json --data=/d",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.config.as_deref(), Some("a.toml".as_ref()), "{line}");
            assert_eq!(cli.data.as_deref(), Some("/d".as_ref()), "{line}");
            assert!(matches!(cli.command, Some(Command::Identity(Output { json: true }))), "{line}");
        }
        let cli = parse("kith user list --data /d").unwrap();
        assert_eq!(cli.data.as_deref(), Some("/d".as_ref()));
        let cli = parse("kith user --data /d add alice --log debug").unwrap();
        assert_eq!((cli.data.as_deref(), cli.log.as_deref()), (Some("/d".as_ref()), Some("debug")));
    }

    #[test]
    fn without_a_command_the_node_is_run() {
        assert!(parse("kith --data /d").unwrap().command.is_none());
        assert!(matches!(
            parse("kith serve --no-open").unwrap().command,
            Some(Command::Serve(Serve { no_open: true }))
        ));
    }

    #[test]
    fn options_that_every_command_has_stand_under_a_heading_of_their_own() {
        let mut command = Cli::command();
        command.build();
        let help = command.find_subcommand_mut("status").unwrap().render_help().to_string();
        let (own, global) = help.split_once("Global options:").unwrap();
        assert!(own.contains("--json") && !own.contains("--data"), "{help}");
        assert!(["--config", "--data", "--log", "--log-format"].iter().all(|option| global.contains(option)), "{help}");
    }

    #[test]
    fn the_environment_stands_for_options_that_are_not_given_and_empty_variables_for_nothing() {
        let with = |line: &str, pairs: &[(&str, &str)]| {
            let value = |name: &str| pairs.iter().find(|(one, _)| *one == name).map(|(_, value)| OsString::from(value));
            parse(line).unwrap().with_environment(value)
        };
        let cli =
            with("kith", &[("KITH_CONFIG", "b.toml"), ("KITH_LOG", "debug"), ("KITH_LOG_FORMAT", "json")]).unwrap();
        assert_eq!((cli.config.as_deref(), cli.log.as_deref()), (Some("b.toml".as_ref()), Some("debug")));
        assert_eq!(cli.log_format, Some(LogFormat::Json));
        let cli = with("kith --config a.toml --log warn", &[("KITH_CONFIG", "b.toml"), ("KITH_LOG", "debug")]).unwrap();
        assert_eq!((cli.config.as_deref(), cli.log.as_deref()), (Some("a.toml".as_ref()), Some("warn")));
        let cli = with("kith", &[("KITH_CONFIG", ""), ("KITH_LOG", ""), ("KITH_LOG_FORMAT", "")]).unwrap();
        assert_eq!((cli.config, cli.log, cli.log_format), (None, None, None));
        assert!(with("kith", &[("KITH_LOG_FORMAT", "xml")]).unwrap_err().contains("KITH_LOG_FORMAT"));
    }

    #[test]
    fn a_password_is_never_an_argument() {
        assert!(parse("kith user add alice secret").is_err());
        assert!(parse("kith user add alice --password secret").is_err());
        assert!(parse("kith user passwd alice secret").is_err());
        assert!(parse("kith user add alice --password-stdin").is_ok());
    }
}
