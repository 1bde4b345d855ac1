//! Types of parameters, and the one way to write a value of each.

use crate::transport::PhoneNumber;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;
use thiserror::Error;
use tms_proto::digest::Digest;

/// The most bytes of a sealed value.
const MAX_SEALED: usize = 8_192;

/// What a layer sets a parameter to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Text that may name variables: `${merchant.name}`; `$$` is a `$`.
    Plain(String),
    /// A secret.
    Sealed(Sealed),
}

/// A secret value, sealed by a key that these rules do not have. Neither is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The value, sealed, as whoever sealed it writes it; up to 8,192 bytes.
    pub sealed: String,
    /// A keyed digest of the value: equal where the values are, however often they are sealed under one version of the key.
    pub fingerprint: Digest,
    /// The version of the key that sealed it.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub key: u32,
}

const fn first_version() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
const fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

impl Sealed {
    pub(super) fn is_sized(&self) -> bool {
        self.sealed.len() <= MAX_SEALED
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

/// What values a parameter has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// Text without control characters.
    Text {
        /// The fewest characters.
        #[serde(default)]
        min: u16,
        /// The most characters.
        max: u16,
        /// Which characters.
        #[serde(default)]
        charset: Charset,
    },
    /// A whole number.
    Integer {
        /// The lowest.
        min: i64,
        /// The highest.
        max: i64,
    },
    /// An amount of money, written with a decimal point where the currency has decimals: `12.50`. Terminals get it in the
    /// smallest unit: `1250`.
    Amount {
        /// The most, in the smallest unit.
        max: u64,
        /// The currency's decimals, 0 to 4.
        decimals: u8,
    },
    /// `true` or `false`.
    Boolean,
    /// One of a list.
    Choice {
        /// The list.
        options: Vec<String>,
    },
    /// What a terminal dials: as a telephone number, with commas where it pauses.
    Telephone,
    /// A host and a port: `tms.example.com:9000`, `192.0.2.7:9000`, `[2001:db8::7]:9000`.
    Endpoint,
    /// A day: `2026-11-22`.
    Date,
    /// A time of day: `23:30`, or `23:30:00`.
    Time,
    /// A secret: a password, a PIN of an operator. Only sealed values.
    Secret,
}

/// Which characters a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charset {
    /// Any but control characters.
    #[default]
    Unicode,
    /// Printable ASCII.
    Ascii,
    /// ASCII letters and digits.
    Alphanumeric,
    /// Digits.
    Digits,
    /// Hexadecimal digits, an even number of them; upper and lower case are the same.
    Hexadecimal,
}

/// Why a text is no value of its kind. The text is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueError {
    /// Fewer characters than the least, or more than the most.
    #[error("too short or too long")]
    Length,
    /// A character that it cannot have.
    #[error("a character that it cannot have")]
    Character,
    /// It does not have the form of its kind.
    #[error("not in the form of its kind")]
    Form,
    /// Below the lowest or above the highest.
    #[error("out of range")]
    Range,
    /// Not one of the options.
    #[error("not one of the options")]
    Option,
    /// A secret in the clear.
    #[error("a secret in the clear")]
    Clear,
    /// A sealed value where there is no secret.
    #[error("sealed, though it is no secret")]
    NotSecret,
    /// The definition itself has no possible value, or more than it may have.
    #[error("the definition is not possible")]
    Definition,
}

impl Kind {
    /// The one-byte code under which terminals get a value of this kind.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Text { .. } => 1,
            Self::Integer { .. } => 2,
            Self::Amount { .. } => 3,
            Self::Boolean => 4,
            Self::Choice { .. } => 5,
            Self::Telephone => 6,
            Self::Endpoint => 7,
            Self::Date => 8,
            Self::Time => 9,
            Self::Secret => 10,
        }
    }

    /// Whether it is a secret.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret)
    }

    /// Checks that there can be a value of it.
    ///
    /// # Errors
    /// [`ValueError::Definition`] where there cannot.
    pub fn check(&self) -> Result<(), ValueError> {
        let possible = match self {
            Self::Text { min, max, .. } => min <= max,
            Self::Integer { min, max } => min <= max,
            Self::Amount { decimals, .. } => *decimals <= 4,
            Self::Choice { options } => {
                let listed =
                    |option: &String| (1..=64).contains(&option.len()) && !option.chars().any(char::is_control);
                (1..=256).contains(&options.len()) && options.iter().all(listed)
            }
            _ => true,
        };
        if possible { Ok(()) } else { Err(ValueError::Definition) }
    }

    /// The value in its one form, or why it is none. Its form is a value too, and its own form, but for an amount.
    ///
    /// # Errors
    /// [`ValueError`].
    pub fn read(&self, text: &str) -> Result<String, ValueError> {
        match self {
            Self::Text { min, max, charset } => read_text(text, *min, *max, *charset),
            Self::Integer { min, max } => {
                let number: i64 = text.trim().parse().map_err(|_| ValueError::Form)?;
                within((*min..=*max).contains(&number), number.to_string())
            }
            Self::Amount { max, decimals } => {
                let units = read_amount(text.trim(), *decimals)?;
                within(units <= *max, units.to_string())
            }
            Self::Boolean => match text.trim() {
                "true" | "1" => Ok("true".to_owned()),
                "false" | "0" => Ok("false".to_owned()),
                _ => Err(ValueError::Form),
            },
            Self::Choice { options } => match options.iter().any(|option| option == text) {
                true => Ok(text.to_owned()),
                false => Err(ValueError::Option),
            },
            Self::Telephone => read_telephone(text),
            Self::Endpoint => read_endpoint(text.trim()),
            Self::Date => {
                let text = text.trim();
                let date: jiff::civil::Date = text.parse().map_err(|_| ValueError::Form)?;
                let form = date.to_string();
                if form == text { Ok(form) } else { Err(ValueError::Form) }
            }
            Self::Time => read_time(text.trim()),
            Self::Secret => Err(ValueError::Clear),
        }
    }
}

