//! Records that a store keeps without knowing what they mean: those of the operator's side.

use super::StoreError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A kind of documents, by its name: `branch`, `operator`, `task`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(Cow<'static, str>);

impl Kind {
    /// The kind of this name.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl From<String> for Kind {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record as a store keeps it: found by its id and by its marks, read by nobody but its [`Entity`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What kind of record it is.
    pub kind: Kind,
    /// Its id, unique among its kind.
    pub id: String,
    /// What it is found and counted by: a value for each name. A store keeps the documents of a kind sorted by the value of
    /// every name.
    pub marks: BTreeMap<String, String>,
    /// The record itself, as JSON.
    pub body: String,
}

impl Document {
    /// The document that keeps `entity`.
    ///
    /// # Errors
    /// [`StoreError::Backend`] where it cannot be written as JSON.
    pub fn of<E: Entity>(entity: &E) -> Result<Self, StoreError> {
        // serde's text could quote what it could not write
        let body = serde_json::to_string(entity)
            .map_err(|_| StoreError::Backend(format!("a {} cannot be written as json", E::KIND)))?;
        let marks = entity.marks();
        Ok(Self {
            kind: E::KIND,
            id: entity.id(),
            marks: marks
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            body,
        })
    }

    /// The entity that it keeps.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where it keeps another.
    pub fn read<E: Entity>(&self) -> Result<E, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("a {}: {what}", E::KIND));
        if self.kind != E::KIND {
            return Err(corrupt("another kind of record"));
        }
        serde_json::from_str(&self.body)
            .map_err(|error| corrupt(&format!("line {}, column {}", error.line(), error.column())))
    }
}

impl fmt::Debug for Document {
    /// Without the body, which may hold a password's verifier.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

/// A typed record that is kept as a [`Document`]. To add a kind of record is to implement this; no store need know.
pub trait Entity: Serialize + DeserializeOwned {
    /// The kind of its documents.
    const KIND: Kind;

    /// Its id, unique among its kind, of 1 to 256 bytes. Pages are sorted by it.
    fn id(&self) -> String;

    /// What it is found and counted by: names and values, of at most 256 bytes each.
    fn marks(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// The least text that is greater than all that begin with `prefix`, in the order of bytes; none where nothing is greater.
#[must_use]
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = u32::from(last).checked_add(1).map(|code| match code {
            // there are no characters between
            0xD800 => 0xE000,
            code => code,
        });
        if let Some(next) = next.and_then(char::from_u32) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Door(String);

    impl Entity for Door {
        const KIND: Kind = Kind::named("door");

        fn id(&self) -> String {
            self.0.clone()
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Gate(u8);

    impl Entity for Gate {
        const KIND: Kind = Kind::named("gate");

        fn id(&self) -> String {
            self.0.to_string()
        }
    }

    #[test]
    fn an_entity_comes_back() {
        let document = Document::of(&Door("front".to_owned())).unwrap();
        assert_eq!(document.read::<Door>().unwrap(), Door("front".to_owned()));
        assert!(matches!(document.read::<Gate>(), Err(StoreError::Corrupt(_))));
        let other = Document {
            kind: Gate::KIND,
            ..document
        };
        let error = other.read::<Gate>().err().unwrap().to_string();
        assert!(!error.contains("front"), "{error}");
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix("/east/").as_deref(), Some("/east0"));
        assert_eq!(after_prefix("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(after_prefix(""), None);
        assert_eq!(after_prefix("\u{10FFFF}"), None);
    }

    proptest! {
        #[test]
        fn what_begins_so_is_before_the_end_and_nothing_else(prefix in "\\PC{1,3}", text in "\\PC{0,4}") {
            let end = after_prefix(&prefix);
            let inside = |text: &str| text >= prefix.as_str() && end.as_deref().is_none_or(|end| text < end);
            let joined = format!("{prefix}{text}");
            prop_assert!(inside(&joined));
            prop_assert_eq!(inside(&text), text.starts_with(&prefix));
        }
    }
}
