//! Properties of the encoding (§6).

use crate::arbitrary::Arbitrary;
use proptest::collection::vec;
use proptest::prelude::*;
use tms_proto::code::TriggerKind;
use tms_proto::digest::Digest;
use tms_proto::message::*;
use tms_proto::tlv::{
    DecodeError, DecodeErrorKind, Fields, MAX_ELEMENTS, MAX_MUST_UNDERSTAND, MUST_UNDERSTAND, Structure, Tag, Value,
    Writer, split,
};

fn tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        any::<u8>()
            .prop_filter("a first byte of a longer tag", |byte| byte & 0x1F != 0x1F)
            .prop_map(u32::from),
        (0..8u32, 0..0x80u32).prop_map(|(class, low)| (class << 5 | 0x1F) << 8 | low),
        (0..8u32, 0x81..0x100u32, 0..0x80u32)
            .prop_map(|(class, high, low)| (class << 5 | 0x1F) << 16 | high << 8 | low),
    ]
    .prop_map(Tag)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => vec(any::<u8>(), 0..20), 2 => vec(any::<u8>(), 120..300), 1 => vec(any::<u8>(), 65_500..65_600)]
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

fn error(text: &str) -> DecodeError {
    split(&hex(text), 0).unwrap_err()
}

/// Reads the one field of a structure, from its value's bytes.
fn field<V: Value>(value: &[u8]) -> Result<V, DecodeError> {
    let mut out = Writer::new();
    out.bytes(Tag(0x80), value);
    Fields::parse(&out.into_vec(), 0)?.field(Tag(0x80))
}

/// An [`ObjectGet`] with bytes before, and behind its fields.
fn object_get(before: &[u8], behind: &[u8]) -> Vec<u8> {
    let get = ObjectGet {
        digest: Digest([7; 32]),
        offset: 1,
        until: 2,
    };
    let mut out = Writer::new();
    out.constructed(Tag(0x64), |out| {
        out.raw(before);
        get.write_fields(out);
        out.raw(behind);
    });
    out.into_vec()
}

fn must_understand(tags: &[u8], others: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(MUST_UNDERSTAND, tags);
    out.raw(others);
    out.into_vec()
}