fn within(holds: bool, form: String) -> Result<String, ValueError> {
    if holds { Ok(form) } else { Err(ValueError::Range) }
}

fn read_text(text: &str, min: u16, max: u16, charset: Charset) -> Result<String, ValueError> {
    let fits = |letter: char| match charset {
        Charset::Unicode => !letter.is_control(),
        Charset::Ascii => matches!(letter, ' '..='~'),
        Charset::Alphanumeric => letter.is_ascii_alphanumeric(),
        Charset::Digits => letter.is_ascii_digit(),
        Charset::Hexadecimal => letter.is_ascii_hexdigit(),
    };
    if !text.chars().all(fits) {
        return Err(ValueError::Character);
    }
    let length = text.chars().count();
    if !(usize::from(min)..=usize::from(max)).contains(&length) {
        return Err(ValueError::Length);
    }
    match charset {
        Charset::Hexadecimal if !length.is_multiple_of(2) => Err(ValueError::Length),
        Charset::Hexadecimal => Ok(text.to_ascii_uppercase()),
        _ => Ok(text.to_owned()),
    }
}

fn read_amount(text: &str, decimals: u8) -> Result<u64, ValueError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = usize::from(decimals);
    let point = text.contains('.');
    if whole.is_empty()
        || !digits(whole)
        || !digits(fraction)
        || fraction.len() > decimals
        || point && fraction.is_empty()
    {
        return Err(ValueError::Form);
    }
    format!("{whole}{fraction:0<decimals$}")
        .parse()
        .map_err(|_| ValueError::Range)
}

fn read_telephone(text: &str) -> Result<String, ValueError> {
    let dialled: String = text.chars().filter(|letter| *letter != ',').take(64).collect();
    dialled.parse::<PhoneNumber>().map_err(|_| ValueError::Form)?;
    let form: String = text
        .chars()
        .filter(|letter| !matches!(letter, ' ' | '-' | '.' | '(' | ')'))
        .collect();
    // A pause before the first digit or after the last is nothing to dial.
    let framed = form.starts_with(',') || form.ends_with(',') || form.len() > 32;
    if framed { Err(ValueError::Form) } else { Ok(form) }
}

fn read_endpoint(text: &str) -> Result<String, ValueError> {
    let (host, port) = text.rsplit_once(':').ok_or(ValueError::Form)?;
    let port: u16 = match port.bytes().all(|byte| byte.is_ascii_digit()) {
        true => port.parse().map_err(|_| ValueError::Range)?,
        false => return Err(ValueError::Form),
    };
    if port == 0 {
        return Err(ValueError::Range);
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| ValueError::Form)?;
        return Ok(format!("[{address}]:{port}"));
    }
    let labels = || host.strip_suffix('.').unwrap_or(host).split('.');
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || !labels().all(label) {
        return Err(ValueError::Form);
    }
    // What ends in a number is an address, and not everything that looks like one is.
    let numeric = labels()
        .next_back()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(ValueError::Form);
    }
    Ok(format!("{}:{port}", host.to_ascii_lowercase()))
}

