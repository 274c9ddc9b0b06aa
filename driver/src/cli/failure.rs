//! Why a command could not do what was asked, and the exit code that says so.

use std::path::PathBuf;

use api::{ClientError, Code};
use serde_json::{Value, json};

use super::exit;
use crate::config::ConfigError;
use crate::intake::policy_file::PolicyError;
use crate::report::chain;
use crate::run::RunError;

/// Why.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("configuration")]
    Config(#[from] ConfigError),
    #[error(
        "{path} has no [store], so no daemon runs with it: add one, or say with --api where a daemon listens"
    )]
    NoDaemon { path: PathBuf },
    #[error("{path}: {message}")]
    Authority { path: PathBuf, message: String },
    #[error("policy")]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Api(#[from] ClientError),
    /// The daemon refuses something of a policy file.
    #[error("{place}: {}", problem.detail)]
    Document { place: String, problem: Box<api::Problem> },
    #[error("several {kind}s go by {called:?}: say which by its id: {}", ids.join(", "))]
    Ambiguous { kind: &'static str, called: String, ids: Vec<String> },
    #[error("{kind} {id} has no {what}")]
    NotThere { kind: &'static str, id: String, what: String },
    #[error("there is no host of the name or uuid {0:?}")]
    NoHost(String),
    #[error("the store changed all the time while it was read; try again")]
    Restless,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Whether the daemon says by this that it did not begin: what a driver without a daemon would find out by itself.
fn nothing_was_begun(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownVm
            | Code::AmbiguousVm
            | Code::NotRunning
            | Code::UnknownHost
            | Code::AmbiguousHost
            | Code::NoAnswer
            | Code::InvalidQuery
            | Code::HostUnreadable
            | Code::XapiUnavailable
            | Code::NoPlan
    )
}

impl Failure {
    /// Whether it is clear that nothing was done.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Config(_)
            | Self::NoDaemon { .. }
            | Self::Authority { .. }
            | Self::Policy(_)
            | Self::Run(_)
            | Self::Other(_)
            | Self::Api(ClientError::Tls(_) | ClientError::Setup(_)) => exit::NOT_STARTED,
            // Whoever never heard the question did nothing.
            Self::Api(ClientError::Unreachable { source, .. }) if source.is_connect() => exit::NOT_STARTED,
            // Neither does a daemon that finds nothing that it could be about, or cannot ask.
            Self::Api(ClientError::Problem(problem)) if nothing_was_begun(problem.code) => exit::NOT_STARTED,
            Self::Api(_)
            | Self::Document { .. }
            | Self::Ambiguous { .. }
            | Self::NotThere { .. }
            | Self::NoHost(_)
            | Self::Restless => exit::INCOMPLETE,
        }
    }

    /// For programs: with the daemon's own problem, if it is one.
    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({ "ok": false, "error": chain(self) });
        let problem = match self {
            Self::Api(ClientError::Problem(problem)) | Self::Document { problem, .. } => Some(problem),
            _ => None,
        };
        if let (Some(problem), Value::Object(fields)) = (problem, &mut value) {
            fields.insert("problem".to_owned(), json!(problem));
        }
        value
    }
}
