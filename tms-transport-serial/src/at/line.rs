//! Bytes from a modem, cut into lines.

/// The longest line that is kept, in bytes: unformatted caller identification has up to 516 hexadecimal digits.
pub const MAX_LINE: usize = 600;

/// Cuts what a modem says into lines.
///
/// A line ends with a carriage return or a line feed, whichever comes, so that all of `\r\nOK\r\n`, `OK\r`, `0\r` and `\r0\r`
/// are one line. The eighth bit is taken off, for modems that send parity. Other control characters are noise.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    line: String,
    /// The line is too long, and passed over.
    over: bool,
}

impl Lines {
    /// Takes one byte; gives the line that it ends, unless that is empty or was too long.
    pub fn push(&mut self, byte: u8) -> Option<String> {
        match byte & 0x7F {
            b'\r' | b'\n' => {
                let (line, over) = (std::mem::take(&mut self.line), std::mem::take(&mut self.over));
                let text = line.trim();
                (!over && !text.is_empty()).then(|| text.to_owned())
            }
            byte @ 0x20..=0x7E => {
                if self.line.len() < MAX_LINE {
                    self.line.push(char::from(byte));
                } else {
                    self.over = true;
                }
                None
            }
            _ => None,
        }
    }

    /// Forgets what was begun.
    pub fn clear(&mut self) {
        self.line.clear();
        self.over = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        bytes.iter().filter_map(|byte| lines.push(*byte)).collect()
    }

    #[test]
    fn every_way_to_end_a_line_is_one() {
        assert_eq!(lines(b"\r\nOK\r\n"), ["OK"]);
        assert_eq!(lines(b"\r0\r0\r"), ["0", "0"]);
        assert_eq!(
            lines(b"RING\rATE0V1Q0\r\r\nOK\r\n  \r\nnever ended"),
            ["RING", "ATE0V1Q0", "OK"]
        );
    }

    #[test]
    fn noise_and_parity_are_taken_off() {
        assert_eq!(lines(b"\x00\xFF\x07O\xCB\x8D\x0A"), ["OK"]);
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_no_meaning() {
        let mut bytes = vec![b'A'; 100_000];
        bytes.extend(b"\rOK\r");
        assert_eq!(lines(&bytes), ["OK"]);
        let longest = [&[b'A'; MAX_LINE][..], b"\r"].concat();
        assert_eq!(lines(&longest)[0].len(), MAX_LINE);
    }
}
