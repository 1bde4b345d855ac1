//! Whom a certificate is about (§10.2): the holder reference, read by the role.

use crate::code::Role;
use crate::identity::Holder;
use crate::tlv::{DecodeError, Element, Tag, Value, Writer};
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

/// Stands between the parts of a holder reference: ASCII *unit separator*.
const SEPARATOR: char = '\u{1F}';

/// The longest holder reference, in bytes.
const MAX: usize = 128;

/// Whom a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Subject {
    /// A root that signs certificates.
    Root {
        /// Its name.
        name: String,
    },
    /// A group of server nodes.
    Server {
        /// Whose server it is.
        organisation: String,
        /// Which group of nodes.
        group: String,
    },
    /// A terminal.
    Terminal(Holder),
    /// One that signs packages for a vendor.
    VendorSigner {
        /// Its name.
        name: String,
    },
    /// One that signs packages for an acquirer.
    AcquirerSigner {
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// The role that it has.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Root { .. } => Role::Root,
            Self::Server { .. } => Role::Server,
            Self::Terminal(_) => Role::Terminal,
            Self::VendorSigner { .. } => Role::VendorSigner,
            Self::AcquirerSigner { .. } => Role::AcquirerSigner,
        }
    }

    /// The terminal, where it is one.
    #[must_use]
    pub const fn terminal(&self) -> Option<&Holder> {
        match self {
            Self::Terminal(holder) => Some(holder),
            _ => None,
        }
    }

    /// The holder reference.
    pub(super) fn reference(&self) -> String {
        let mut text = String::new();
        for part in self.parts().into_iter().flatten() {
            if !text.is_empty() {
                text.push(SEPARATOR);
            }
            text.push_str(part);
        }
        text
    }

    /// Reads a holder reference; none where it does not have the parts of the role, an empty one or a control character.
    pub(super) fn parse(role: Role, reference: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(reference).ok().filter(|text| text.len() <= MAX)?;
        let mut parts = text.split(SEPARATOR).map(ToOwned::to_owned);
        let mut next = || {
            parts
                .next()
                .filter(|part| !part.is_empty() && !part.chars().any(char::is_control))
        };
        let subject = match role {
            Role::Root => Self::Root { name: next()? },
            Role::Server => Self::Server {
                organisation: next()?,
                group: next()?,
            },
            Role::Terminal => Self::Terminal(Holder {
                vendor: next()?,
                model: next()?,
                serial: next()?,
            }),
            Role::VendorSigner => Self::VendorSigner { name: next()? },
            Role::AcquirerSigner => Self::AcquirerSigner { name: next()? },
            Role::Other(_) => return None,
        };
        parts.next().is_none().then_some(subject)
    }

    fn parts(&self) -> [Option<&str>; 3] {
        match self {
            Self::Root { name } | Self::VendorSigner { name } | Self::AcquirerSigner { name } => {
                [Some(name), None, None]
            }
            Self::Server { organisation, group } => [Some(organisation), Some(group), None],
            Self::Terminal(holder) => [Some(&holder.vendor), Some(&holder.model), Some(&holder.serial)],
        }
    }
}

impl Value for Subject {
    /// The role, then the holder reference.
    fn write(&self, tag: Tag, out: &mut Writer) {
        let role = [u8::from(self.role())];
        out.bytes(tag, &[&role, self.reference().as_bytes()].concat());
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        let (role, reference) = element.value.split_first().ok_or_else(|| element.malformed())?;
        Self::parse(Role::from(*role), reference).ok_or_else(|| element.malformed())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role())?;
        self.parts()
            .into_iter()
            .flatten()
            .try_for_each(|part| write!(f, "/{part}"))
    }
}
