//! What terminals are called: vendors, models and serial numbers as people and business systems write them, brought to one
//! form, so that one terminal has one name.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;
use tms_proto::identity::Holder;
use unicode_normalization::UnicodeNormalization;

/// The most characters of a vendor, a model or a serial number.
pub const MAX: usize = 40;

/// Longer input is refused before anything is done with it, in bytes.
const MAX_INPUT: usize = 256;

/// What stands before a serial number and is not part of it, folded.
const LABELS: [&str; 9] = [
    "SERIALNUMBER",
    "SERIALNO",
    "SERIAL",
    "产品序列号",
    "机身序列号",
    "序列号",
    "机身号",
    "S/N",
    "SN",
];

/// Vendors and models with the other names that they go by. It is data: an estate has its own, and may begin with
/// [`Aliases::known`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Aliases {
    /// The vendors.
    pub vendors: Vec<Vendor>,
}

/// A vendor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Vendor {
    /// The name that the estate uses.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// What people write before this vendor's serial numbers and is not part of them, beside the vendor's own names.
    pub serial_prefixes: Vec<String>,
    /// Its models.
    pub models: Vec<Model>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// The name that the estate uses.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
}

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// It has more than 40 characters.
    #[error("{0} is longer than {MAX} characters")]
    Long(&'static str),
    /// A serial number with a character that is no letter of `A` to `Z` and no digit, or a name with one that cannot be printed.
    #[error("{0} has a character that it cannot have: {1:?}")]
    Character(&'static str, char),
    /// The table gives one name to two vendors, or to two models of one vendor.
    #[error("{name:?} means both {first:?} and {second:?}")]
    Ambiguous {
        /// The name, folded.
        name: String,
        /// What it means.
        first: String,
        /// What it means as well.
        second: String,
    },
}

impl Aliases {
    /// Names that are used in the field. An estate adds its own.
    #[must_use]
    pub fn known() -> Self {
        let vendor = |name: &str, aliases: &[&str], models: &[(&str, &[&str])]| Vendor {
            name: name.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            serial_prefixes: Vec::new(),
            models: models
                .iter()
                .map(|(name, aliases)| Model {
                    name: (*name).to_owned(),
                    aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
                })
                .collect(),
        };
        Self {
            vendors: vec![
                vendor(
                    "PAX",
                    &["百富", "百富计算机", "PAX Technology", "Pax Global"],
                    &[
                        ("P80", &["PAX P80", "百富 P80"]),
                        ("S80", &[]),
                        ("S90", &[]),
                        ("A920", &[]),
                        ("D210", &[]),
                    ],
                ),
                vendor(
                    "Verifone",
                    &["惠尔丰", "VeriFone Inc", "VFI"],
                    &[
                        ("Vx510", &["Verifone Vx510", "惠尔丰 Vx510"]),
                        ("Vx520", &[]),
                        ("Vx680", &[]),
                        ("Vx820", &[]),
                    ],
                ),
                vendor(
                    "Nexgo",
                    &["新国都", "新国都技术", "XGD", "Xinguodu"],
                    &[("K301FZ", &["K301-FZ", "新国都 K301FZ"]), ("K301", &[]), ("G810", &[])],
                ),
                vendor(
                    "Landi",
                    &["联迪", "联迪商用", "Fujian Landi"],
                    &[("E350", &[]), ("E550", &[]), ("APOS A8", &["A8"])],
                ),
                vendor("Newland", &["新大陆", "新大陆支付"], &[("SP60", &[]), ("GP730", &[])]),
                vendor(
                    "Ingenico",
                    &["银捷尼科", "Sagem Ingenico"],
                    &[("iCT220", &[]), ("iWL250", &[]), ("Move5000", &["Move/5000"])],
                ),
                vendor(
                    "Castles",
                    &["虹堡", "Castles Technology"],
                    &[("VEGA3000", &["Vega 3000"])],
                ),
            ],
        }
    }

    /// Checks that no name means two things; for tables that operators edit.
    ///
    /// # Errors
    /// [`NameError::Ambiguous`] with the first that does, [`NameError::Empty`] for a name of which nothing is left.
    pub fn check(&self) -> Result<(), NameError> {
        let vendors = self.vendors.iter();
        distinct("vendor", vendors.map(|vendor| (&vendor.name, &vendor.aliases)))?;
        for vendor in &self.vendors {
            distinct("model", vendor.models.iter().map(|model| (&model.name, &model.aliases)))?;
        }
        Ok(())
    }

    /// The vendor that is called so, or `None` where the table has none.
    #[must_use]
    pub fn vendor(&self, text: &str) -> Option<&Vendor> {
        let wanted = folded(text)?;
        let mut vendors = self.vendors.iter();
        vendors.find(|vendor| means(&vendor.name, &vendor.aliases, &wanted))
    }

    /// Vendor, model and serial number in the form that the estate uses. What the table does not know is kept as it is
    /// written, tidied: new models come every month.
    ///
    /// # Errors
    /// [`NameError`] where a part is empty, too long, or has characters that it cannot have.
    pub fn holder(&self, vendor: &str, model: &str, serial: &str) -> Result<Holder, NameError> {
        let known = self.vendor(vendor);
        let vendor = match known {
            Some(known) => known.name.clone(),
            None => tidy("vendor", vendor)?,
        };
        let model = match known.and_then(|known| known.model(model)) {
            Some(model) => model.name.clone(),
            None => tidy("model", model)?,
        };
        let serial = match known {
            Some(known) => known.serial(serial)?,
            None => self::serial(serial)?,
        };
        Ok(Holder { vendor, model, serial })
    }
}

impl Vendor {
    /// The model that is called so, with or without the vendor's name before it, or `None` where the table has none.
    #[must_use]
    pub fn model(&self, text: &str) -> Option<&Model> {
        let wanted = folded(text)?;
        let find = |wanted: &str| {
            let mut models = self.models.iter();
            models.find(|model| means(&model.name, &model.aliases, wanted))
        };
        find(&wanted).or_else(|| {
            let mut names = self.names();
            names.find_map(|name| find(wanted.strip_prefix(&name)?))
        })
    }

    /// A serial number of this vendor; see [`serial`]. The vendor's own names, and its `serial_prefixes`, are taken off the
    /// front where a digit follows: `PAX-30012345` is `30012345`.
    ///
    /// # Errors
    /// As [`serial`].
    pub fn serial(&self, text: &str) -> Result<String, NameError> {
        let bounded = bounded("serial number", text)?;
        let mut rest = unlabelled(&fold(bounded)).to_owned();
        let prefixes: Vec<String> = self
            .names()
            .chain(self.serial_prefixes.iter().map(|prefix| fold(prefix)))
            .collect();
        // Each turn takes something off.
        while let Some(shorter) = prefixes.iter().find_map(|prefix| before_digit(&rest, prefix)) {
            rest = unlabelled(shorter).to_owned();
        }
        canonical(&rest)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.name).chain(&self.aliases).map(|name| fold(name))
    }
}

