//! What an engine is told of its modem and its telephone line.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// How a modem is set up, and how long things take with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Commands that set it up, in order, each in a line of its own. Each may fail: modems differ.
    pub commands: Vec<Command>,
    /// Dial with tones rather than with pulses.
    pub tone: bool,
    /// Rings after which a call may be answered. Who calls is told between the first and the second.
    pub answer_rings: u32,
    /// How long things take.
    pub timing: Timing,
}

impl Default for Profile {
    fn default() -> Self {
        let commands = [
            // The profile that somebody stored, then the factory's: what is not said below is at least known.
            "Z", "&F", "X4", "&C1", "&D2", "S0=0", "S7=60", "S10=14", "&K3", "\\N3", "+VCID=1", "#CID=1",
        ];
        Self {
            commands: commands.map(|text| Command(text.to_owned())).to_vec(),
            tone: true,
            answer_rings: 2,
            timing: Timing::default(),
        }
    }
}

/// How long things take with a modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// DTR stays low so long for a hang-up.
    pub dtr: Duration,
    /// A modem is left alone so long after DTR was raised, or after its reset.
    pub settle: Duration,
    /// Between an answer and the next command.
    pub gap: Duration,
    /// For the answer to the command that asks whether anybody is there.
    pub attention: Duration,
    /// For the answer to any other command.
    pub reply: Duration,
    /// For a second word where the first, `NO CARRIER`, may be all that comes.
    pub afterword: Duration,
    /// Silence around `+++`.
    pub guard: Duration,
    /// From dialling or answering to the connection, pauses in the number not counted.
    pub connect: Duration,
    /// What a comma in a number waits.
    pub pause: Duration,
    /// Without a ring for so long, the caller has hung up.
    pub ring_gap: Duration,
    /// A call may be answered so long after its first ring, whatever else has come.
    pub answer_after: Duration,
    /// From the end of caller identification to answering, so that nothing is cut off.
    pub identified: Duration,
    /// `NO CARRIER` at the end of what was received means it when nothing follows for so long.
    pub quiet: Duration,
    /// An idle modem is asked so often whether it is still there.
    pub probe: Duration,
    /// How long to leave a modem alone that does not answer: at first, doubling.
    pub retry: Duration,
    /// And at most.
    pub longest_retry: Duration,
    /// How often the carrier is looked at.
    pub poll: Duration,
    /// A line is held so long after the end of a call, for what the modem has still to send.
    pub linger: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            dtr: Duration::from_secs(1),
            settle: Duration::from_millis(500),
            gap: Duration::from_millis(50),
            attention: Duration::from_secs(1),
            reply: Duration::from_secs(5),
            afterword: Duration::from_millis(500),
            guard: Duration::from_millis(1200),
            connect: Duration::from_secs(75),
            pause: Duration::from_secs(2),
            ring_gap: Duration::from_secs(8),
            answer_after: Duration::from_secs(4),
            identified: Duration::from_millis(300),
            quiet: Duration::from_secs(2),
            probe: Duration::from_secs(300),
            retry: Duration::from_secs(5),
            longest_retry: Duration::from_secs(300),
            poll: Duration::from_millis(200),
            linger: Duration::from_millis(500),
        }
    }
}

/// One command for a modem, without the `AT` before it: up to 40 printable characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Command(String);

/// What is to be dialled: digits, `*`, `#`, `A` to `D`, and the pauses that exchanges need. A comma waits some seconds, `W`
/// waits for a dial tone, `@` for silence, and `!` is a flash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DialString(String);

/// Text that is not fit for a modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// Not a command.
    #[error("not a modem command: 1 to 40 printable characters are needed, without the AT before them")]
    Command,
    /// Not a number.
    #[error("not a number to dial: 1 to 40 of 0-9, *, #, A-D and the pauses , W @ ! are needed")]
    Number,
}

const MAX: usize = 40;

impl Command {
    /// The command as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Command {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let fits = (1..=MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
        if fits && !text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("AT")) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::Command)
        }
    }
}

impl DialString {
    /// The number with what has to be dialled before it to get a line out.
    ///
    /// # Errors
    /// Where both together are too long.
    pub fn behind(&self, prefix: Option<&Self>) -> Result<Self, TextError> {
        match prefix {
            Some(prefix) => format!("{}{}", prefix.0, self.0).parse(),
            None => Ok(self.clone()),
        }
    }

    /// The number as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many pauses are in it.
    #[must_use]
    pub fn pauses(&self) -> u32 {
        let pauses = self.0.bytes().filter(|byte| matches!(byte, b',' | b'W' | b'@'));
        u32::try_from(pauses.count()).unwrap_or(u32::MAX)
    }
}

impl FromStr for DialString {
    type Err = TextError;

    /// Spaces, hyphens and parentheses are left out; a `+` stays with whoever knows what it stands for.
    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > 2 * MAX {
            return Err(TextError::Number);
        }
        let number: String = text
            .chars()
            .filter(|letter| !matches!(letter, ' ' | '-' | '(' | ')'))
            .map(|letter| letter.to_ascii_uppercase())
            .collect();
        let fits = number
            .chars()
            .all(|letter| matches!(letter, '0'..='9' | '*' | '#' | 'A'..='D' | ',' | 'W' | '@' | '!'));
        if fits && (1..=MAX).contains(&number.len()) {
            Ok(Self(number))
        } else {
            Err(TextError::Number)
        }
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(Command, DialString);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_numbers_cannot_carry_others() {
        for bad in ["", "AT&F", "at", "X4\r", "H\nATD1", "\u{e9}", &"X".repeat(41)] {
            assert_eq!(bad.parse::<Command>(), Err(TextError::Command), "{bad:?}");
        }
        assert!("+MS=V22B,0,1200,1200".parse::<Command>().is_ok());
        for bad in ["", "5551234;", "555\rATH", "+49", "555;H", "T1", &"1".repeat(41)] {
            assert_eq!(bad.parse::<DialString>(), Err(TextError::Number), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_dialled_behind_their_prefix() {
        let number: DialString = "(021) 555-12 34".parse().unwrap();
        let prefix: DialString = "9,w".parse().unwrap();
        let whole = number.behind(Some(&prefix)).unwrap();
        assert_eq!((whole.as_str(), whole.pauses()), ("9,W0215551234", 2));
        assert_eq!(number.behind(None).unwrap(), number);
        let long: DialString = "1".repeat(39).parse().unwrap();
        assert_eq!(long.behind(Some(&prefix)), Err(TextError::Number));
    }

    #[test]
    fn the_profile_that_comes_with_it_is_made_of_commands() {
        for command in Profile::default().commands {
            assert_eq!(command.as_str().parse::<Command>(), Ok(command));
        }
    }
}
