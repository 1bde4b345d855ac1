//! Results, stages and the other one-byte codes (protocol §12), named as ISO 20022 `catm` names them where it does.

use crate::codes;

codes! {
    /// How an action, a message or a call ended. The first twenty-two are ISO 20022 `ActionResult` codes.
    pub enum ResultCode {
        /// Done.
        Success = 0 "SUCC",
        /// Access denied.
        AccessDenied = 1 "ACCD",
        /// Connection could not be made.
        ConnectionError = 2 "CNTE",
        /// Communication broke off.
        CommunicationError = 3 "CMER",
        /// The format is wrong.
        FormatError = 4 "FMTE",
        /// The content is not valid.
        InvalidContent = 5 "INVC",
        /// A length is wrong.
        LengthError = 6 "LENE",
        /// Memory is full.
        MemoryOverflow = 7 "OVER",
        /// Something needed is missing.
        Missing = 8 "MISS",
        /// Not supported here.
        NotSupported = 9 "NSUP",
        /// A signature does not verify.
        SignatureError = 10 "SIGE",
        /// The order of messages is wrong.
        SyntaxError = 11 "SYNE",
        /// No answer in time.
        Timeout = 12 "TIMO",
        /// The data set is not known.
        UnknownData = 13 "UKDT",
        /// The key or reference is not known.
        UnknownReference = 14 "UKRF",
        /// The peer's identity is invalid.
        InvalidParty = 15 "INDP",
        /// The initiating party does not match.
        PartyMismatch = 16 "IDMP",
        /// The delegation or role is not permitted.
        NotPermitted = 17 "DPRU",
        /// The application reported an error.
        ApplicationError = 18 "AERR",
        /// An error without a better name.
        UnlistedError = 19 "ULER",
        /// The hardware failed.
        HardwareError = 20 "HRDW",
        /// Authentication or another security check failed; nothing more is said of it.
        SecurityError = 21 "SECR",
        /// Busy now.
        Busy = 40 "BUSY",
        /// The merchant put it off.
        Postponed = 41 "POSTPONED",
        /// Transactions are not settled.
        Unsettled = 42 "UNSETTLED",
        /// The battery is too low.
        LowBattery = 43 "LOW_BATTERY",
        /// There is no room for the new version beside the old one.
        NoSpace = 44 "NO_SPACE",
        /// The window has closed.
        WindowClosed = 45 "WINDOW_CLOSED",
        /// The version or the security counter is lower than what is installed.
        VersionTooLow = 46 "VERSION_TOO_LOW",
        /// The package is for another vendor, model or hardware.
        ModelMismatch = 47 "MODEL_MISMATCH",
        /// The plan is older than one already seen.
        StalePlan = 48 "STALE_PLAN",
        /// The content is no longer what its digest says.
        Changed = 49 "CHANGED",
        /// The terminal was tampered with.
        Tampered = 50 "TAMPERED",
        /// The same was done before.
        Duplicate = 51 "DUPLICATE",
        /// No longer valid.
        Expired = 52 "EXPIRED",
        /// The new version did not run; the old one runs again.
        RolledBack = 53 "ROLLED_BACK",
        /// The terminal is deactivated.
        Deactivated = 54 "DEACTIVATED",
        /// The terminal is blacklisted.
        Blacklisted = 55 "BLACKLISTED",
        /// The object is gone.
        Gone = 56 "GONE",
        /// The same terminal is on line elsewhere.
        OnLineElsewhere = 57 "ON_LINE_ELSEWHERE",
        /// The credential that was named by its hash is not remembered: send it whole.
        CredentialUnknown = 58 "CREDENTIAL_UNKNOWN",
        /// No protocol version or suite in common.
        VersionUnsupported = 59 "VERSION_UNSUPPORTED",
        /// The server could not record it now.
        StorageUnavailable = 60 "STORAGE_UNAVAILABLE",
        /// The representation could not be decoded, or its base is not there: the content is wanted whole.
        Undecodable = 61 "UNDECODABLE",
    }

    /// How far a terminal has come with an action. Stages are never skipped in a report and never confused.
    pub enum Stage {
        /// In the plan, not begun.
        Accepted = 1 "accepted",
        /// Content is coming in.
        Downloading = 2 "downloading",
        /// All content is there.
        Downloaded = 3 "downloaded",
        /// Signature, target, counter and digest are right.
        Verified = 4 "verified",
        /// Put beside the running version.
        Installed = 5 "installed",
        /// Chosen for the next start.
        Activated = 6 "activated",
        /// The new version runs and said so.
        RunningConfirmed = 7 "running-confirmed",
        /// The new version did not confirm itself; the old one runs.
        RolledBack = 8 "rolled-back",
        /// Refused, with a code that says why.
        Rejected = 9 "rejected",
        /// Its time is over.
        Expired = 10 "expired",
        /// A newer action took its place.
        Superseded = 11 "superseded",
        /// Withdrawn by an operator.
        Cancelled = 12 "cancelled",
        /// Waiting; the code says for what.
        Waiting = 13 "waiting",
    }

    /// Why a terminal checks in.
    pub enum TriggerKind {
        /// Somebody pressed a key.
        Manual = 1 "manual",
        /// A transaction response said so.
        TransactionNotice = 2 "transaction-notice",
        /// The next contact has come.
        Schedule = 3 "schedule",
        /// So many settlements have passed.
        SettlementCount = 4 "settlement-count",
        /// The terminal was switched on.
        PowerOn = 5 "power-on",
        /// Something happened in the terminal, a finished installation among them.
        Event = 6 "event",
        /// An earlier call failed or broke off.
        Retry = 7 "retry",
    }

    /// What an action does (ISO 20022 `TerminalManagementAction`).
    pub enum ActionKind {
        /// Download only: keep it, verified, until an `Install` names it.
        Download = 1 "DWNL",
        /// Install, or update where an older version is installed.
        Install = 2 "INST",
        /// Update parameters: a package of them, or, without a manifest, a parameter set (§9.9).
        Update = 3 "UPDT",
        /// Remove.
        Delete = 4 "DELT",
        /// Activate what is installed.
        Activate = 5 "ACTV",
        /// Deactivate.
        Deactivate = 6 "DCTV",
        /// Restart the terminal.
        Restart = 7 "RSTR",
        /// Upload logs.
        Upload = 8 "UPLD",
        /// Display or print.
        DeviceRequest = 9 "DEVR",
        /// Register again.
        Bind = 10 "BIND",
        /// Withdraw an action that was planned earlier.
        Cancel = 11 "CANC",
    }

    /// In what form an object is sent (§9.1).
    pub enum Representation {
        /// The content itself.
        Whole = 0 "whole",
        /// Compressed by zstd.
        Zstd = 1 "zstd",
        /// A bsdiff stream against a stated digest, compressed by zstd.
        Delta = 2 "delta",
    }

    /// What happens to the rest of a plan when an action fails (ISO 20022 `ErrorAction`).
    pub enum ErrorAction {
        /// Go on with the others that do not depend on it.
        Continue = 0 "IGNR",
        /// Stop the sequence.
        Stop = 1 "STOP",
        /// Check in at once.
        Report = 2 "SDSR",
    }

    /// The kind of a component (ISO 20022 `POIComponentType`).
    pub enum ComponentKind {
        /// The operating system.
        OperatingSystem = 1 "OPST",
        /// Middleware and libraries.
        Middleware = 2 "MDWR",
        /// A driver.
        Driver = 3 "DRVR",
        /// The main-control application.
        MainControl = 4 "SERV",
        /// A payment application.
        Application = 5 "APLI",
        /// EMV kernel.
        EmvKernel = 6 "EMVK",
        /// Terminal parameters.
        TerminalParameters = 7 "TLPR",
        /// Acquirer protocol parameters.
        AcquirerParameters = 8 "AQPP",
        /// Application parameters.
        ApplicationParameters = 9 "APPR",
        /// Merchant parameters.
        MerchantParameters = 10 "MRPR",
        /// Certificates and trust anchors.
        Certificate = 11 "CRTF",
        /// A secure element, PIN pad among them.
        SecureElement = 12 "SECM",
    }

    /// The status of a component (ISO 20022 `POIComponentStatus`).
    pub enum ComponentStatus {
        /// Waiting for activation.
        Waiting = 0 "WAIT",
        /// In operation.
        InOperation = 1 "OPER",
        /// Out of date.
        OutOfDate = 2 "OUTD",
        /// Deactivated.
        Deactivated = 3 "DACT",
    }

    /// The role that a key, and what it certifies, has.
    pub enum Role {
        /// Signs certificates and trust stores.
        Root = 1 "root",
        /// A server or a group of nodes.
        Server = 2 "server",
        /// A terminal.
        Terminal = 3 "terminal",
        /// Signs packages for the vendor.
        VendorSigner = 4 "vendor-signer",
        /// Signs packages for the acquirer.
        AcquirerSigner = 5 "acquirer-signer",
    }

    /// What a terminal did with a text.
    pub enum TextStatus {
        /// Stored.
        Received = 1 "received",
        /// Shown on the display.
        Displayed = 2 "displayed",
        /// Printed.
        Printed = 3 "printed",
        /// Read, and confirmed by a key.
        Confirmed = 4 "confirmed",
        /// Refused: too long, or in a character set that the terminal has not got.
        Refused = 5 "refused",
        /// Taken back before it was shown.
        Withdrawn = 6 "withdrawn",
    }

    /// Why a terminal registers.
    pub enum RegisterIntent {
        /// First installation.
        FirstInstall = 1 "first-install",
        /// Installed again, at the same place.
        Reinstall = 2 "re-install",
        /// Takes the place of another terminal.
        Replacement = 3 "replacement",
        /// Moved, and says so.
        Relocation = 4 "relocation",
        /// Nothing of that: the server asked it to register again.
        Again = 5 "again",
    }

    /// What a terminal reports without being asked.
    pub enum EventKind {
        /// Tampering was detected.
        Tamper = 1 "tamper",
        /// Memory is short.
        LowMemory = 2 "low-memory",
        /// The battery is low.
        LowBattery = 3 "low-battery",
        /// A swap was asked for at the terminal.
        SwapRequest = 4 "swap-request",
        /// Parameters were changed on site.
        OnSiteChange = 5 "on-site-change",
        /// A component failed.
        ComponentFailure = 6 "component-failure",
    }
}