/// A serial number in its one form: letters `A` to `Z` and digits, 1 to 40 of them. Case, spaces, dashes, dots, full-width
/// forms and invisible characters make no difference, and a label before it (`S/N:`, `序列号`) is left out. Leading zeros
/// count: two terminals may differ by them.
///
/// # Errors
/// [`NameError`] where nothing is left, too much, or something else.
pub fn serial(text: &str) -> Result<String, NameError> {
    canonical(unlabelled(&fold(bounded("serial number", text)?)))
}

/// Two names are the same where these are: compatibility forms as their ordinary ones, upper case, without spaces,
/// punctuation that people put in or leave out, and what cannot be seen. A slash stays, for [`LABELS`]; models lose it.
fn fold(text: &str) -> String {
    text.nfkc()
        .flat_map(char::to_uppercase)
        .filter(|letter| !is_filler(*letter))
        .nfkc()
        .collect()
}

/// A name of bounded length, folded whole; `None` where nothing is left of it or it is too long to be one.
fn folded(text: &str) -> Option<String> {
    let folded = fold(bounded("name", text).ok()?);
    let folded = folded.replace('/', "");
    (!folded.is_empty()).then_some(folded)
}

fn bounded<'a>(what: &'static str, text: &'a str) -> Result<&'a str, NameError> {
    if text.len() > MAX_INPUT {
        return Err(NameError::Long(what));
    }
    Ok(text)
}

