//! What can be wrong with a configuration, and where.

use crate::schedule::ScheduleError;
use std::fmt;
use std::path::PathBuf;

/// A fault at a place of the text.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// Line and column, from 1, in characters; `None` where no place can be named.
    pub place: Option<(u64, u64)>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

impl ConfigError {
    pub(super) fn nowhere(fault: Fault) -> Self {
        Self { place: None, fault }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        write!(f, "{}", self.fault)
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is no YAML, or not of the expected shape.
    #[error("{what}")]
    Yaml {
        /// What the parser says.
        what: String,
    },
    /// More than is read.
    #[error("too large: {what}")]
    Limit {
        /// What is, and the limit.
        what: String,
    },
    /// A field that does not exist here.
    #[error("there is no field `{field}` here{}", Meant { written: field, valid })]
    UnknownField {
        /// As written.
        field: String,
        /// Fields that exist.
        valid: Vec<&'static str>,
    },
    /// A field that another type of storage has.
    #[error("a storage of type {type_name} has no field `{field}`{}", Listed(valid))]
    OtherType {
        /// As written.
        field: &'static str,
        /// Type of the storage.
        type_name: &'static str,
        /// Fields of that type.
        valid: &'static [&'static str],
    },
    /// A storage without a type.
    #[error("the storage \"{storage}\" has no field `type`{}", Listed(valid))]
    NoType {
        /// Its name.
        storage: String,
        /// Types that exist.
        valid: &'static [&'static str],
    },
    /// A type that does not exist.
    #[error("there is no storage type \"{type_name}\"{}", Meant { written: type_name, valid })]
    UnknownType {
        /// As written.
        type_name: String,
        /// Types that exist.
        valid: &'static [&'static str],
    },
    /// A storage that does not exist.
    #[error("`{field}` names the storage \"{storage}\", which does not exist{}", Meant { written: storage, valid })]
    UnknownStorage {
        /// Where it is named.
        field: &'static str,
        /// As written.
        storage: String,
        /// Storages that exist.
        valid: Vec<String>,
    },
    /// A name that a storage can't have.
    #[error(
        "\"{name}\" can't be the name of a storage: 1 to 64 letters, digits, `_`, `-` and `.`, and no \
         `.` first"
    )]
    Name {
        /// As written.
        name: String,
    },
    /// A value that the field can't have.
    #[error("`{field}` is \"{value}\", but must be {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A schedule that can't be read.
    #[error("`schedule`: {0}")]
    Schedule(#[source] ScheduleError),
    /// A variable that is not set.
    #[error("the variable {name} is not set; `${{{name}:-text}}` has a text for that case")]
    Variable {
        /// Its name.
        name: String,
    },
    /// `${` that begins no variable.
    #[error(
        "`{text}` names no variable: write `${{NAME}}` or `${{NAME:-text}}`, or `$${{` for the \
         characters themselves"
    )]
    VariableForm {
        /// From `${` on.
        text: String,
    },
    /// Two things that would lie in each other.
    #[error(
        "{one} ({}) and {other} ({}) would lie in each other: give each a place of its own",
        one_path.display(),
        other_path.display()
    )]
    Overlap {
        /// What it is.
        one: String,
        /// Where it is.
        one_path: PathBuf,
        /// What the other one is.
        other: String,
        /// Where that is.
        other_path: PathBuf,
    },
}

/// The name among `valid` that was likely meant.
pub fn nearest<'a, T: AsRef<str>>(written: &str, valid: &'a [T]) -> Option<&'a str> {
    let of = |name: &'a T| (strsim::damerau_levenshtein(written, name.as_ref()), name.as_ref());
    // Further than a third of it is no slip of the fingers, and nor is another name altogether.
    let len = written.chars().count();
    let near = |distance: usize| distance < len && distance <= (len / 3).max(1);
    valid.iter().map(of).min().filter(|(distance, _)| near(*distance)).map(|(_, name)| name)
}

/// ", but `base_path`" or a list of what there is.
struct Meant<'a, T> {
    written: &'a str,
    valid: &'a [T],
}

impl<T: AsRef<str>> fmt::Display for Meant<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = nearest(self.written, self.valid) {
            write!(f, "; did you mean `{name}`?")?;
        }
        write!(f, "{}", Listed(self.valid))
    }
}

struct Listed<'a, T>(&'a [T]);

impl<T: AsRef<str>> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(AsRef::as_ref).collect();
        write!(f, " (there {}: {})", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
    }
}
