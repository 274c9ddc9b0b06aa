//! The policy file: groups, rules, address sets, ports, the operator's rules, guarded networks.
//!
//! Its format is described in docs/policy.md. What is wrong in it is said with line and column, and nothing of a
//! file with a mistake is used.

mod convert;
mod document;
mod raw;
mod stored;

use std::fmt;
use std::path::{Path, PathBuf};

use ruleset::ids::{GroupId, VifUuid};
use ruleset::model::{AddressPair, Policy, PortSecurity};

pub use document::PolicyDocument;
pub use stored::Rows;

/// Ids of groups that the driver makes itself begin so.
pub(crate) const RESERVED_PREFIX: &str = "drawbridge:";

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

/// A port as the policy names it.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// The VIF.
    pub target: Target,
    /// Its groups.
    pub groups: Vec<GroupId>,
    /// Fixed addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Allowed address pairs.
    pub pairs: Vec<AddressPair>,
    /// Filtered at all?
    pub security: PortSecurity,
    /// Where it is described.
    pub origin: Origin,
}

/// How a policy names a VIF.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A device of a VM.
    Device {
        /// Name or uuid of the VM.
        vm: String,
        /// The VIF's device number.
        device: u32,
    },
    /// XAPI's uuid.
    Vif(VifUuid),
}

/// Where a port is described.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In this line of the policy file.
    Line(usize),
    /// In the store, under this id.
    Stored(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { vm, device } => write!(f, "VM {vm} device {device}"),
            Self::Vif(uuid) => write!(f, "VIF {uuid}"),
        }
    }
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
        convert::convert(syntax(path, text)?, text).map_err(|mistake| {
            let (line, column) = position(text, mistake.offset);
            PolicyError::Meaning { path: path.to_owned(), line, column, message: mistake.message }
        })
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })
}

fn syntax(path: &Path, text: &str) -> Result<raw::File, PolicyError> {
    toml::from_str(text).map_err(|e| PolicyError::Syntax {
        path: path.to_owned(),
        message: e.to_string().trim_end().to_owned(),
    })
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