fn read_time(text: &str) -> Result<String, ValueError> {
    let mut parts =
        text.split(':').map(
            |part| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()) {
                true => part.parse::<u8>().map_err(|_| ValueError::Form),
                false => Err(ValueError::Form),
            },
        );
    let hour = parts.next().ok_or(ValueError::Form)??;
    let minute = parts.next().ok_or(ValueError::Form)??;
    let second = parts.next().unwrap_or(Ok(0))?;
    if parts.next().is_some() {
        return Err(ValueError::Form);
    }
    within(
        hour < 24 && minute < 60 && second < 60,
        format!("{hour:02}:{minute:02}:{second:02}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AMOUNT: Kind = Kind::Amount {
        max: 1_000_000,
        decimals: 2,
    };

    #[test]
    fn each_kind_has_its_form() {
        let text = |charset| Kind::Text {
            min: 2,
            max: 4,
            charset,
        };
        let choice = Kind::Choice {
            options: vec!["tcp".to_owned(), "modem".to_owned()],
        };
        let number = Kind::Integer { min: -5, max: 99 };
        for (kind, text, form) in [
            (text(Charset::Unicode), "商户", Ok("商户")),
            (text(Charset::Unicode), "商", Err(ValueError::Length)),
            (text(Charset::Unicode), "12345", Err(ValueError::Length)),
            (text(Charset::Unicode), "a\n", Err(ValueError::Character)),
            (text(Charset::Ascii), "商户", Err(ValueError::Character)),
            (text(Charset::Digits), "01", Ok("01")),
            (text(Charset::Digits), "٣٣", Err(ValueError::Character)),
            (text(Charset::Hexadecimal), "0aFf", Ok("0AFF")),
            (text(Charset::Hexadecimal), "0aF", Err(ValueError::Length)),
            (number.clone(), " 007 ", Ok("7")),
            (number.clone(), "-6", Err(ValueError::Range)),
            (number.clone(), "1e1", Err(ValueError::Form)),
            (number, "99999999999999999999", Err(ValueError::Form)),
            (AMOUNT, "12.5", Ok("1250")),
            (AMOUNT, "12", Ok("1200")),
            (AMOUNT, "0.05", Ok("5")),
            (AMOUNT, "12.505", Err(ValueError::Form)),
            (AMOUNT, "12.", Err(ValueError::Form)),
            (AMOUNT, "-1", Err(ValueError::Form)),
            (AMOUNT, "10000.01", Err(ValueError::Range)),
            (Kind::Boolean, "1", Ok("true")),
            (Kind::Boolean, "yes", Err(ValueError::Form)),
            (choice.clone(), "tcp", Ok("tcp")),
            (choice, "TCP", Err(ValueError::Option)),
            (Kind::Telephone, "9,,(021) 5555-0123", Ok("9,,02155550123")),
            (Kind::Telephone, ",5555", Err(ValueError::Form)),
            (Kind::Telephone, "5555ATH", Err(ValueError::Form)),
            (Kind::Endpoint, "TMS.Example.com:9000", Ok("tms.example.com:9000")),
            (Kind::Endpoint, "192.0.2.7:9000", Ok("192.0.2.7:9000")),
            (Kind::Endpoint, "192.0.2.256:9000", Err(ValueError::Form)),
            (Kind::Endpoint, "[2001:DB8:0::7]:9000", Ok("[2001:db8::7]:9000")),
            (Kind::Endpoint, "host:0", Err(ValueError::Range)),
            (Kind::Endpoint, "host:65536", Err(ValueError::Range)),
            (Kind::Endpoint, "host:+80", Err(ValueError::Form)),
            (Kind::Endpoint, "a..b:80", Err(ValueError::Form)),
            (Kind::Endpoint, "host", Err(ValueError::Form)),
            (Kind::Date, "2028-02-29", Ok("2028-02-29")),
            (Kind::Date, "2026-02-29", Err(ValueError::Form)),
            (Kind::Date, "2026-11-22T10:00", Err(ValueError::Form)),
            (Kind::Time, "23:30", Ok("23:30:00")),
            (Kind::Time, "24:00", Err(ValueError::Range)),
            (Kind::Time, "1:30", Err(ValueError::Form)),
            (Kind::Time, "01:30:00:00", Err(ValueError::Form)),
            (Kind::Secret, "1234", Err(ValueError::Clear)),
        ] {
            assert_eq!(
                kind.read(text).as_deref(),
                form.as_ref().map(|form| *form),
                "{kind:?} {text}"
            );
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let sealed = Sealed {
            sealed: "hunter2".to_owned(),
            fingerprint: Digest::of(b"key"),
            key: 1,
        };
        assert_eq!(format!("{:?}", Value::Sealed(sealed)), "Sealed(Sealed)");
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in "[-0-9a-fA-F:.,\\[\\] ]{0,40}|.{0,20}|[0-9]{4}-[0-9]{2}-[0-9]{2}") {
            for kind in [
                Kind::Text { min: 0, max: 30, charset: Charset::Hexadecimal },
                Kind::Text { min: 0, max: 30, charset: Charset::Unicode },
                Kind::Integer { min: i64::MIN, max: i64::MAX },
                Kind::Amount { max: u64::MAX, decimals: 0 },
                Kind::Boolean,
                Kind::Telephone,
                Kind::Endpoint,
                Kind::Date,
                Kind::Time,
            ] {
                if let Ok(form) = kind.read(&text) {
                    prop_assert_eq!(kind.read(&form), Ok(form.clone()), "{:?}", kind);
                }
            }
        }
    }
}
