//! The file as a document for the daemon, and where each part of it stands.
//!
//! Groups and sets may be named here that only the store has: what makes sense is the daemon's to say. Its answer names a
//! place in the document, which is turned back into a line of the file.

use std::path::{Path, PathBuf};

use api::wire::DocumentInput;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{PolicyError, read, syntax};

/// A policy file on its way to the daemon.
#[derive(Debug)]
pub struct PolicyDocument {
    /// What it says.
    pub document: DocumentInput,
    path: PathBuf,
    text: String,
}

impl PolicyDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(path, read(path)?)
    }

    /// Understands a file's text.
    ///
    /// # Errors
    /// [`PolicyError`], if it is not TOML of this form.
    pub fn parse(path: &Path, text: String) -> Result<Self, PolicyError> {
        Ok(Self { document: syntax(path, &text)?, path: path.to_owned(), text })
    }

    /// The file and the line of a place in the document, or the file alone.
    #[must_use]
    pub fn place(&self, pointer: &str) -> String {
        let path = self.path.display();
        match Places::of(&self.text).find(pointer) {
            Some((line, _)) => format!("{path}, line {line}"),
            None => path.to_string(),
        }
    }
}

/// A file's text, and where in it what stands.
pub(super) struct Places<'t> {
    text: &'t str,
    root: DeValue<'t>,
}

impl<'t> Places<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let root = DeTable::parse(text).map(Spanned::into_inner).unwrap_or_default();
        Self { text, root: DeValue::Table(root) }
    }

    /// Line and column, from 1, of a place in the document; where the file says nothing there, of what it would be part of.
    pub(super) fn find(&self, pointer: &str) -> Option<(usize, usize)> {
        let mut found = None;
        let mut value = &self.root;
        for segment in pointer.split('/').skip(1) {
            let Some(part) = part(value, segment) else { break };
            value = part.get_ref();
            // What is no item of a list is part of what has the list.
            if !value.is_array() {
                found = Some(part.span().start);
            }
        }
        let before = self.text.get(..found?)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((line, column))
    }
}

/// A part of a value. What the document calls `groups` is `group` in the file.
fn part<'v, 't>(value: &'v DeValue<'t>, segment: &str) -> Option<&'v Spanned<DeValue<'t>>> {
    match value {
        DeValue::Array(_) => value.get(segment.parse::<usize>().ok()?),
        _ => value.get(segment).or_else(|| value.get(segment.strip_suffix('s')?)),
    }
}
