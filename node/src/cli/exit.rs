//! How a command ends: exit codes, and messages that say what to do.

use std::process::ExitCode;

use crate::StartError;
use crate::admin::{AdminError, ConnectError};
use crate::config::ConfigError;
use crate::identity::IdentityError;
use kith_store::OpenError;
use kith_transport::libp2p::StartError as P2pError;

use super::port;

/// Anything that has no code of its own.
const GENERAL: u8 = 1;
/// As clap ends on them.
const ARGUMENTS: u8 = 2;
const CONFIGURATION: u8 = 3;
const DATA: u8 = 4;
const IN_USE: u8 = 5;
const LISTEN: u8 = 6;
const NOT_RUNNING: u8 = 7;
const PROBLEMS: u8 = 8;

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u8,
    /// Empty when all has been said already.
    message: String,
}

impl Failure {
    pub(super) fn general(message: impl Into<String>) -> Self {
        Self { code: GENERAL, message: message.into() }
    }

    /// An option, or what stands for it in the environment, is none.
    pub(super) fn arguments(message: impl Into<String>) -> Self {
        Self { code: ARGUMENTS, message: message.into() }
    }

    /// The doctor found something, and told it.
    pub(super) fn problems() -> Self {
        Self { code: PROBLEMS, message: String::new() }
    }

    /// There is no key yet.
    pub(super) fn no_identity(message: impl Into<String>) -> Self {
        Self { code: DATA, message: message.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: CONFIGURATION, message: error.to_string() }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let code = match error {
            IdentityError::NameChanged { .. } | IdentityError::Name { .. } => CONFIGURATION,
            _ => DATA,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotRunning(_) => Self {
                code: NOT_RUNNING,
                message: format!("{error}. Start it with `kith`, or name its folder with --data"),
            },
            ConnectError::Forbidden(_) => Self { code: DATA, message: error.to_string() },
            ConnectError::Io(..) => Self::general(error.to_string()),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self::general(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Identity(error) => error.into(),
            StartError::Open(error @ OpenError::InUse { .. }) => Self { code: IN_USE, message: error.to_string() },
            StartError::Open(error) => Self { code: DATA, message: error.to_string() },
            StartError::Listen(error) => {
                let holder = port::holder(error.address).map(|holder| format!(". It is held by {holder}"));
                Self { code: LISTEN, message: format!("{error}{}", holder.unwrap_or_default()) }
            }
            StartError::Network(error) => {
                let code = if matches!(error, P2pError::Address { .. }) { CONFIGURATION } else { LISTEN };
                Self { code, message: error.to_string() }
            }
            StartError::Appservice(error) => Self { code: CONFIGURATION, message: error.to_string() },
            StartError::Key(_) | StartError::Media(_) => Self { code: DATA, message: error.to_string() },
            other => Self::general(other.to_string()),
        }
    }
}

/// Tells a failure on standard error, and gives the process's exit code.
pub(super) fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                eprintln!("kith: {message}");
            }
            ExitCode::from(code)
        }
    }
}
