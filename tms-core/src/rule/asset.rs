//! Reconciliation of a list of assets with the estate: a CSV file in UTF-8, line by line, whatever its size.

use super::name::{Aliases, NameError};
use crate::store::{Holder, TerminalId};
use csv::ByteRecord;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tms_proto::digest::Digest;
use tms_proto::tlv::Structure;
use unicode_normalization::UnicodeNormalization;

/// The most lines of a list.
pub const MAX_LINES: u64 = 2_000_000;

/// The most bytes of one line.
pub const MAX_LINE: u64 = 64 * 1_024;

/// The most characters of a branch or a merchant number, of one level each.
const MAX_WORD: usize = 64;

/// How the columns of a list are called. Case, spaces and punctuation make no difference. The first column with one of
/// the names counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Columns {
    /// The vendor's; there must be one.
    pub vendor: Vec<String>,
    /// The model's; there must be one.
    pub model: Vec<String>,
    /// The serial number's; there must be one.
    pub serial: Vec<String>,
    /// The branch's.
    pub branch: Vec<String>,
    /// The merchant number's.
    pub merchant: Vec<String>,
    /// What separates fields: a comma, a semicolon or a tab, as a byte.
    pub delimiter: u8,
    /// What separates the levels of a branch's path.
    pub level: char,
}

impl Default for Columns {
    fn default() -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            vendor: own(&["vendor", "manufacturer", "make", "厂商", "厂家", "品牌", "终端厂商"]),
            model: own(&["model", "type", "型号", "机型", "终端型号"]),
            serial: own(&[
                "serial",
                "serial number",
                "serial no",
                "s/n",
                "sn",
                "序列号",
                "机身号",
                "终端序列号",
            ]),
            branch: own(&["branch", "office", "分行", "机构", "所属机构", "分支机构"]),
            merchant: own(&[
                "merchant",
                "merchant number",
                "merchant id",
                "mid",
                "商户号",
                "商户编号",
            ]),
            delimiter: b',',
            level: '/',
        }
    }
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number in the file, from 1; the header is a line too.
    pub line: u64,
    /// The terminal, by the estate's names.
    pub holder: Holder,
    /// Where it is said to be; `None` where the list does not say.
    pub branch: Option<Vec<String>>,
    /// Whose it is said to be; `None` where the list does not say.
    pub merchant: Option<String>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct Malformed {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// It has more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    Fields {
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// It is not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// Its vendor, model or serial number is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its branch or merchant number is too long, or has control characters.
    #[error("branch or merchant number is not one")]
    Word,
}

/// Why a list cannot be read on.
#[derive(Debug, Error)]
pub enum ListError {
    /// The header has no column of this name.
    #[error("no column for the {0}")]
    Column(&'static str),
    /// More than 2,000,000 lines.
    #[error("more than {MAX_LINES} lines")]
    Lines,
    /// Reading failed, or a line is longer than 64 KiB.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// What the estate knows of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The terminal.
    pub terminal: TerminalId,
    /// Its holder.
    pub holder: Holder,
    /// The path of its branch.
    pub branch: Vec<String>,
    /// Its merchant's number.
    pub merchant: Option<String>,
}

/// What became of one line of the list, or of one terminal of the estate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The line; `None` for what is not in the list.
    pub line: Option<u64>,
    /// The terminal, by the estate's names; `None` for a line that cannot be read.
    pub holder: Option<Holder>,
    /// The terminal's id; `None` for what is not in the estate.
    pub terminal: Option<TerminalId>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is in both, at the same place.
    Matched,
    /// It is in both, and somewhere else or somebody else's in the list.
    Moved {
        /// The branch in the list, where it differs.
        branch: Option<Vec<String>>,
        /// The merchant in the list, where it differs.
        merchant: Option<String>,
    },
    /// It is in the list and not in the estate.
    Unknown,
    /// It is in the estate and not in the list.
    Missing,
    /// It is in the list for the second time or more.
    Duplicate {
        /// The line where it was first.
        first: u64,
    },
    /// The line cannot be read.
    Malformed {
        /// Why.
        reason: String,
    },
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Lines of the list, without the header.
    pub lines: u64,
    /// [`Outcome::Matched`].
    pub matched: u64,
    /// [`Outcome::Moved`].
    pub moved: u64,
    /// [`Outcome::Unknown`].
    pub unknown: u64,
    /// [`Outcome::Missing`].
    pub missing: u64,
    /// [`Outcome::Duplicate`].
    pub duplicate: u64,
    /// [`Outcome::Malformed`].
    pub malformed: u64,
}

/// Reads a list, a line at a time: what cannot be read is an item, and the next line goes on.
pub struct List<'a, R> {
    reader: csv::Reader<Bounded<R>>,
    allowed: Arc<AtomicU64>,
    aliases: &'a Aliases,
    level: char,
    places: Places,
    fields: usize,
    record: ByteRecord,
    lines: u64,
    over: bool,
}

