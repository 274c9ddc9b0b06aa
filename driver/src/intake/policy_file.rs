//! The policy file: groups, rules, address sets, ports, the operator's rules, guarded networks.
//!
//! Its format is described in docs/policy.md. What is wrong in it is said with line and column, and nothing of a
//! file with a mistake is used.

mod convert;
mod document;
mod file;
mod stored;

use std::fmt;
use std::path::{Path, PathBuf};

use api::wire::DocumentInput;
use ruleset::model::Policy;
use store::{Port, Snapshot};

use self::document::Places;
pub use self::document::PolicyDocument;
pub use self::stored::Rows;

/// A policy file, understood.
#[derive(Debug, Default)]
pub struct PolicyFile {
    /// Groups, sets and the operator's rules.
    pub policy: Policy,
    /// Ports, by VM and device: XAPI tells which VIF that is.
    pub ports: Vec<PortSpec>,
    /// Guarded networks by name or uuid.
    pub guarded_networks: Vec<String>,
}

/// A port of the policy.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// What is said of it; its id is a store's.
    pub port: Port,
    /// Where it is described.
    pub origin: Origin,
}

/// Where a port is described.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In this line of the policy file.
    Line(usize),
    /// In the store, under this id.
    Stored(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Stored(id) => write!(f, "port {id}"),
        }
    }
}

/// What is wrong with a policy file.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or not of this form; the message has line and column.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// With line and column.
        message: String,
    },
    /// Something in it makes no sense.
    #[error("{path}, line {line}, column {column}: {message}")]
    Meaning {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

impl PolicyFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(path, &read(path)?)
    }

    /// Understands a file's text.
    ///
    /// # Errors
    /// [`PolicyError`], located.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PolicyError> {
        let mut document = syntax(path, text)?;
        convert::without_a_store(&mut document);
        let places = Places::of(text);
        let place = |pointer: &str| places.find(pointer).unwrap_or((1, 1));
        let origin = |index, _: &Port| Origin::Line(place(&format!("/ports/{index}")).0);
        convert::policy(document, origin).map_err(|mistake| {
            let (line, column) = place(mistake.pointer.as_deref().unwrap_or_default());
            PolicyError::Meaning { path: path.to_owned(), line, column, message: mistake.detail }
        })
    }
}

/// What a store holds.
impl From<Snapshot> for PolicyFile {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { generation: _, adopted: _, policy, ports, guarded_networks } = snapshot;
        let spec = |port: Port| PortSpec { origin: Origin::Stored(port.id.to_string()), port };
        Self { policy, ports: ports.into_iter().map(spec).collect(), guarded_networks }
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })
}

fn syntax(path: &Path, text: &str) -> Result<DocumentInput, PolicyError> {
    toml::from_str::<file::File>(text).map(Into::into).map_err(|e| PolicyError::Syntax {
        path: path.to_owned(),
        message: e.to_string().trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests;