fn is_filler(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || is_invisible(letter)
        || is_dash(letter)
        || matches!(letter, '.' | '_' | '·' | '\'' | '(' | ')')
}

/// Format characters: joiners, direction marks, the byte order mark, the soft hyphen.
pub(crate) const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

const fn is_dash(letter: char) -> bool {
    matches!(
        letter,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30fc}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// Without the label before it. `SN` alone is one only where something that is no part of a number follows, or nothing but
/// digits: serial numbers may begin with these letters.
fn unlabelled(folded: &str) -> &str {
    const MARKS: [char; 3] = [':', '#', '='];
    let mut rest = folded.trim_start_matches(MARKS);
    while let Some(next) = LABELS.iter().find_map(|label| {
        let after = rest.strip_prefix(label)?;
        let bare = after.trim_start_matches(MARKS);
        let certain = bare.len() < after.len() || label.len() > 2;
        (certain && !bare.is_empty()).then_some(bare)
    }) {
        rest = next;
    }
    rest
}

fn before_digit<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    let rest = rest.trim_start_matches([':', '#', '=', '/']);
    rest.starts_with(|first: char| first.is_ascii_digit()).then_some(rest)
}

fn canonical(text: &str) -> Result<String, NameError> {
    const WHAT: &str = "serial number";
    if text.is_empty() {
        return Err(NameError::Empty(WHAT));
    }
    if let Some(other) = text.chars().find(|letter| !letter.is_ascii_alphanumeric()) {
        return Err(NameError::Character(WHAT, other));
    }
    if text.len() > MAX {
        return Err(NameError::Long(WHAT));
    }
    Ok(text.to_owned())
}

/// As it is written, in its ordinary forms and with single spaces.
fn tidy(what: &'static str, text: &str) -> Result<String, NameError> {
    let text: String = bounded(what, text)?
        .nfkc()
        .filter(|letter| !is_invisible(*letter))
        .collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(control) = text.chars().find(|letter| letter.is_control()) {
        return Err(NameError::Character(what, control));
    }
    match text.chars().count() {
        0 => Err(NameError::Empty(what)),
        1..=MAX => Ok(text),
        _ => Err(NameError::Long(what)),
    }
}

fn means(name: &str, aliases: &[String], wanted: &str) -> bool {
    std::iter::once(name)
        .chain(aliases.iter().map(String::as_str))
        .any(|name| folded(name).is_some_and(|name| name == wanted))
}