/// Which field is which.
#[derive(Debug, Clone, Copy)]
struct Places {
    vendor: usize,
    model: usize,
    serial: usize,
    branch: Option<usize>,
    merchant: Option<usize>,
}

impl<'a, R: Read> List<'a, R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ListError`] where a column that must be there is not, or nothing can be read.
    pub fn new(reader: R, columns: &Columns, aliases: &'a Aliases) -> Result<Self, ListError> {
        let allowed = Arc::new(AtomicU64::new(MAX_LINE));
        let bounded = Bounded {
            reader,
            read: 0,
            allowed: allowed.clone(),
            last: b'\n',
        };
        let mut builder = csv::ReaderBuilder::new();
        let builder = builder.has_headers(false).flexible(true).delimiter(columns.delimiter);
        let mut list = Self {
            reader: builder.from_reader(bounded),
            allowed,
            aliases,
            level: columns.level,
            places: Places {
                vendor: 0,
                model: 0,
                serial: 0,
                branch: None,
                merchant: None,
            },
            fields: 0,
            record: ByteRecord::new(),
            lines: 0,
            over: false,
        };
        list.advance()?;
        let header: Vec<String> = list
            .record
            .iter()
            .map(|name| folded(&String::from_utf8_lossy(name)))
            .collect();
        let find = |names: &[String]| {
            header
                .iter()
                .position(|name| names.iter().any(|other| folded(other) == *name))
        };
        list.places = Places {
            vendor: find(&columns.vendor).ok_or(ListError::Column("vendor"))?,
            model: find(&columns.model).ok_or(ListError::Column("model"))?,
            serial: find(&columns.serial).ok_or(ListError::Column("serial number"))?,
            branch: find(&columns.branch),
            merchant: find(&columns.merchant),
        };
        list.fields = header.len();
        Ok(list)
    }

    /// Reads the next record; false at the end.
    fn advance(&mut self) -> Result<bool, ListError> {
        let begins = self.reader.position().byte();
        self.allowed.store(begins.saturating_add(MAX_LINE), Ordering::Relaxed);
        let more = self.reader.read_byte_record(&mut self.record);
        more.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => ListError::Read(error),
            other => ListError::Read(io::Error::other(format!("{other:?}"))),
        })
    }

    fn listed(&self, line: u64) -> Result<Listed, Reason> {
        if self.record.len() != self.fields {
            return Err(Reason::Fields {
                found: self.record.len(),
                expected: self.fields,
            });
        }
        let field = |place: usize| {
            let field = std::str::from_utf8(self.record.get(place).unwrap_or_default());
            field.map_err(|_| Reason::Encoding)
        };
        let holder = self.aliases.holder(
            field(self.places.vendor)?,
            field(self.places.model)?,
            field(self.places.serial)?,
        )?;
        let optional = |place: Option<usize>| place.map(field).transpose();
        let branch = match optional(self.places.branch)? {
            Some(path) if !path.trim().is_empty() => {
                let levels = path.split(self.level).filter(|level| !level.trim().is_empty());
                Some(levels.take(32).map(word).collect::<Result<_, _>>()?)
            }
            _ => None,
        };
        let merchant = match optional(self.places.merchant)? {
            Some(merchant) if !merchant.trim().is_empty() => Some(word(merchant)?),
            _ => None,
        };
        Ok(Listed {
            line,
            holder,
            branch,
            merchant,
        })
    }
}

impl<R: Read> Iterator for List<'_, R> {
    /// A line, one that cannot be read, or why the rest cannot be read: then there is no more.
    type Item = Result<Result<Listed, Malformed>, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let more = self.advance();
        self.lines += 1;
        match more {
            Ok(true) if self.lines <= MAX_LINES => {}
            Ok(false) => {
                self.over = true;
                return None;
            }
            more => {
                self.over = true;
                return Some(Err(more.err().unwrap_or(ListError::Lines)));
            }
        }
        // The reader stands behind the end of the record, which may have line ends in its fields.
        let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count();
        let within = u64::try_from(within).unwrap_or(u64::MAX);
        let line = self.reader.position().line().saturating_sub(1).saturating_sub(within);
        Some(Ok(self.listed(line).map_err(|reason| Malformed { line, reason })))
    }
}

/// Judges lines against the estate, and remembers which it has seen: some 60 bytes for each.
#[derive(Debug, Clone, Default)]
pub struct Reconciliation {
    /// By the first half of the holder's digest.
    lines: HashMap<[u8; 16], u64>,
    seen: HashSet<TerminalId>,
    /// What was found so far.
    pub totals: Totals,
}

impl Reconciliation {
    /// Judges a line. `known` is what the estate has under [`Listed::holder`].
    pub fn judge(&mut self, listed: &Listed, known: Option<&Known>) -> Finding {
        self.totals.lines += 1;
        let first = *self.lines.entry(name_of(&listed.holder)).or_insert(listed.line);
        let outcome = match known {
            _ if first != listed.line => Outcome::Duplicate { first },
            None => Outcome::Unknown,
            Some(known) => {
                let branch = listed.branch.clone().filter(|branch| *branch != known.branch);
                let merchant = listed
                    .merchant
                    .clone()
                    .filter(|merchant| known.merchant.as_ref() != Some(merchant));
                match (&branch, &merchant) {
                    (None, None) => Outcome::Matched,
                    _ => Outcome::Moved { branch, merchant },
                }
            }
        };
        let terminal = known.map(|known| known.terminal);
        self.seen.extend(terminal);
        self.found(Finding {
            line: Some(listed.line),
            holder: Some(listed.holder.clone()),
            terminal,
            outcome,
        })
    }

    /// Notes a line that cannot be read.
    pub fn malformed(&mut self, malformed: &Malformed) -> Finding {
        self.totals.lines += 1;
        self.found(Finding {
            line: Some(malformed.line),
            holder: None,
            terminal: None,
            outcome: Outcome::Malformed {
                reason: malformed.reason.to_string(),
            },
        })
    }

    /// Judges a terminal of the estate, when all lines have been: `None` for one that is in the list.
    pub fn missing(&mut self, known: &Known) -> Option<Finding> {
        if self.seen.contains(&known.terminal) {
            return None;
        }
        Some(self.found(Finding {
            line: None,
            holder: Some(known.holder.clone()),
            terminal: Some(known.terminal),
            outcome: Outcome::Missing,
        }))
    }

    fn found(&mut self, finding: Finding) -> Finding {
        let count = match &finding.outcome {
            Outcome::Matched => &mut self.totals.matched,
            Outcome::Moved { .. } => &mut self.totals.moved,
            Outcome::Unknown => &mut self.totals.unknown,
            Outcome::Missing => &mut self.totals.missing,
            Outcome::Duplicate { .. } => &mut self.totals.duplicate,
            Outcome::Malformed { .. } => &mut self.totals.malformed,
        };
        *count += 1;
        finding
    }
}

/// Reconciles a whole list: each line with what `look_up` finds in the estate, and then each terminal of `estate` that no
/// line was about. `each` is given every finding as it is made, in the order of the list. For an estate that has to be
/// awaited, [`List`] and [`Reconciliation`] are used one after the other.
///
/// # Errors
/// [`ListError`] where the list cannot be read on; what was found before was given to `each`.
pub fn reconcile<R: Read>(
    list: List<'_, R>,
    mut look_up: impl FnMut(&Holder) -> Option<Known>,
    estate: impl IntoIterator<Item = Known>,
    mut each: impl FnMut(Finding),
) -> Result<Totals, ListError> {
    let mut reconciliation = Reconciliation::default();
    for line in list {
        each(match line? {
            Ok(listed) => reconciliation.judge(&listed, look_up(&listed.holder).as_ref()),
            Err(malformed) => reconciliation.malformed(&malformed),
        });
    }
    for known in estate {
        if let Some(finding) = reconciliation.missing(&known) {
            each(finding);
        }
    }
    Ok(reconciliation.totals)
}

/// Stops a line that does not end: what the CSV reader takes into memory for one is bounded. It ends lines in one way, so
/// that they can be counted: carriage returns are left out, and the last line ends too.
struct Bounded<R> {
    reader: R,
    read: u64,
    allowed: Arc<AtomicU64>,
    last: u8,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > self.allowed.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a line is longer than 64 KiB",
            ));
        }
        loop {
            let mut read = self.reader.read(buffer)?;
            if read == 0 && self.last != b'\n' {
                buffer.iter_mut().take(1).for_each(|byte| *byte = b'\n');
                read = buffer.len().min(1);
            }
            let mut kept = 0;
            for at in 0..read {
                let byte = buffer.get(at).copied().unwrap_or_default();
                if byte != b'\r' {
                    buffer.iter_mut().skip(kept).take(1).for_each(|place| *place = byte);
                    (kept, self.last) = (kept + 1, byte);
                }
            }
            if kept > 0 || read == 0 {
                self.read = self.read.saturating_add(u64::try_from(kept).unwrap_or(u64::MAX));
                return Ok(kept);
            }
        }
    }
}

fn name_of(holder: &Holder) -> [u8; 16] {
    let Digest([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..]) = Digest::of(&holder.to_vec());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn folded(name: &str) -> String {
    let letters = name.nfkc().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

fn word(text: &str) -> Result<String, Reason> {
    let text = text.trim();
    let good = text.chars().count() <= MAX_WORD && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(Reason::Word) }
}

#[cfg(test)]
mod tests;
