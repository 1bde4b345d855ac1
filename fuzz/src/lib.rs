//! What the fuzzer runs: one function for each target, which takes any bytes and panics where a promise is broken.
//!
//! # On stable
//!
//! `cargo test -p tms-fuzz` replays every file under `corpus/<target>/`. No fuzzer is needed for that.
//!
//! # With the fuzzer
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run --fuzz-dir fuzz message /tmp/found fuzz/corpus/message -- -max_total_time=300
//! ```
//!
//! New inputs go to the first directory, so that the corpus stays as small as it is. An input that broke something becomes
//! a file of the corpus under a name that says what it broke, together with the correction.
//!
//! # Adding a target
//!
//! 1. A function here, and its line in [`TARGETS`].
//! 2. `fuzz_targets/<target>.rs`, as the others, and its `[[bin]]` in `Cargo.toml`.
//! 3. Seeds in `corpus/<target>/`. Those that follow from the vectors are written by `TMS_BLESS=1 cargo test -p tms-fuzz`.
//!
//! The replay fails where one of these is missing.

mod link;
mod modem;
mod representation;
mod secure;
mod session;

pub use link::link;
pub use modem::at;
pub use representation::representation;
pub use secure::{credential, handshake, package, record};
pub use session::{server_session, terminal_session};

use tms_proto::envelope::{Decoder, Envelope, EnvelopeError, Frame, LengthForm, Tpdu};
use tms_proto::message::{
    Action, ActionResult, Inventory, Message, NextContact, Plan, Register, StatusReport, Text, Ticket, Trigger,
};
use tms_proto::tlv::{Fields, MAX_ELEMENTS, Structure, Tag, Writer, split};

/// What a target runs.
pub type Body = fn(&[u8]);

/// The names of the targets and their bodies.
pub const TARGETS: &[(&str, Body)] = &[
    ("at", at),
    ("envelope", envelope),
    ("link", link),
    ("tlv", tlv),
    ("message", message),
    ("handshake", handshake),
    ("record", record),
    ("credential", credential),
    ("package", package),
    ("representation", representation),
    ("server_session", server_session),
    ("terminal_session", terminal_session),
];

/// The envelope (§2): the first byte picks the [profile], the second how the rest is cut.
pub fn envelope(data: &[u8]) {
    let [number, size, line @ ..] = data else { return };
    let envelope = profile(*number);

    let (whole, keep_alives, end) = frames(envelope, line, line.len());
    let pieces = frames(envelope, line, usize::from(*size) + 1);
    assert_eq!(
        (&whole, keep_alives, end),
        (&pieces.0, pieces.1, pieces.2),
        "how it is cut makes a difference"
    );
    if let Err(error) = end {
        assert!(error.offset <= line.len() as u64);
    }

    for frame in whole {
        assert!(!frame.payload.is_empty() && frame.payload.len() <= envelope.max);
        assert_eq!(frame.tpdu.is_some(), envelope.tpdu.is_some());
        let mut again = envelope.keep_alive();
        envelope
            .encode(frame.tpdu, &frame.payload, &mut again)
            .expect("what was read can be sent");
        assert_eq!(frames(envelope, &again, again.len()), (vec![frame], 1, Ok(())));
    }

    let mut sent = Vec::new();
    match envelope.encode(None, line, &mut sent) {
        Ok(()) => {
            assert_eq!(sent.len(), line.len() + envelope.overhead());
            let (frames, ..) = frames(envelope, &sent, sent.len());
            assert!(matches!(&frames[..], [frame] if frame.payload == line && frame.tpdu == envelope.tpdu));
        }
        Err(_) => assert!(sent.is_empty() && (line.is_empty() || line.len() > envelope.capacity())),
    }
}

