//! Which slot holds what, and which starts.

use crate::agent::device::DeviceError;
use crate::agent::flash::MAX_NAME;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use tms_proto::code::{ComponentKind, ResultCode};
use tms_proto::digest::Digest;

/// The record of a terminal's slots.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) boots: u32,
    pub(super) components: BTreeMap<String, Slots>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, ParameterVersion>,
}

/// A parameter set that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterVersion {
    /// Digest of its document: the name of the file that it stands in.
    pub digest: Digest,
    /// The document's size, in bytes.
    pub size: u64,
    /// When it was changed at the terminal, in seconds since 1970 UTC; `None` where it is as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
}

/// One of two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// A version in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// As people read it.
    pub version: String,
    /// Security counter.
    pub counter: u32,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content, in bytes.
    pub size: u64,
}

/// The slots of a component.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Slots {
    pub(super) kind: ComponentKind,
    a: Option<Version>,
    b: Option<Version>,
    /// Which runs.
    pub(super) active: Option<Side>,
    /// Which runs after the next start.
    pub(super) next: Option<Side>,
    /// How often the running version was started without confirming itself; none once it has.
    pub(super) starts: Option<u8>,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The file of this slot of a component.
    pub(super) fn file(self, component: &str) -> Result<String, DeviceError> {
        let mut name = String::from("slot.");
        for byte in component.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
                // No two components get one name.
                _ => {
                    let _infallible = write!(name, "_{byte:02x}");
                }
            }
        }
        name.push_str(match self {
            Self::A => ".a",
            Self::B => ".b",
        });
        if name.len() > MAX_NAME {
            return Err(DeviceError::new(
                ResultCode::NotSupported,
                "name of the component is too long",
            ));
        }
        Ok(name)
    }
}

impl Slots {
    pub(super) const fn new(kind: ComponentKind) -> Self {
        Self {
            kind,
            a: None,
            b: None,
            active: None,
            next: None,
            starts: None,
        }
    }

    pub(super) const fn get(&self, side: Side) -> Option<&Version> {
        match side {
            Side::A => self.a.as_ref(),
            Side::B => self.b.as_ref(),
        }
    }

    pub(super) fn set(&mut self, side: Side, version: Option<Version>) {
        match side {
            Side::A => self.a = version,
            Side::B => self.b = version,
        }
    }

    /// The version that runs.
    pub(super) fn running(&self) -> Option<&Version> {
        self.active.and_then(|side| self.get(side))
    }

    /// The slot that does not run.
    pub(super) fn idle(&self) -> Side {
        self.active.map_or(Side::A, Side::other)
    }

    /// The terminal starts: what was chosen runs, on trial, and a trial that goes on is counted.
    pub(super) fn begin(&mut self) {
        if let Some(next) = self.next.take() {
            self.active = Some(next);
            self.starts = Some(0);
        }
        self.starts = self.starts.map(|starts| starts.saturating_add(1));
    }

    /// The running version is given up for the one before. A component that has never run before does not run.
    pub(super) fn fall_back(&mut self) {
        self.starts = None;
        self.next = None;
        let Some(side) = self.active else {
            return;
        };
        let old = side.other();
        self.active = self.get(old).is_some().then_some(old);
        self.set(side, None);
    }
}