impl ResultCode {
    /// The number that operators of the UnionPay family use for this code, where they have one.
    #[must_use]
    pub const fn operator_number(self) -> Option<u16> {
        Some(match self {
            Self::Success => 0,
            Self::NotSupported => 1,
            Self::UnknownData => 5,
            Self::AccessDenied | Self::Deactivated => 7,
            Self::UnknownReference => 12,
            Self::SecurityError => 13,
            Self::Tampered => 11,
            Self::MemoryOverflow | Self::NoSpace => 1105,
            Self::SignatureError => 1109,
            Self::FormatError | Self::LengthError | Self::SyntaxError => 1101,
            Self::ConnectionError | Self::CommunicationError => 1118,
            Self::Timeout => 9015,
            Self::Missing | Self::Gone => 9019,
            Self::Blacklisted => 9018,
            Self::Changed => 9025,
            Self::HardwareError | Self::ApplicationError | Self::UnlistedError => 96,
            _ => return None,
        })
    }

    /// Whether trying again, with nothing changed, can never help.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::SignatureError
                | Self::VersionTooLow
                | Self::ModelMismatch
                | Self::Changed
                | Self::FormatError
                | Self::InvalidContent
                | Self::NotSupported
                | Self::Expired
                | Self::RolledBack
                | Self::Duplicate
        )
    }
}

