//! Text messages for terminals: lengths, characters, validity, and wording that asks for a secret.

mod wording;

use super::name::is_invisible;
use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tms_proto::message::Capabilities;
use wording::secret;

/// The most characters of a title, on any terminal (§7.7).
pub const MAX_TITLE: u16 = 64;

/// The most characters of a body, on any terminal (§7.7).
pub const MAX_BODY: u16 = 256;

/// The longest validity, in seconds: 400 days.
const MAX_VALIDITY: u64 = 400 * 86_400;

/// A message, as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Title: 1 to 64 characters.
    pub title: String,
    /// Body: 1 to 256 characters.
    pub body: String,
    /// Print it; otherwise display it.
    #[serde(default)]
    pub print: bool,
    /// The merchant has to confirm it with a key.
    #[serde(default)]
    pub confirm: bool,
    /// Not delivered before, in seconds since 1970 UTC.
    pub from: u64,
    /// Shown until then.
    pub until: u64,
}

/// What a model can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The most characters of a title.
    pub title: u16,
    /// The most characters of a body.
    pub body: u16,
    /// Character sets, by their IANA names: a message has to fit one of them. None: ASCII.
    pub charsets: Vec<String>,
    /// It has a display.
    pub display: bool,
    /// It has a printer.
    pub printer: bool,
}

impl Default for Profile {
    /// A display that shows ASCII, and no printer.
    fn default() -> Self {
        Self {
            title: MAX_TITLE,
            body: MAX_BODY,
            charsets: Vec::new(),
            display: true,
            printer: false,
        }
    }
}

impl From<&Capabilities> for Profile {
    /// What a terminal reports of itself. One that does not say whether it has a display has one.
    fn from(capabilities: &Capabilities) -> Self {
        Self {
            charsets: capabilities.charsets.clone(),
            display: capabilities.display_columns != Some(0),
            printer: capabilities.printer_columns.is_some_and(|columns| columns > 0),
            ..Self::default()
        }
    }
}

/// Which part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The title.
    Title,
    /// The body.
    Body,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing is in it.
    #[error("{0:?} is empty")]
    Empty(Part),
    /// It is longer than it may be, or than the model shows.
    #[error("{part:?} has {length} characters, and {most} are the most")]
    Long {
        /// Which part.
        part: Part,
        /// How long it is, in characters.
        length: usize,
        /// How long it may be.
        most: u16,
    },
    /// A control character, a line break among them, or one that cannot be seen or turns the direction of writing.
    #[error("{0:?} has the character {1:?}, which cannot be shown")]
    Control(Part, char),
    /// A character that the model has not got.
    #[error("{0:?} has the character {1:?}, which the model has not got")]
    Charset(Part, char),
    /// It speaks of a secret. All the same whether it asks for it: a terminal is where people expect to be asked.
    #[error("the wording speaks of a secret: {0}")]
    Secret(&'static str),
    /// It ends before it begins, or more than 400 days after.
    #[error("not valid for 1 second to 400 days")]
    Validity,
    /// It is to be printed, and there is no printer, or shown, and there is no display.
    #[error("the model has no {0}")]
    Output(&'static str),
}

impl Message {
    /// Checks all that holds for every terminal.
    ///
    /// # Errors
    /// [`TextError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TextError> {
        if self.until <= self.from || self.until - self.from > MAX_VALIDITY {
            return Err(TextError::Validity);
        }
        for (part, text, most) in self.parts(MAX_TITLE, MAX_BODY) {
            sized(part, text, most)?;
            if text.trim().is_empty() {
                return Err(TextError::Empty(part));
            }
            let hidden = |letter: &char| {
                letter.is_control() || is_invisible(*letter) || matches!(letter, '\u{2028}' | '\u{2029}')
            };
            if let Some(letter) = text.chars().find(hidden) {
                return Err(TextError::Control(part, letter));
            }
        }
        // What is divided between title and body is read together.
        for text in [&self.title, &self.body, &format!("{} {}", self.title, self.body)] {
            if let Some(word) = secret(text) {
                return Err(TextError::Secret(word));
            }
        }
        Ok(())
    }

    /// Checks that a model can show it; beside [`check`](Self::check).
    ///
    /// # Errors
    /// [`TextError`] with the first thing that is wrong.
    pub fn fits(&self, profile: &Profile) -> Result<(), TextError> {
        match self.print {
            true if !profile.printer => return Err(TextError::Output("printer")),
            false if !profile.display => return Err(TextError::Output("display")),
            _ => {}
        }
        for (part, text, most) in self.parts(profile.title, profile.body) {
            sized(part, text, most)?;
        }
        // One set has to have all of it: terminals do not change it within a message.
        let missing = |charset: &str| {
            let parts = self.parts(0, 0).into_iter();
            parts
                .filter_map(|(part, text, _)| Some((part, lacking(charset, text)?)))
                .next()
        };
        let mut first = None;
        for charset in profile.charsets.iter().map(String::as_str).chain(["us-ascii"]) {
            match missing(charset) {
                None => return Ok(()),
                Some(lacks) => first = first.or(Some(lacks)),
            }
        }
        first.map_or(Ok(()), |(part, letter)| Err(TextError::Charset(part, letter)))
    }

    /// Whether it is to be delivered at this time.
    #[must_use]
    pub const fn is_valid(&self, now: u64) -> bool {
        self.from <= now && now < self.until
    }

    fn parts(&self, title: u16, body: u16) -> [(Part, &str, u16); 2] {
        [(Part::Title, &self.title, title), (Part::Body, &self.body, body)]
    }
}

