//! What a modem says about a connection.

/// What is known of a connection that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connect {
    /// The number after `CONNECT`, in bits per second: that of the telephone line or that of the cable, as the modem likes.
    pub speed: Option<u32>,
    /// Bits per second of the telephone line, where that was told apart.
    pub carrier: Option<u32>,
    /// Whether the modems correct errors between them; `None` where nothing was said, which is not a no.
    pub error_corrected: Option<bool>,
}

impl Connect {
    /// Bits per second that the telephone line is believed to carry, on a port of `rate` bits per second: a number that is
    /// the port's own says nothing.
    #[must_use]
    pub fn line_rate(&self, rate: u32) -> Option<u32> {
        self.carrier.or_else(|| self.speed.filter(|speed| *speed < rate))
    }

    /// Reads what stands after `CONNECT`.
    pub(super) fn read(text: &str) -> Self {
        let mut connect = Self::default();
        for word in words(text) {
            connect.word(&word, true);
        }
        connect
    }

    /// Reads a line that some modems say before `CONNECT`. False where it is none.
    pub(super) fn detail(&mut self, line: &str) -> bool {
        let upper = line.to_ascii_uppercase();
        let after = |keys: &[&str]| keys.iter().find_map(|key| upper.strip_prefix(key));
        if let Some(text) = after(&["CARRIER ", "CARRIER:", "+MRR:", "+MCR:"]) {
            if let Some(rate) = words(text).find_map(|word| rate(&word)) {
                self.carrier.get_or_insert(rate);
            }
        } else if let Some(text) = after(&["PROTOCOL", "+ER:", "+ES:"]) {
            for word in words(text) {
                self.word(&word, false);
            }
        } else if let Some(text) = after(&["COMPRESSION", "+DR:"]) {
            // None compresses without correcting.
            if words(text).any(|word| word.starts_with("V42") || word.starts_with("V44") || word.starts_with("MNP")) {
                self.error_corrected = Some(true);
            }
        } else {
            return after(&["+ILRR:"]).is_some();
        }
        true
    }

    /// What was said before goes into what is said now.
    pub(super) fn merge(&mut self, before: Self) {
        self.carrier = before.carrier.or(self.carrier);
        self.error_corrected = match (before.error_corrected, self.error_corrected) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (before, now) => before.or(now),
        };
    }

    fn word(&mut self, word: &str, rates: bool) {
        let letters = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if let Some(rate) = rate(word).filter(|_| rates) {
            if self.speed.is_none() {
                self.speed = Some(rate);
            } else if letters.is_empty() {
                self.carrier.get_or_insert(rate);
            }
        }
        match letters {
            "ARQ" | "EC" | "REL" | "RELIABLE" | "ALT" => self.error_corrected = Some(true),
            "NONE" | "NOEC" | "NORMAL" | "DIRECT" => {
                self.error_corrected.get_or_insert(false);
            }
            letters
                if ["LAPM", "V42", "V44", "MNP"]
                    .iter()
                    .any(|name| letters.starts_with(name)) =>
            {
                self.error_corrected = Some(true);
            }
            _ => {}
        }
    }
}

/// Upper case, without full stops and hyphens: `V.42bis` is `V42BIS`.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split([' ', '/', ':', ',', '='])
        .map(|word| word.replace(['.', '-'], "").to_ascii_uppercase())
        .filter(|word| !word.is_empty())
}

/// The rate that a word begins with.
fn rate(word: &str) -> Option<u32> {
    let digits = word.len() - word.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let rate = word.get(..digits)?.parse().ok()?;
    (75..=4_000_000).contains(&rate).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_grammar_is_read() {
        for (text, speed, carrier, corrected) in [
            ("", None, None, None),
            ("9600", Some(9600), None, None),
            ("14400/ARQ", Some(14_400), None, Some(true)),
            ("38400/V.32bis 14400/V.42bis", Some(38_400), Some(14_400), Some(true)),
            ("38400/V42 SREJ", Some(38_400), None, Some(true)),
            ("57600/V34/LAPM/V42BIS/33600", Some(57_600), Some(33_600), Some(true)),
            ("57600/V34/LAPM/NONE/33600", Some(57_600), Some(33_600), Some(true)),
            ("57600/V34/NONE/NONE/33600", Some(57_600), Some(33_600), Some(false)),
            ("1200EC", Some(1200), None, Some(true)),
            ("2400/REL", Some(2400), None, Some(true)),
            ("1200TX/75RX", Some(1200), None, None),
            ("9600/NONE", Some(9600), None, Some(false)),
            ("31200 LAP-M", Some(31_200), None, Some(true)),
            ("99999999999999999999 1 2", None, None, None),
        ] {
            let expected = Connect {
                speed,
                carrier,
                error_corrected: corrected,
            };
            assert_eq!(Connect::read(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_before_it_are_read() {
        let read = |lines: &[&str], text| {
            let mut before = Connect::default();
            for line in lines {
                assert!(before.detail(line), "{line}");
            }
            let mut connect = Connect::read(text);
            connect.merge(before);
            connect
        };
        let lapm = ["CARRIER 14400", "PROTOCOL: LAPM", "COMPRESSION: NONE"];
        assert_eq!(
            read(&lapm, "57600"),
            Connect {
                speed: Some(57_600),
                carrier: Some(14_400),
                error_corrected: Some(true)
            }
        );
        let none = ["+MCR: V22B", "+MRR: 2400", "+ER: NONE", "+DR: NONE", "+ILRR: 57600"];
        assert_eq!(
            read(&none, "57600"),
            Connect {
                speed: Some(57_600),
                carrier: Some(2400),
                error_corrected: Some(false)
            }
        );
        assert_eq!(
            read(&["COMPRESSION: V.42bis", "PROTOCOL: NONE"], "").error_corrected,
            Some(true)
        );
        assert!(!Connect::default().detail("RING"));
    }

    #[test]
    fn the_rate_of_the_port_is_not_that_of_the_line() {
        let connect = |speed, carrier| Connect {
            speed,
            carrier,
            error_corrected: None,
        };
        assert_eq!(connect(Some(57_600), None).line_rate(57_600), None);
        assert_eq!(connect(Some(2400), None).line_rate(57_600), Some(2400));
        assert_eq!(connect(Some(57_600), Some(33_600)).line_rate(57_600), Some(33_600));
    }
}