proptest! {
    #[test]
    fn elements_read_as_they_were_written(elements in vec((tag(), bytes()), 0..6), offset in 0..1_000usize) {
        let mut out = Writer::new();
        for (tag, value) in &elements {
            out.bytes(*tag, value);
        }
        let encoded = out.into_vec();
        let mut rest = &encoded[..];
        for (tag, value) in &elements {
            let (element, after) = split(rest, offset + encoded.len() - rest.len()).unwrap();
            prop_assert_eq!((element.tag, element.value), (*tag, &value[..]));
            prop_assert_eq!(&encoded[element.offset - offset..][..value.len()], &value[..]);
            rest = after;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn nested_elements_are_as_long_as_they_say(
        // a list of tags that must be understood is no field
        inner in vec((tag().prop_filter("a list", |tag| *tag != MUST_UNDERSTAND), bytes()), 0..4),
    ) {
        let mut out = Writer::new();
        out.constructed(Tag(0x7F4E), |out| {
            out.constructed(Tag(0xA0), |out| inner.iter().for_each(|(tag, value)| out.bytes(*tag, value)));
            out.uint(Tag(0x81), 5);
        });
        let encoded = out.into_vec();
        let (outer, rest) = split(&encoded, 0).unwrap();
        prop_assert!(rest.is_empty() && outer.tag.is_constructed());
        let mut fields = Fields::parse(outer.value, outer.offset).unwrap();
        prop_assert_eq!(fields.field::<u8>(Tag(0x81)).unwrap(), 5);
        let nested = fields.take(Tag(0xA0)).unwrap().unwrap();
        prop_assert_eq!(Fields::parse(nested.value, nested.offset).unwrap().finish(), Ok(inner.len()));
    }

    /// Whatever can be read has one encoding only: no byte of it can be changed without changing what it says.
    #[test]
    fn what_is_read_is_written_the_same(garbage in vec(prop_oneof![any::<u8>(), 0..4u8, Just(0x81), Just(0x1F)], 0..60)) {
        let mut rest = &garbage[..];
        while let Ok((element, after)) = split(rest, 0) {
            let mut out = Writer::new();
            out.bytes(element.tag, element.value);
            let encoded = out.into_vec();
            prop_assert_eq!(&encoded[..], &rest[..rest.len() - after.len()]);
            rest = after;
        }
    }

    #[test]
    fn garbage_never_panics(garbage in vec(any::<u8>(), 0..200)) {
        if let Err(error) = split(&garbage, 0) {
            prop_assert!(error.offset <= garbage.len());
        }
        if let Ok(fields) = Fields::parse(&garbage, 0) {
            let _ = fields.finish();
        }
    }

    #[test]
    fn a_length_has_one_form(length in 0..70_000u32, form in 1..=4usize) {
        let digits = &length.to_be_bytes()[4 - form..];
        let minimal = digits[0] != 0 && length >= 0x80;
        let fits = form == 4 || length < 1 << (8 * form);
        prop_assume!(fits);
        let mut encoded = vec![0x80, 0x80 | form as u8];
        encoded.extend(digits);
        encoded.resize(encoded.len() + length as usize, 0xEE);
        let result = split(&encoded, 0);
        if minimal {
            prop_assert_eq!(result.unwrap().0.value.len(), length as usize);
        } else {
            prop_assert_eq!(result.unwrap_err(), DecodeError { kind: DecodeErrorKind::Length, offset: 1 });
        }
    }

    #[test]
    fn an_integer_has_one_form(value in u64::any(), zeros in 1..4usize) {
        let mut out = Writer::new();
        out.uint(Tag(0x80), value);
        let encoded = out.into_vec();
        let digits = &encoded[2..];
        prop_assert_eq!(field::<u64>(digits), Ok(value));
        let padded = [&[0; 4][..zeros], digits].concat();
        prop_assert_eq!(field::<u64>(&padded).unwrap_err().kind, DecodeErrorKind::Value(Tag(0x80)));
        // What is too large for its type is refused, not cut.
        prop_assert_eq!(field::<u32>(digits).ok(), u32::try_from(value).ok());
        prop_assert_eq!(field::<u16>(digits).ok(), u16::try_from(value).ok());
        prop_assert_eq!(field::<u8>(digits).ok(), u8::try_from(value).ok());
    }

    #[test]
    fn unknown_elements_are_skipped_and_counted(unknown in vec((0x90..0x9Eu32, vec(any::<u8>(), 0..9)), 0..9), place in 0..9usize) {
        let place = place.min(unknown.len());
        let encode = |elements: &[(u32, Vec<u8>)]| {
            let mut out = Writer::new();
            elements.iter().for_each(|(tag, value)| out.bytes(Tag(*tag), value));
            out.into_vec()
        };
        let encoded = object_get(&encode(&unknown[..place]), &encode(&unknown[place..]));
        let decoded = Message::from_slice(&encoded).unwrap();
        prop_assert_eq!(decoded.unknown, unknown.len());
        prop_assert_eq!(decoded.message, ObjectGet { digest: Digest([7; 32]), offset: 1, until: 2 });
    }
}

#[test]
fn malformed_elements() {
    use DecodeErrorKind as Kind;
    for (text, kind, offset) in [
        ("", Kind::Truncated, 0),
        ("80", Kind::Truncated, 1),
        ("9F", Kind::Truncated, 1),
        ("80 81", Kind::Truncated, 2),
        ("80 82 01", Kind::Truncated, 2),
        ("80 02 AA", Kind::Truncated, 2),
        ("9F 80 01 00", Kind::Tag, 0),
        ("9F 81 82 03 00", Kind::Tag, 0),
        ("80 80 00 00", Kind::Length, 1),
        ("80 85 01 00 00 00 00", Kind::Length, 1),
        ("80 FF", Kind::Length, 1),
        ("80 81 7F", Kind::Length, 1),
        ("80 82 00 80", Kind::Length, 1),
        ("80 84 FF FF FF FF", Kind::Truncated, 6),
    ] {
        assert_eq!(error(text), DecodeError { kind, offset }, "{text}");
    }
}

#[test]
fn a_field_is_there_once() {
    use DecodeErrorKind as Kind;
    // The digest takes 34 bytes after the message's tag and length; the offset's value stands at 2 + 34 + 2.
    let again = Message::from_slice(&object_get(&[], &hex("81 01 05"))).unwrap_err();
    assert_eq!(
        again,
        DecodeError {
            kind: Kind::Duplicate(Tag(0x81)),
            offset: 2 + 34 + 3 + 3 + 2
        }
    );
    let optional = Trigger {
        source: Some("host".into()),
        ..Trigger::of(TriggerKind::Manual)
    };
    let twice = [optional.to_vec(), hex("81 00")].concat();
    assert_eq!(
        Trigger::from_slice(&twice).unwrap_err().kind,
        Kind::Duplicate(Tag(0x81))
    );
    let listed = must_understand(&[], &hex("9F1F 00"));
    assert_eq!(
        ProofRequest::from_slice(&listed).unwrap_err().kind,
        Kind::Duplicate(MUST_UNDERSTAND)
    );
    let missing = Message::from_slice(&hex("65 00")).unwrap_err();
    assert_eq!(
        missing,
        DecodeError {
            kind: Kind::Missing(Tag(0x80)),
            offset: 2
        }
    );
}

#[test]
fn values_have_the_form_of_their_field() {
    let refused = Err(DecodeError {
        kind: DecodeErrorKind::Value(Tag(0x80)),
        offset: 2,
    });
    assert_eq!(field::<u8>(&[]), refused.map(|()| 0));
    assert_eq!(field::<u64>(&[1; 9]), refused.map(|()| 0));
    assert_eq!(field::<bool>(&[2]), refused.map(|()| false));
    assert_eq!(field::<bool>(&[]), refused.map(|()| false));
    assert_eq!(field::<i16>(&[1]), refused.map(|()| 0));
    assert_eq!(field::<[u8; 4]>(&[1; 5]), refused.map(|()| [0; 4]));
    assert_eq!(field::<String>(&[0xFF]), refused.map(|()| String::new()));
    assert_eq!(field::<TriggerKind>(&[1, 2]), refused.map(|()| TriggerKind::Manual));
    assert_eq!(field::<i16>(&[0xFE, 0x20]), Ok(-480));
}

#[test]
fn elements_that_must_be_understood() {
    use DecodeErrorKind as Kind;
    let read = |tags: &[u8], others: &str| ProofRequest::from_slice(&must_understand(tags, &hex(others)));
    // Known, or not there: nothing to understand.
    assert!(read(&[0x80, 0x85], "80 01 41").is_ok());
    assert!(read(&[0x80, 0x85], "80 01 41 86 00").is_ok());
    // There, and not known.
    let unknown = read(&[0x80, 0x9F, 0x70, 0x85], "85 01 41").unwrap_err();
    assert_eq!(
        unknown,
        DecodeError {
            kind: Kind::NotUnderstood(Tag(0x85)),
            offset: 9
        }
    );
    let long = read(&[0x9F, 0x70], "80 01 41 9F70 00").unwrap_err();
    assert_eq!(long.kind, Kind::NotUnderstood(Tag(0x9F70)));
    // Of the structure inside, not of the one around it.
    let mut inner = Writer::new();
    inner.constructed(Tag(0xA1), |out| {
        out.raw(&must_understand(&[0x9E], &[]));
        NextContact::at(1, 2).write_fields(out);
        out.bytes(Tag(0x9E), &[]);
    });
    let inner = inner.into_vec();
    assert_eq!(
        ResultAck::from_slice(&inner).unwrap_err().kind,
        Kind::NotUnderstood(Tag(0x9E))
    );
    // A malformed list is an error whatever else is there, and so is one without end.
    assert_eq!(read(&[0x80, 0x9F], "").unwrap_err().kind, Kind::Value(MUST_UNDERSTAND));
    assert!(read(&[0x85; MAX_MUST_UNDERSTAND], "").is_ok());
    assert_eq!(
        read(&[0x85; MAX_MUST_UNDERSTAND + 1], "").unwrap_err().kind,
        Kind::Value(MUST_UNDERSTAND)
    );
}

#[test]
fn elements_are_limited_in_number() {
    let elements = |count: usize| [0x90, 0x00].repeat(count);
    assert_eq!(
        Fields::parse(&elements(MAX_ELEMENTS), 0).unwrap().finish(),
        Ok(MAX_ELEMENTS)
    );
    let error = Fields::parse(&elements(MAX_ELEMENTS + 1), 0).err().unwrap();
    assert_eq!(
        error,
        DecodeError {
            kind: DecodeErrorKind::TooMany,
            offset: 2 * MAX_ELEMENTS + 2
        }
    );
}

#[test]
fn unknown_elements_of_inner_structures_are_counted_too() {
    let trigger = |out: &mut Writer| {
        out.constructed(Tag(0xA0), |out| {
            Trigger::of(TriggerKind::Manual).write_fields(out);
            out.bytes(Tag(0x9D), b"later");
        });
    };
    let report = StatusReport::new(Trigger::of(TriggerKind::Manual), 1, 2);
    let fields = report.to_vec();
    let (first, rest) = split(&fields, 0).unwrap();
    assert_eq!(first.tag, Tag(0xA0));
    let mut out = Writer::new();
    out.constructed(Tag(0x61), |out| {
        trigger(out);
        out.raw(rest);
        out.bytes(Tag(0x9F7F), &[]);
    });
    let decoded = Message::from_slice(&out.into_vec()).unwrap();
    assert_eq!((decoded.unknown, decoded.message), (2, Message::from(report)));
}
