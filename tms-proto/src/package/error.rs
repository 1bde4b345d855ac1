//! Why a package is not installed (§11.4), and the code that says so on the wire.

use crate::code::{ResultCode, Role};
use crate::tlv::DecodeError;

/// Why a package is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// It is not a package, or contradicts itself.
    #[error("malformed package: {0}")]
    Malformed(#[from] DecodeError),
    /// It does not begin as a package file does.
    #[error("not a package file")]
    Magic,
    /// Fewer keys of a role have signed than the trust store demands.
    #[error("not enough valid signatures of role {0}")]
    Signatures(Role),
    /// Its time has not come.
    #[error("package is not yet valid")]
    NotYetValid,
    /// Its time is over.
    #[error("package has expired")]
    Expired,
    /// It is for another vendor, model or hardware.
    #[error("package is for another {0}")]
    Target(&'static str),
    /// Its security counter is lower than that of what is installed.
    #[error("security counter {offered} is lower than {installed}")]
    Counter {
        /// The package's.
        offered: u32,
        /// What is installed.
        installed: u32,
    },
    /// Its version is lower than what is installed.
    #[error("version is lower than what is installed")]
    Version,
    /// What is installed is too old to go to it in one step.
    #[error("installed version is too old for this package")]
    TooOld,
    /// Another component that it needs is missing or too old: its place in the list of dependencies.
    #[error("dependency {0} is missing or too old")]
    Dependency(usize),
    /// The grant is for another terminal or component, or for a higher counter.
    #[error("grant does not cover this package")]
    Grant,
    /// There is more or less content than the manifest says.
    #[error("content has another size than the manifest says")]
    Size,
    /// The content is not what the manifest says.
    #[error("content is not what the manifest says")]
    Digest,
    /// A block is not what the block map says, or the map is not what the manifest says.
    #[error("block map does not fit")]
    Block,
}

impl PackageError {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> ResultCode {
        match self {
            Self::Malformed(_) | Self::Magic => ResultCode::FormatError,
            Self::Signatures(_) => ResultCode::SignatureError,
            Self::NotYetValid => ResultCode::WindowClosed,
            Self::Expired => ResultCode::Expired,
            Self::Target(_) => ResultCode::ModelMismatch,
            Self::Counter { .. } | Self::Version => ResultCode::VersionTooLow,
            Self::TooOld | Self::Dependency(_) => ResultCode::Missing,
            Self::Grant => ResultCode::NotPermitted,
            Self::Size => ResultCode::LengthError,
            Self::Digest | Self::Block => ResultCode::Changed,
        }
    }
}
