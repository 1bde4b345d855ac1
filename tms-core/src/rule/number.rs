//! Telephone numbers as lines tell them, terminals are configured with them and people write them, brought to one form.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// The most bytes of a number as it is written.
const MAX_INPUT: usize = 128;

/// The most digits of an international number (ITU-T E.164).
const MAX_DIGITS: usize = 15;

/// The most digits of an extension.
const MAX_EXTENSION: usize = 8;

/// What stands between a number and its extension.
const EXTENSION_MARKS: [&str; 9] = [";ext=", "extension", "ext.", "ext", "转分机", "分机", "转", "x", "#"];

/// How numbers are dialled and told where an access number stands. It is data: each access side has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DialPlan {
    /// The country code, without `+`.
    pub country: String,
    /// What is dialled before a country code.
    pub international: String,
    /// What is dialled before an area code; empty where nothing is.
    pub trunk: String,
    /// The area code of the place, without trunk prefix, for numbers that are told without one.
    pub area: Option<String>,
    /// How long area codes are, by how they begin; the first that fits counts, and an empty beginning fits all.
    pub areas: Vec<AreaRule>,
    /// The fewest and the most digits of a number within an area.
    pub local: (u8, u8),
    /// Mobile numbers, which have no area: how they begin, and how many digits they have.
    pub mobile: Vec<AreaRule>,
    /// What is dialled for an outside line; taken off where the rest is a number and the whole is none.
    pub outside: Vec<String>,
    /// What is dialled to choose a carrier, before everything else.
    pub carriers: Vec<String>,
}

/// Numbers that begin so are so long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaRule {
    /// How they begin.
    pub begins: String,
    /// How many digits.
    pub digits: u8,
}

impl Default for DialPlan {
    /// The numbers of mainland China, seen from no area.
    fn default() -> Self {
        let rule = |begins: &str, digits| AreaRule {
            begins: begins.to_owned(),
            digits,
        };
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            country: "86".to_owned(),
            international: "00".to_owned(),
            trunk: "0".to_owned(),
            area: None,
            areas: vec![rule("10", 2), rule("2", 2), rule("", 3)],
            local: (7, 8),
            mobile: vec![rule("1", 11)],
            outside: own(&["9", "0"]),
            carriers: own(&["17900", "17909", "17911", "17951", "12593", "193"]),
        }
    }
}

/// A number in its one form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Number {
    /// Country code and all that follows, digits only: up to 15.
    pub digits: String,
    /// The extension behind a private exchange, digits only. What a line tells has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.digits)?;
        match &self.extension {
            Some(extension) => write!(f, ";ext={extension}"),
            None => Ok(()),
        }
    }
}

/// Why a text is not a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NumberError {
    /// It has something else than digits in it, or too many of them.
    #[error("not a telephone number")]
    Form,
    /// It fits none of the plan's forms.
    #[error("a number of no known length")]
    Length,
    /// It is a number within an area, and it is not known in which.
    #[error("a local number, and the area is not known")]
    Area,
}

/// Numbers from the first to the last, both of them in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NumberRange {
    /// The first, in the digits of [`Number`].
    pub first: String,
    /// The last, with as many digits.
    pub last: String,
}

impl NumberRange {
    /// Whether the number is one of them. Extensions make no difference.
    #[must_use]
    pub fn contains(&self, number: &Number) -> bool {
        let same = |bound: &String| bound.len() == number.digits.len();
        same(&self.first) && same(&self.last) && self.first <= number.digits && number.digits <= self.last
    }
}

/// The numbers of one private exchange or one bundle of lines: a call from there may show any of them, and all are one
/// place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrunkGroup {
    /// Its name.
    pub name: String,
    /// Its numbers.
    pub ranges: Vec<NumberRange>,
}

impl TrunkGroup {
    /// Whether the number is one of it.
    #[must_use]
    pub fn contains(&self, number: &Number) -> bool {
        self.ranges.iter().any(|range| range.contains(number))
    }
}

impl DialPlan {
    /// The number in its one form.
    ///
    /// It may be written with separators, full-width, with a pause after the prefix of an outside line, with that prefix, a
    /// carrier's or a trunk prefix or without, with a country code or without, with an extension.
    ///
    /// # Errors
    /// [`NumberError`].
    pub fn number(&self, text: &str) -> Result<Number, NumberError> {
        if text.len() > MAX_INPUT {
            return Err(NumberError::Form);
        }
        let text: String = text.nfkc().flat_map(char::to_lowercase).collect();
        let text = text.trim();
        let text = text.strip_prefix("tel:").unwrap_or(text);
        // Codes of the exchange, such as that which withholds the own number, end in `#` before the number.
        let text = match text.strip_prefix('*').and_then(|code| code.split_once('#')) {
            Some((code, rest)) if code.len() <= 4 => rest,
            _ => text,
        };
        let marked = EXTENSION_MARKS
            .iter()
            .find_map(|mark| text.split_once(mark).filter(|(main, _)| !main.is_empty()));
        if let Some((main, digits)) = marked {
            return Ok(Number {
                digits: self.digits(main)?,
                extension: Some(extension(digits)?),
            });
        }
        let whole = self.digits(text).map(|digits| Number {
            digits,
            extension: None,
        });
        // `021-55501234-801`: a last group that is too much is an extension.
        match (whole, text.rsplit_once('-')) {
            (Err(error), Some((main, last))) if last.len() <= 5 => {
                let split = self.digits(main).and_then(|digits| {
                    Ok(Number {
                        digits,
                        extension: Some(extension(last)?),
                    })
                });
                split.map_err(|_| error)
            }
            (whole, _) => whole,
        }
    }