impl Stage {
    /// Whether an action that has come to this stage is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::RunningConfirmed
                | Self::RolledBack
                | Self::Rejected
                | Self::Expired
                | Self::Superseded
                | Self::Cancelled
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes and names are each unique, and nothing that is listed reads as `Other`.
    fn sound<C: Copy + PartialEq + core::fmt::Debug + From<u8>>(all: &[C], name: fn(C) -> &'static str)
    where
        u8: From<C>,
    {
        for (index, code) in all.iter().enumerate() {
            assert_eq!(C::from(u8::from(*code)), *code);
            assert!(
                all.iter().skip(index + 1).all(|other| name(*other) != name(*code)),
                "{code:?}"
            );
        }
        for byte in 0..=u8::MAX {
            assert_eq!(u8::from(C::from(byte)), byte);
            assert_eq!(name(C::from(byte)) == "OTHER", !all.contains(&C::from(byte)), "{byte}");
        }
    }

    #[test]
    fn every_set_of_codes_is_sound() {
        sound(ResultCode::ALL, ResultCode::name);
        sound(Stage::ALL, Stage::name);
        sound(TriggerKind::ALL, TriggerKind::name);
        sound(ActionKind::ALL, ActionKind::name);
        sound(Representation::ALL, Representation::name);
        sound(ErrorAction::ALL, ErrorAction::name);
        sound(ComponentKind::ALL, ComponentKind::name);
        sound(ComponentStatus::ALL, ComponentStatus::name);
        sound(Role::ALL, Role::name);
        sound(TextStatus::ALL, TextStatus::name);
        sound(RegisterIntent::ALL, RegisterIntent::name);
        sound(EventKind::ALL, EventKind::name);
    }

    #[test]
    fn operators_see_their_own_numbers() {
        assert_eq!(ResultCode::Success.operator_number(), Some(0));
        assert_eq!(ResultCode::SecurityError.operator_number(), Some(13));
        assert_eq!(ResultCode::MemoryOverflow.operator_number(), Some(1105));
        assert_eq!(ResultCode::CommunicationError.operator_number(), Some(1118));
        assert_eq!(ResultCode::Changed.operator_number(), Some(9025));
        assert_eq!(ResultCode::Postponed.operator_number(), None);
    }

    #[test]
    fn codes_of_a_later_version_are_kept() {
        let later = ResultCode::from(200);
        assert_eq!(later, ResultCode::Other(200));
        assert_eq!(std::format!("{later} {}", ResultCode::Busy), "code 200 BUSY");
    }
}