fn distinct<'a>(
    what: &'static str,
    entries: impl Iterator<Item = (&'a String, &'a Vec<String>)>,
) -> Result<(), NameError> {
    let mut seen = BTreeMap::<String, &str>::new();
    for (name, aliases) in entries {
        for alias in std::iter::once(name).chain(aliases) {
            let alias = folded(alias).ok_or(NameError::Empty(what))?;
            match seen.get(&alias) {
                Some(first) if *first != name.as_str() => {
                    return Err(NameError::Ambiguous {
                        name: alias,
                        first: (*first).to_owned(),
                        second: name.clone(),
                    });
                }
                _ => seen.insert(alias, name),
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_known_table_is_sound() {
        Aliases::known().check().unwrap();
    }

    #[test]
    fn vendors_and_models_have_many_names() {
        let aliases = Aliases::known();
        for (vendor, model, name) in [
            ("PAX", "P80", "PAX/P80"),
            ("百富", "P80", "PAX/P80"),
            ("pax technology", "p-80", "PAX/P80"),
            ("ＰＡＸ", "Ｐ８０", "PAX/P80"),
            ("百富", "百富P80", "PAX/P80"),
            ("惠尔丰", "vx510", "Verifone/Vx510"),
            ("VERIFONE", "Verifone VX-510", "Verifone/Vx510"),
            ("新国都", "k301fz", "Nexgo/K301FZ"),
            ("xgd", "K301 FZ", "Nexgo/K301FZ"),
            ("  Some\u{a0} Maker ", "New  One", "Some Maker/New One"),
            ("PAX", "A35 Pro", "PAX/A35 Pro"),
        ] {
            let holder = aliases.holder(vendor, model, "1").unwrap();
            assert_eq!(format!("{}/{}", holder.vendor, holder.model), name, "{vendor} {model}");
        }
        assert!(aliases.vendor("").is_none() && aliases.vendor(" - ").is_none());
    }

    #[test]
    fn serial_numbers_have_one_form() {
        for text in [
            "3c-001-2345",
            "3C0012345",
            " ３Ｃ００１２３４５ ",
            "S/N: 3c001 2345",
            "SN:3C0012345",
            "sn# 3c0012345",
            "序列号：3C0012345",
            "机身号 3c.001.2345",
            "Serial No. 3C\u{200b}001\u{2011}2345",
        ] {
            assert_eq!(serial(text).as_deref(), Ok("3C0012345"), "{text}");
        }
        let aliases = Aliases::known();
        let pax = aliases.vendor("百富").unwrap();
        for text in ["PAX-30012345", "百富 30012345", "pax sn:30012345", "30012345"] {
            let text = text.replace("sn:", "");
            assert_eq!(pax.serial(&text).as_deref(), Ok("30012345"), "{text}");
        }
        // Letters that may be part of a number stay.
        assert_eq!(serial("SN12345").as_deref(), Ok("SN12345"));
        assert_eq!(pax.serial("PAXA1").as_deref(), Ok("PAXA1"));
        // Zeros count.
        assert_ne!(serial("00123"), serial("123"));
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        assert_eq!(serial(" - "), Err(NameError::Empty("serial number")));
        assert_eq!(serial("12*3"), Err(NameError::Character("serial number", '*')));
        assert_eq!(serial("百富12"), Err(NameError::Character("serial number", '百')));
        assert_eq!(serial(&"1".repeat(41)), Err(NameError::Long("serial number")));
        assert_eq!(serial(&" ".repeat(9999)), Err(NameError::Long("serial number")));
        assert_eq!(
            Aliases::known().holder("PAX", "\u{200b}", "1"),
            Err(NameError::Empty("model"))
        );
    }

    #[test]
    fn a_name_with_two_meanings_is_found() {
        let mut aliases = Aliases::known();
        aliases.vendors[1].aliases.push("p.a.x".to_owned());
        assert_eq!(
            aliases.check(),
            Err(NameError::Ambiguous {
                name: "PAX".to_owned(),
                first: "PAX".to_owned(),
                second: "Verifone".to_owned()
            })
        );
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in "(S/N|SN:|PAX|百富|sn)?[ -]?[0-9a-zA-Z０-９Ａ-ｚ .-]{0,20}") {
            let aliases = Aliases::known();
            let pax = aliases.vendor("PAX").unwrap();
            if let Ok(once) = serial(&text) {
                prop_assert_eq!(serial(&once), Ok(once.clone()));
                prop_assert_eq!(serial(&text.to_lowercase()), Ok(once.clone()));
                prop_assert_eq!(serial(&format!(" {text} ")), Ok(once));
            }
            if let Ok(once) = pax.serial(&text) {
                prop_assert_eq!(pax.serial(&once), Ok(once));
            }
        }

        #[test]
        fn any_text_is_a_name_or_an_error(vendor in ".{0,60}", model in ".{0,60}", text in ".{0,60}") {
            let aliases = Aliases::known();
            if let Ok(holder) = aliases.holder(&vendor, &model, &text) {
                for part in [&holder.vendor, &holder.model, &holder.serial] {
                    prop_assert!((1..=MAX).contains(&part.chars().count()));
                }
                prop_assert!(holder.serial.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                prop_assert_eq!(aliases.holder(&holder.vendor, &holder.model, &holder.serial), Ok(holder.clone()));
            }
        }
    }
}