/// The profile with this number: two bits for the form of the length, then inclusive, TPDU, delimited and small.
#[must_use]
pub fn profile(number: u8) -> Envelope {
    let bit = |bit: u8| number >> bit & 1 != 0;
    Envelope {
        length: match number & 3 {
            0 => LengthForm::Big16,
            1 => LengthForm::Little16,
            2 => LengthForm::Bcd16,
            _ => LengthForm::Ascii4,
        },
        inclusive: bit(2),
        tpdu: bit(3).then_some(Tpdu {
            destination: [0x01, 0x34],
            source: [0x00, 0x00],
        }),
        delimited: bit(4),
        max: if bit(5) { 40 } else { Envelope::TCP.max },
    }
}

/// The frames of a line that comes in pieces of this size, the keep-alives, and how it ended.
fn frames(envelope: Envelope, line: &[u8], size: usize) -> (Vec<Frame>, u64, Result<(), EnvelopeError>) {
    let mut decoder = Decoder::new(envelope);
    let mut frames = Vec::new();
    for piece in line.chunks(size.max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next(), Err(error), "an error is for ever");
                    assert_eq!(decoder.buffered(), 0);
                    return (frames, decoder.keep_alives(), Err(error));
                }
            }
        }
        assert!(
            decoder.buffered() < envelope.max + envelope.overhead(),
            "more is held than an unfinished frame"
        );
    }
    (frames, decoder.keep_alives(), Ok(()))
}

/// The encoding (§6), as elements and as the fields of structures.
pub fn tlv(data: &[u8]) {
    elements(data, 0);
    structure::<StatusReport>(data);
    structure::<Trigger>(data);
    structure::<Inventory>(data);
    structure::<Plan>(data);
    structure::<Action>(data);
    structure::<NextContact>(data);
    structure::<Ticket>(data);
    structure::<ActionResult>(data);
    structure::<Register>(data);
    structure::<Text>(data);
}

/// Whatever can be read has one encoding only.
fn elements(data: &[u8], depth: usize) {
    let mut count = 0;
    let mut rest = data;
    let mut tags: Vec<Tag> = Vec::new();
    let whole = loop {
        if rest.is_empty() {
            break true;
        }
        match split(rest, data.len() - rest.len()) {
            Ok((element, after)) => {
                let mut out = Writer::new();
                out.bytes(element.tag, element.value);
                assert_eq!(out.into_vec(), rest[..rest.len() - after.len()]);
                assert_eq!(&data[element.offset..][..element.value.len()], element.value);
                if element.tag.is_constructed() && depth < 8 {
                    elements(element.value, depth + 1);
                }
                count += 1;
                tags.push(element.tag);
                rest = after;
            }
            Err(error) => {
                assert!(error.offset <= data.len());
                break false;
            }
        }
    };

    match Fields::parse(data, 0) {
        Ok(mut fields) => {
            assert!(whole && count <= MAX_ELEMENTS);
            tags.sort_unstable();
            tags.dedup();
            // A few are taken, for every take looks at all that are there.
            let taken: usize = tags.iter().take(16).map(|tag| fields.take_all(*tag).len()).sum();
            if let Ok(unknown) = fields.finish() {
                assert!(taken + unknown <= count && count <= taken + unknown + 1);
            }
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
}

fn structure<T: Structure + PartialEq + std::fmt::Debug>(data: &[u8]) {
    match T::from_slice(data) {
        Ok(value) => {
            let mut unknown = 0;
            let encoded = value.to_vec();
            assert!(encoded.len() <= data.len(), "the encoding is minimal");
            assert_eq!(T::read_fields(&encoded, 0, &mut unknown), Ok(value));
            assert_eq!(unknown, 0);
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
}

/// Messages (§7).
pub fn message(data: &[u8]) {
    match Message::from_slice(data) {
        Ok(decoded) => {
            let encoded = decoded.message.to_vec();
            assert!(encoded.len() <= data.len(), "the encoding is minimal");
            let again = Message::from_slice(&encoded).expect("what was read can be written");
            assert_eq!((again.message, again.unknown), (decoded.message, 0));
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
}