    fn digits(&self, main: &str) -> Result<String, NumberError> {
        // What is dialled before the last pause is for the own exchange.
        let main = main.trim_end_matches([',', 'p', 'w', ';']);
        let main = main.rsplit([',', 'p', 'w']).next().unwrap_or(main);
        let bare = bare(main)?;
        let digits = match bare.strip_prefix('+') {
            Some(digits) => digits.to_owned(),
            None => self.national(&bare)?,
        };
        if !(self.country.len() + 3..=MAX_DIGITS).contains(&digits.len()) {
            return Err(NumberError::Form);
        }
        let Some(national) = self.home(&digits) else {
            return Ok(digits);
        };
        // `+86 (0)21`: a trunk prefix behind a country code is not dialled from abroad, and yet is written.
        let trunk = Some(self.trunk.as_str()).filter(|trunk| !trunk.is_empty());
        let national = trunk.and_then(|trunk| national.strip_prefix(trunk)).unwrap_or(national);
        match self.is_national(national) {
            true => Ok(format!("{}{national}", self.country)),
            false => Err(NumberError::Length),
        }
    }

    /// The area code of a number of the plan's own country; `None` for a foreign one and for a mobile one.
    #[must_use]
    pub fn area<'a>(&self, number: &'a Number) -> Option<&'a str> {
        let national = self.home(&number.digits)?;
        if self.is_mobile(national) {
            return None;
        }
        national.get(..self.area_length(national)?)
    }

    fn home<'a>(&self, digits: &'a str) -> Option<&'a str> {
        digits.strip_prefix(self.country.as_str())
    }

    fn national(&self, dialled: &str) -> Result<String, NumberError> {
        if let Some(number) = self.complete(dialled) {
            return Ok(number);
        }
        let carriers = self
            .carriers
            .iter()
            .filter_map(|carrier| dialled.strip_prefix(carrier.as_str()));
        let outside = self
            .outside
            .iter()
            .filter_map(|prefix| dialled.strip_prefix(prefix.as_str()));
        if let Some(number) = carriers.chain(outside).find_map(|rest| self.complete(rest)) {
            return Ok(number);
        }
        let (fewest, most) = self.local;
        match (usize::from(fewest)..=usize::from(most)).contains(&dialled.len()) {
            true => Err(NumberError::Area),
            false => Err(NumberError::Length),
        }
    }

    /// Country code and number, where the digits are one of the plan's forms. The longest prefix first: what is dialled for
    /// another country begins like what is dialled for another area.
    fn complete(&self, dialled: &str) -> Option<String> {
        let prefixed = |prefix: &str| dialled.strip_prefix(prefix).filter(|_| !prefix.is_empty());
        if let Some(rest) = prefixed(&self.international).filter(|rest| (7..=MAX_DIGITS).contains(&rest.len())) {
            return Some(rest.to_owned());
        }
        let national = |rest: &str| format!("{}{rest}", self.country);
        if let Some(rest) = prefixed(&self.trunk).filter(|rest| self.is_national(rest)) {
            return Some(national(rest));
        }
        if self.is_mobile(dialled) {
            return Some(national(dialled));
        }
        let (fewest, most) = self.local;
        if (usize::from(fewest)..=usize::from(most)).contains(&dialled.len()) {
            return self
                .area
                .as_ref()
                .map(|area| format!("{}{area}{dialled}", self.country));
        }
        if self.is_national(dialled) {
            return Some(national(dialled));
        }
        // With a country code and nothing before it, as digital lines tell it.
        let rest = self.home(dialled).filter(|rest| self.is_national(rest))?;
        Some(national(rest))
    }

    fn is_national(&self, digits: &str) -> bool {
        let (fewest, most) = self.local;
        // No area code and no mobile number begins like a trunk prefix.
        if !self.trunk.is_empty() && digits.starts_with(&self.trunk) {
            return false;
        }
        self.is_mobile(digits)
            || self.area_length(digits).is_some_and(|area| {
                let local = digits.len().saturating_sub(area);
                (usize::from(fewest)..=usize::from(most)).contains(&local)
            })
    }

    fn is_mobile(&self, digits: &str) -> bool {
        let mut rules = self.mobile.iter();
        rules.any(|rule| digits.starts_with(&rule.begins) && digits.len() == usize::from(rule.digits))
    }

    fn area_length(&self, digits: &str) -> Option<usize> {
        let rule = self.areas.iter().find(|rule| digits.starts_with(&rule.begins))?;
        Some(usize::from(rule.digits))
    }
}

