//! The records of texts: the words, to whom they are published, and what became of them with each terminal.

use crate::rule::text::Message;
use crate::store::{BranchPath, Entity, Kind, TerminalId, WaitingText};
use serde::{Deserialize, Serialize};
use tms_proto::code::TextStatus;

/// How far a text has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextState {
    /// It waits for another operator.
    Draft,
    /// It may be published.
    Approved {
        /// Who approved it.
        by: String,
        /// When, in seconds since 1970 UTC.
        at: u64,
    },
    /// It is published no more, and what was not shown yet is taken back.
    Withdrawn {
        /// Who withdrew it.
        by: String,
        /// When, in seconds since 1970 UTC.
        at: u64,
    },
}

/// A text for terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// Its id: what terminals know it by.
    pub id: u64,
    /// The words, and from when until when they are shown.
    pub message: Message,
    /// The branch in which, and in those below it, it may be published.
    pub branch: BranchPath,
    /// Who wrote it.
    pub author: String,
    /// When, in seconds since 1970 UTC.
    pub written: u64,
    /// How far it has come.
    pub state: TextState,
    /// It is being taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
}

/// How far a text has been taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recall {
    /// The last terminal that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<TerminalId>,
}

/// Whom a text is published to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Audience {
    /// One terminal.
    Terminal {
        /// Which.
        terminal: TerminalId,
    },
    /// All terminals of a branch and those below it.
    Branch {
        /// Which.
        under: BranchPath,
    },
    /// All terminals of a model, in a branch and those below it.
    Model {
        /// Which branch.
        under: BranchPath,
        /// Vendor.
        vendor: String,
        /// Model.
        model: String,
    },
}

/// That a text is being published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its id.
    pub id: String,
    /// The text.
    pub text: u64,
    /// Whom to.
    pub audience: Audience,
    /// The branch of them all.
    pub branch: BranchPath,
    /// By whom.
    pub operator: String,
    /// When, in seconds since 1970 UTC.
    pub published: u64,
    /// The last terminal that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<(BranchPath, TerminalId)>,
    /// How many were looked at.
    #[serde(default)]
    pub terminals: u64,
    /// With how many the text was laid ready.
    #[serde(default)]
    pub given: u64,
    /// All were looked at.
    #[serde(default)]
    pub done: bool,
}

/// What became of a text with one terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It waits for the terminal to call, or the terminal has not said yet what became of it.
    Waiting,
    /// So many texts waited for the terminal that this one was left out.
    Full,
    /// The terminal cannot show it: too long, without the letters, without a printer.
    Unsuitable,
    /// The terminal refused it, or its time was over.
    Refused,
    /// The terminal has it.
    Received,
    /// It was taken back before it was shown.
    Withdrawn,
    /// It was shown.
    Displayed,
    /// It was printed.
    Printed,
    /// Somebody confirmed it by a key.
    Confirmed,
}

impl DeliveryStatus {
    /// The name, as it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Full => "full",
            Self::Unsuitable => "unsuitable",
            Self::Refused => "refused",
            Self::Received => "received",
            Self::Withdrawn => "withdrawn",
            Self::Displayed => "displayed",
            Self::Printed => "printed",
            Self::Confirmed => "confirmed",
        }
    }

    /// What a receipt says; none where this version does not know it.
    pub(crate) const fn of(status: TextStatus) -> Option<Self> {
        Some(match status {
            TextStatus::Received => Self::Received,
            TextStatus::Displayed => Self::Displayed,
            TextStatus::Printed => Self::Printed,
            TextStatus::Confirmed => Self::Confirmed,
            TextStatus::Refused => Self::Refused,
            TextStatus::Withdrawn => Self::Withdrawn,
            _ => return None,
        })
    }
}

/// A text and a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDelivery {
    /// The text.
    pub text: u64,
    /// The terminal.
    pub terminal: TerminalId,
    /// What became of it. It goes forward only: a receipt that comes late or twice changes nothing.
    pub status: DeliveryStatus,
    /// When that was known, in seconds since 1970 UTC.
    pub updated: u64,
    /// When it was so, by the terminal's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
}

impl TextRecord {
    /// The id as it is written.
    pub(crate) fn key(id: u64) -> String {
        format!("{id:016x}")
    }

    /// The text as it waits for a terminal.
    pub(crate) fn waiting(&self) -> WaitingText {
        let Message {
            title,
            body,
            print,
            confirm,
            from,
            until,
        } = self.message.clone();
        WaitingText {
            id: self.id,
            title,
            body,
            print,
            confirm,
            from,
            until,
        }
    }
}

impl Entity for TextRecord {
    const KIND: Kind = Kind::named("text");

    fn id(&self) -> String {
        Self::key(self.id)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut marks = vec![("branch", self.branch.to_string())];
        if self.recall.is_some() {
            marks.push(("recall", self.branch.to_string()));
        }
        marks
    }
}

impl Entity for Publication {
    const KIND: Kind = Kind::named("publication");

    fn id(&self) -> String {
        self.id.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let text = format!("{:016x}", self.text);
        let mut marks = vec![("text", text.clone())];
        if !self.done {
            marks.push(("laying", text));
            marks.push(("open", self.branch.to_string()));
        }
        marks
    }
}

impl Entity for TextDelivery {
    const KIND: Kind = Kind::named("text_delivery");

    fn id(&self) -> String {
        Self::id_of(self.text, self.terminal)
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        vec![
            ("status", format!("{:016x}/{}", self.text, self.status.name())),
            ("terminal", self.terminal.to_string()),
        ]
    }
}

impl TextDelivery {
    pub(crate) fn id_of(text: u64, terminal: TerminalId) -> String {
        format!("{text:016x}/{terminal}")
    }

    /// It waits for the terminal.
    pub(crate) const fn waiting(text: u64, terminal: TerminalId, now: u64) -> Self {
        Self {
            text,
            terminal,
            status: DeliveryStatus::Waiting,
            updated: now,
            time: None,
        }
    }
}
