//! Caller identification, in the forms that modems have for it.
//!
//! All of it is the caller's to choose. What gets out is a [`CallerNumber`], which holds nothing but digits.

use tms_core::transport::{CallerNumber, PhoneNumber};

/// What a line of caller identification told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Who calls.
    pub caller: Option<CallerNumber>,
    /// The number that was called.
    pub called: Option<PhoneNumber>,
}

/// Names under which modems tell a number.
const NUMBER: &[&str] = &[
    "NMBR",
    "DDN_NMBR",
    "NBR",
    "CALLER NUMBER",
    "CALLER'S NUMBER",
    "CALLER ID",
    "CALLERID",
    "CID",
    "FM",
    "FROM",
    "DIVERTING NUMBER",
    "REASON FOR NO CALLER NUMBER",
    "RING",
];

/// Names of what belongs to it and is of no use here. Names of callers are not read: nothing needs them.
const OTHER: &[&str] = &[
    "TIME",
    "NAME",
    "CALLER NAME",
    "CALLER'S NAME",
    "REASON FOR NO CALLER NAME",
    "DDN_NAME",
];

/// Reads a line; `None` where it is not caller identification.
#[must_use]
pub fn read(line: &str) -> Option<Told> {
    let upper = line.to_ascii_uppercase();
    let (key, value) = upper.split_once(['=', ':', ';'])?;
    let (key, value) = (key.trim(), value.trim());
    if key == "+CLIP" {
        return Some(clip(value));
    }
    if key == "MESG" {
        return Some(hex(value).and_then(|bytes| message(&bytes)).unwrap_or_default());
    }
    if matches!(key, "CALLED NUMBER" | "TO") {
        return Some(Told {
            called: value.parse().ok(),
            ..Told::default()
        });
    }
    if NUMBER.contains(&key) {
        // `FM:0791234567 TO:0441234567`, `RING;0891234;0876543`
        let two = match key {
            "FM" => value.split_once(" TO:"),
            "RING" => value.split_once(';'),
            _ => None,
        };
        let (caller, called) = two.unwrap_or((value, ""));
        return Some(Told {
            caller: number(caller),
            called: called.parse().ok(),
        });
    }
    if key == "DATE" {
        // All in one line. The name may say anything, the number comes behind it: the last counts.
        let (_, value) = value.rsplit_once("NMBR").unwrap_or_default();
        return Some(Told {
            caller: number(value.trim_start_matches([' ', '='])),
            called: None,
        });
    }
    OTHER.contains(&key).then(Told::default)
}

/// Reads a line without a name, which stands for itself only where a call is coming in: digits, or an unformatted message.
#[must_use]
pub fn read_bare(line: &str) -> Option<Told> {
    if let Some(told) = hex(line)
        .filter(|bytes| matches!(bytes.first(), Some(0x80 | 0x04)))
        .and_then(|bytes| checked(&bytes))
    {
        return Some(told);
    }
    // Shorter ones are result codes.
    let digits = line.trim_start_matches('+');
    let bare = digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    bare.then(|| Told {
        caller: number(line),
        called: None,
    })
}

/// A number, or the reason why there is none.
fn number(value: &str) -> Option<CallerNumber> {
    let value = value.trim_matches([' ', '"', '-']);
    match value {
        "P" | "PRIVATE" | "PRIVATE NUMBER" | "WITHHELD" | "NUMBER WITHHELD" | "ANONYMOUS" | "BLOCKED"
        | "RESTRICTED" => Some(CallerNumber::Withheld),
        "O" | "OUT OF AREA" | "OUT_OF_AREA" | "OUT-OF-AREA" | "UNAVAILABLE" | "NOT AVAILABLE" | "UNKNOWN" => {
            Some(CallerNumber::OutOfArea)
        }
        digits => digits.parse().ok().map(CallerNumber::Known),
    }
}

/// `"5551234",129` or `"",128,,,,1`, whose last says why there is none (3GPP TS 27.007).
fn clip(value: &str) -> Told {
    let Some((digits, rest)) = value.strip_prefix('"').and_then(|value| value.split_once('"')) else {
        return Told::default();
    };
    let caller = match (number(digits), rest.split(',').nth(5)) {
        (Some(number), _) => Some(number),
        (None, Some("1")) if digits.is_empty() => Some(CallerNumber::Withheld),
        (None, Some("2")) if digits.is_empty() => Some(CallerNumber::OutOfArea),
        _ => None,
    };
    Told { caller, called: None }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(nibble(high)? * 16 + nibble(low)?).ok(),
            _ => None,
        })
        .collect()
}

/// An unformatted message with its sum behind it.
fn checked(bytes: &[u8]) -> Option<Told> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let (_, body) = bytes.split_last()?;
    if sum == 0 { message(body) } else { None }
}