fn sized(part: Part, text: &str, most: u16) -> Result<(), TextError> {
    // Each character is four bytes at most: what is far too long is not counted.
    let length = if text.len() > 65_536 {
        text.len()
    } else {
        text.chars().count()
    };
    if length > usize::from(most) {
        return Err(TextError::Long { part, length, most });
    }
    Ok(())
}

/// The first character that a character set has not got; of an unknown set everything but ASCII.
fn lacking(charset: &str, text: &str) -> Option<char> {
    let charset = charset.to_ascii_lowercase();
    let latin = charset == "iso-8859-1" || charset == "latin1";
    let encoding = match charset.as_str() {
        "us-ascii" | "ascii" | "iso-8859-1" | "latin1" => None,
        other => Encoding::for_label(other.as_bytes()),
    };
    let has = |letter: char| {
        let mut bytes = [0; 4];
        letter.is_ascii()
            || latin && matches!(letter, '\u{a0}'..='\u{ff}')
            || encoding.is_some_and(|encoding| !encoding.encode(letter.encode_utf8(&mut bytes)).2)
    };
    text.chars().find(|letter| !has(*letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(title: &str, body: &str) -> Message {
        Message {
            title: title.to_owned(),
            body: body.to_owned(),
            print: false,
            confirm: false,
            from: 1_000,
            until: 2_000,
        }
    }

    #[test]
    fn wording_that_asks_for_a_secret_is_refused() {
        for body in [
            "Please enter your PIN",
            "pin?",
            "PIN: ____",
            "P I N",
            "P.I.N.",
            "p-i-n please",
            "PI N",
            "EnterPIN",
            "Enter P1N",
            "PIN1234",
            "РIN", // Cyrillic Р
            "ΡΙΝ", // Greek
            "рin", // Cyrillic р
            "ＰＩＮ",
            "ⓟⓘⓝ",
            "🅿🅸🅽",
            "🇵🇮🇳",
            "P\u{301}i\u{308}n\u{303}",
            "ṗíñ",
            "𝐏𝐈𝐍",
            "p|n",
            "p!n",
            "PIN pad: now enter PIN",
            "Your pass word",
            "passw0rd",
            "p a s s w o r d",
            "CVV2",
            "请输入密码",
            "请输入 密 码",
            "請輸入密碼",
            "密-码",
            "请输入交易密\u{3000}码",
            "验证码是多少",
            "Geheimzahl eingeben",
            "Tapez votre code secret",
            "Saisissez votre code confidentiel",
            "Ingrese su NIP",
            "Introduzca su contraseña",
            "Introduzca su clave",
            "Digite sua senha",
            "Введите ПИН-код",
            "Введите пароль",
            "暗証番号を入力してください",
            "비밀번호를 입력하세요",
            "şifrenizi girin: şifre",
        ] {
            let result = message("Notice", body).check();
            assert!(matches!(result, Err(TextError::Secret(_))), "{body}: {result:?}");
        }
        // Divided between title and body.
        assert!(matches!(message("Enter P", "IN").check(), Err(TextError::Secret(_))));
        assert!(matches!(message("请输入密", "码").check(), Err(TextError::Secret(_))));
    }

    #[test]
    fn ordinary_wording_is_not() {
        for body in [
            "Please settle before 22:00.",
            "Shopping festival: opening at 9",
            "Spinning wheel, opinion, pineapple, pink, napkin",
            "The PIN pad will be replaced on Monday",
            "密码键盘将于周一更换",
            "系统将于今晚22:00升级，请提前结算。",
            "Drop in at the branch. Nipple, snip, turnip",
            "Mise à jour cette nuit à 3 h",
            "Обновление сегодня ночью",
            "Call 400-820-0000 for help",
            "New tariff 2026: 0.38 %",
        ] {
            assert_eq!(message("通知 Notice", body).check(), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_refused() {
        for letter in [
            '\n', '\0', '\u{1b}', '\u{200b}', '\u{202e}', '\u{ad}', '\u{2028}', '\u{fe0f}',
        ] {
            let body = format!("P{letter}IN");
            assert_eq!(message("a", &body).check(), Err(TextError::Control(Part::Body, letter)));
        }
    }

    #[test]
    fn lengths_and_validity() {
        assert_eq!(message("a", "b").check(), Ok(()));
        assert_eq!(message("a", " ").check(), Err(TextError::Empty(Part::Body)));
        assert_eq!(message(&"题".repeat(64), &"文".repeat(256)).check(), Ok(()));
        let long = |part, length, most| Err(TextError::Long { part, length, most });
        assert_eq!(message(&"a".repeat(65), "b").check(), long(Part::Title, 65, 64));
        assert_eq!(message("a", &"b".repeat(257)).check(), long(Part::Body, 257, 256));
        assert_eq!(
            message("a", &"b".repeat(1_000_000)).check(),
            long(Part::Body, 1_000_000, 256)
        );
        for (from, until) in [(5, 5), (6, 5), (0, MAX_VALIDITY + 1)] {
            let message = Message {
                from,
                until,
                ..message("a", "b")
            };
            assert_eq!(message.check(), Err(TextError::Validity));
        }
        let valid = message("a", "b");
        assert!(!valid.is_valid(999) && valid.is_valid(1_000) && !valid.is_valid(2_000));
    }

    #[test]
    fn models_show_what_they_can() {
        let with = |charsets: &[&str]| Profile {
            charsets: charsets.iter().map(|charset| (*charset).to_owned()).collect(),
            ..Profile::default()
        };
        let chinese = message("通知", "今晚升级");
        assert_eq!(chinese.fits(&with(&["GBK"])), Ok(()));
        assert_eq!(chinese.fits(&with(&["GB18030"])), Ok(()));
        assert_eq!(chinese.fits(&with(&["UTF-8"])), Ok(()));
        for charsets in [&[][..], &["ISO-8859-1"], &["no such set"]] {
            assert_eq!(
                chinese.fits(&with(charsets)),
                Err(TextError::Charset(Part::Title, '通'))
            );
        }
        let mixed = message("Größe", "尺寸");
        assert_eq!(
            mixed.fits(&with(&["ISO-8859-1", "GB2312"])),
            Err(TextError::Charset(Part::Body, '尺'))
        );
        assert_eq!(mixed.fits(&with(&["ISO-8859-1", "GB18030"])), Ok(()));
        assert_eq!(message("a", "b").fits(&with(&[])), Ok(()));
        let print = Message {
            print: true,
            ..message("a", "b")
        };
        assert_eq!(print.fits(&with(&[])), Err(TextError::Output("printer")));
        let short = Profile { body: 3, ..with(&[]) };
        assert!(matches!(
            message("a", "four").fits(&short),
            Err(TextError::Long { most: 3, .. })
        ));
        let reported = Profile::from(&Capabilities {
            printer_columns: Some(32),
            charsets: vec!["GBK".to_owned()],
            ..Capabilities::default()
        });
        assert_eq!(Message { print: true, ..chinese }.fits(&reported), Ok(()));
    }

    proptest! {
        #[test]
        fn a_word_drawn_apart_is_the_same_word(word in proptest::sample::select(&["pin", "password", "密码", "口令", "пароль"][..]),
                                              mark in proptest::sample::select(&[" ", ".", "-", "_", "*", " - ", "·", "\u{3000}"][..])) {
            let apart: Vec<String> = word.chars().map(String::from).collect();
            let apart = apart.join(mark);
            prop_assert!(secret(&apart).is_some(), "{}", apart);
            let sentence = format!("now {} please", apart.to_uppercase());
            prop_assert!(secret(&sentence).is_some(), "{}", sentence);
        }

        #[test]
        fn any_text_is_judged(title in "\\PC{0,70}", body in ".{0,300}") {
            let message = message(&title, &body);
            if message.check().is_ok() {
                prop_assert!(!body.to_lowercase().split(' ').any(|word| word == "pin" || word == "password"));
                prop_assert!(body.chars().all(|letter| !letter.is_control()));
            }
        }
    }
}