/// Digits, with `+` before them or not.
fn bare(text: &str) -> Result<String, NumberError> {
    let separator = |letter: char| {
        letter.is_whitespace() || matches!(letter, '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2015}')
    };
    let bare: String = text.chars().filter(|letter| !separator(*letter)).collect();
    let digits = bare.strip_prefix('+').unwrap_or(&bare);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { Ok(bare) } else { Err(NumberError::Form) }
}

fn extension(text: &str) -> Result<String, NumberError> {
    let extension = bare(text)?;
    match extension.len() <= MAX_EXTENSION && !extension.starts_with('+') {
        true => Ok(extension),
        false => Err(NumberError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shanghai() -> DialPlan {
        DialPlan {
            area: Some("21".to_owned()),
            ..DialPlan::default()
        }
    }

    #[test]
    fn one_line_has_one_number() {
        for text in [
            "+86 21 5555 0123",
            "+86(21)55550123",
            "+86 (0)21 55550123",
            "0086-21-55550123",
            "021-55550123",
            "(021) 5555-0123",
            "02155550123",
            "2155550123",
            "862155550123",
            "55550123",
            "9,55550123",
            "955550123",
            "0,021-55550123",
            "9p02155550123",
            "17909 021 55550123",
            "*67#02155550123",
            "tel:+86-21-5555-0123",
            "０２１－５５５５０１２３",
        ] {
            assert_eq!(
                shanghai().number(text).map(|number| number.to_string()).as_deref(),
                Ok("+862155550123"),
                "{text}"
            );
        }
        for (text, number) in [
            ("021-55550123-801", "+862155550123;ext=801"),
            ("021-55550123转801", "+862155550123;ext=801"),
            ("55550123 ext. 801", "+862155550123;ext=801"),
            ("02155550123#801", "+862155550123;ext=801"),
            ("+862155550123;ext=801", "+862155550123;ext=801"),
            ("13800138000", "+8613800138000"),
            ("013800138000", "+8613800138000"),
            ("+86 138-0013-8000", "+8613800138000"),
            ("010-12345678", "+861012345678"),
            ("0571 8765432", "+865718765432"),
            ("+1 212 555 0100", "+12125550100"),
            ("001 212 555 0100", "+12125550100"),
        ] {
            assert_eq!(
                shanghai().number(text).map(|number| number.to_string()).as_deref(),
                Ok(number),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let plan = DialPlan::default();
        assert_eq!(plan.number("55550123"), Err(NumberError::Area));
        for (text, error) in [
            ("", NumberError::Form),
            ("+", NumberError::Form),
            ("call me", NumberError::Form),
            ("12", NumberError::Length),
            ("+1234567890123456", NumberError::Form),
            ("021-55550123 ext 123456789", NumberError::Form),
            ("0215555\u{0663}123", NumberError::Form),
        ] {
            assert_eq!(plan.number(text), Err(error), "{text}");
        }
        assert_eq!(plan.number(&"1".repeat(1_000)), Err(NumberError::Form));
    }

    #[test]
    fn areas_and_groups_of_lines() {
        let plan = shanghai();
        let area = |text| {
            plan.number(text)
                .ok()
                .and_then(|number| plan.area(&number).map(str::to_owned))
        };
        assert_eq!(area("02155550123").as_deref(), Some("21"));
        assert_eq!(area("01012345678").as_deref(), Some("10"));
        assert_eq!(area("05718765432").as_deref(), Some("571"));
        assert_eq!((area("13800138000"), area("+12125550100")), (None, None));
        let group = TrunkGroup {
            name: "market hall".to_owned(),
            ranges: vec![NumberRange {
                first: "862155550100".to_owned(),
                last: "862155550199".to_owned(),
            }],
        };
        let inside = |text| group.contains(&plan.number(text).unwrap());
        assert!(inside("55550100") && inside("021-55550199-12") && !inside("55550200"));
        // As many digits, or it is another number.
        let longer = Number {
            digits: "8621555501001".to_owned(),
            extension: None,
        };
        assert!(!group.contains(&longer));
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in "[+0-9 (),#*xp-]{0,24}|0[0-9]{9,11}|\\PC{0,20}") {
            for plan in [shanghai(), DialPlan::default()] {
                if let Ok(number) = plan.number(&text) {
                    prop_assert!((4..=MAX_DIGITS).contains(&number.digits.len()));
                    prop_assert_eq!(plan.number(&number.to_string()), Ok(number));
                }
            }
        }
    }
}