/// A message as the exchange sends it: all parameters (`80`), date and number (`04`), or one parameter alone. The sum may be
/// behind it.
fn message(bytes: &[u8]) -> Option<Told> {
    let (&kind, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (body, behind) = rest.split_at_checked(usize::from(length))?;
    match behind {
        [] => {}
        [_] => return checked(bytes),
        _ => return None,
    }
    let caller = match kind {
        0x80 => parameters(body),
        // Month, day, hour and minute stand before the number.
        0x04 if length >= 9 => text(body.get(8..)?),
        kind => parameter(kind, body),
    };
    Some(Told { caller, called: None })
}

fn parameters(mut body: &[u8]) -> Option<CallerNumber> {
    let mut caller = None;
    while let [kind, length, rest @ ..] = body {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        caller = caller.or_else(|| parameter(*kind, value));
        body = rest;
    }
    caller
}

/// A number (`02`, or `03` for one that can be called back), or why there is none (`04`).
fn parameter(kind: u8, value: &[u8]) -> Option<CallerNumber> {
    match kind {
        0x02..=0x04 => text(value),
        _ => None,
    }
}

fn text(value: &[u8]) -> Option<CallerNumber> {
    number(&std::str::from_utf8(value).ok()?.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(digits: &str) -> Option<CallerNumber> {
        Some(CallerNumber::Known(digits.parse().unwrap()))
    }

    #[test]
    fn every_known_form_is_read() {
        for line in [
            "NMBR = 5551234",
            "NMBR=5551234",
            "DDN_NMBR= 5551234",
            "NBR=5551234",
            "nmbr = 555-1234",
            "CALLER NUMBER: 5551234",
            "CALLER'S NUMBER: 5551234",
            "CallerID: 5551234",
            "CID: 5551234",
            "Diverting number: 5551234",
            "FM:5551234",
            "+CLIP: \"5551234\",129",
            "+CLIP: \"5551234\",129,\"\",,\"\",0",
            "MESG = 030735353531323334",
            "RING;5551234",
            "DATE=0119 TIME=2215 NAME=ARCHER L NMBR=5551234",
            "DATE=0119 NAME=NMBR=666 NMBR=5551234",
        ] {
            assert_eq!(read(line).unwrap().caller, known("5551234"), "{line}");
        }
        let both = Told {
            caller: known("0891234567"),
            called: Some("0876543".parse().unwrap()),
        };
        assert_eq!(read("RING;0891234567;0876543").unwrap(), both);
        assert_eq!(read("FM:0891234567 TO:0876543").unwrap(), both);
        assert_eq!(read("CALLED NUMBER: 0876543").unwrap().called, both.called);
    }

    #[test]
    fn withheld_out_of_area_and_absent_are_three_things() {
        for line in [
            "NMBR = P",
            "NMBR=PRIVATE",
            "REASON FOR NO CALLER NUMBER: Private",
            "+CLIP: \"\",128,,,,1",
            "MESG = 040150",
            "CALLER NUMBER: anonymous",
        ] {
            assert_eq!(read(line).unwrap().caller, Some(CallerNumber::Withheld), "{line}");
        }
        for line in [
            "NMBR = O",
            "REASON FOR NO CALLER NUMBER: Out of area",
            "+CLIP: \"\",128,,,,2",
            "MESG = 04014F",
            "CALLER NUMBER: -UNAVAILABLE-",
        ] {
            assert_eq!(read(line).unwrap().caller, Some(CallerNumber::OutOfArea), "{line}");
        }
        for line in [
            "NMBR = ",
            "NMBR = 12a",
            "NMBR = 1234567890123456789012345",
            "NMBR = 555;ATH",
            "NMBR = $(reboot)",
            "DATE = 0321",
            "TIME = 1405",
            "NAME = NMBR=666",
            "MESG = zz",
            "MESG = 8",
            "MESG = 80FF0204",
            "+CLIP: 5",
            "RING;",
        ] {
            assert_eq!(read(line), Some(Told::default()), "{line}");
        }
        for line in ["RING", "OK", "CONNECT 9600", "", "+CRING: VOICE"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    /// The bytes with their sum, as digits.
    fn unformatted(bytes: &[u8]) -> String {
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let all = [bytes, &[sum.wrapping_neg()]].concat();
        all.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn unformatted_messages_are_read_with_their_sum() {
        let single = unformatted(b"\x04\x1203211405" as &[u8]);
        assert_eq!(read_bare(&single), None, "shorter than it says");
        let single = unformatted(b"\x04\x0F032114055551234");
        assert_eq!(read_bare(&single).unwrap().caller, known("5551234"));
        let many = unformatted(b"\x80\x1A\x01\x0803211405\x02\x075551234\x07\x05ACME1");
        assert_eq!(read_bare(&many).unwrap().caller, known("5551234"));
        assert_eq!(read(&format!("MESG={many}")).unwrap().caller, known("5551234"));
        let private = unformatted(b"\x80\x0D\x01\x0803211405\x04\x01P");
        assert_eq!(read_bare(&private).unwrap().caller, Some(CallerNumber::Withheld));
        // A sum that does not fit: nothing, and not the digits that it looks like.
        let broken = many.replace("35353531", "36353531");
        assert_eq!(read_bare(&broken), None);
        assert_eq!(read(&format!("MESG={broken}")), Some(Told::default()));
    }

    #[test]
    fn bare_digits_are_a_number_where_a_call_comes_in() {
        assert_eq!(read_bare("5551234").unwrap().caller, known("5551234"));
        assert_eq!(read_bare("+862155501234").unwrap().caller, known("+862155501234"));
        for line in ["2", "13", "RING", "555 1234 ACME", ""] {
            assert_eq!(read_bare(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn junk_gives_digits_or_nothing(
            key in prop::sample::select(vec!["NMBR = ", "NBR=", "CALLER NUMBER: ", "FM:", "+CLIP: \"", "MESG = ", "RING;", "DATE=", ""]),
            value in "[ -~]{0,80}",
        ) {
            let line = format!("{key}{value}");
            for told in [read(&line), read_bare(&line)].into_iter().flatten() {
                let numbers = told.called.into_iter().chain(match told.caller {
                    Some(CallerNumber::Known(number)) => Some(number),
                    _ => None,
                });
                for number in numbers {
                    prop_assert!(number.as_str().len() <= 25);
                    prop_assert!(number.as_str().bytes().all(|byte| b"0123456789*#+".contains(&byte)));
                }
            }
        }

        #[test]
        fn hexadecimal_junk_is_survived(digits in "(80|04|03|02)[0-9A-F]{0,64}") {
            let _ = (read(&format!("MESG = {digits}")), read_bare(&digits));
        }
    }
}
