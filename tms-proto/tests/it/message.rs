//! Properties of the messages (§7).

use crate::arbitrary;
use crate::structure::structures;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tms_proto::message::*;
use tms_proto::tlv::{DecodeErrorKind, Structure, Tag, Writer, split};

proptest! {
    #[test]
    fn every_message_round_trips(message in arbitrary::message()) {
        let encoded = message.to_vec();
        let decoded = Message::from_slice(&encoded).unwrap();
        prop_assert_eq!((&decoded.message, decoded.unknown), (&message, 0));
        prop_assert_eq!(decoded.message.to_vec(), encoded);
        prop_assert!(Message::TABLE.contains(&(message.name(), message.tag(), direction(&message))));
    }

    #[test]
    fn a_truncated_message_is_an_error(message in arbitrary::message()) {
        let encoded = message.to_vec();
        for end in 0..encoded.len() {
            let error = Message::from_slice(&encoded[..end]).unwrap_err();
            prop_assert_eq!(error.kind, DecodeErrorKind::Truncated);
            prop_assert!(error.offset <= end);
        }
        // The same with a length that fits what is left of the fields: truncated inside, or a field is missing.
        let (element, _) = split(&encoded, 0).unwrap();
        for end in 0..element.value.len() {
            let mut out = Writer::new();
            out.bytes(element.tag, &element.value[..end]);
            let cut = out.into_vec();
            match Message::from_slice(&cut) {
                // Cut just before an optional field: then it is a shorter message.
                Ok(decoded) => prop_assert_eq!(decoded.message.to_vec(), cut),
                Err(error) => prop_assert!(error.offset <= cut.len()),
            }
        }
    }

    #[test]
    fn a_damaged_message_never_panics(
        message in arbitrary::message(),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut encoded = message.to_vec();
        for (place, byte) in damage {
            let place = place.index(encoded.len());
            encoded[place] = byte;
        }
        match Message::from_slice(&encoded) {
            Ok(decoded) => {
                let again = Message::from_slice(&decoded.message.to_vec()).unwrap();
                prop_assert_eq!((again.message, again.unknown), (decoded.message, 0));
            }
            Err(error) => prop_assert!(error.offset <= encoded.len(), "{error}"),
        }
    }

    #[test]
    fn garbage_is_an_error(first in any::<u8>(), garbage in vec(any::<u8>(), 0..300)) {
        let mut out = Writer::new();
        out.bytes(Tag(0x60 | u32::from(first) & 0x1F).min(Tag(0x7E)), &garbage);
        let encoded = out.into_vec();
        if let Err(error) = Message::from_slice(&encoded) {
            prop_assert!(error.offset <= encoded.len(), "{error}");
        }
    }

    #[test]
    fn nothing_follows_a_message(message in arbitrary::message(), more in vec(any::<u8>(), 1..5)) {
        let mut encoded = message.to_vec();
        let offset = encoded.len();
        encoded.extend(more);
        let error = Message::from_slice(&encoded).unwrap_err();
        prop_assert_eq!((error.kind, error.offset), (DecodeErrorKind::Trailing, offset));
    }
}

fn direction(message: &Message) -> char {
    match message {
        Message::Reject(_) | Message::Bye(_) => 'B',
        Message::Plan(_)
        | Message::ObjectStart(_)
        | Message::ResultAck(_)
        | Message::Text(_)
        | Message::RegisterAnswer(_)
        | Message::KeyBlock(_)
        | Message::CertificateGrant(_)
        | Message::ProofRequest(_) => 'S',
        _ => 'T',
    }
}

#[test]
fn a_message_has_a_largest_size() {
    let part = |size| {
        let bytes = Bytes::from(vec![0; size]);
        Message::from(LogPart {
            name: String::new(),
            offset: 0,
            bytes,
            last: None,
        })
        .to_vec()
    };
    // Tag and length of the message 1 + 3, name 2, offset 3, tag and length of the bytes 1 + 3.
    let most = MAX_MESSAGE - 13;
    assert_eq!(part(most).len(), MAX_MESSAGE);
    assert!(Message::from_slice(&part(most)).is_ok());
    let error = Message::from_slice(&part(most + 1)).unwrap_err();
    assert_eq!((error.kind, error.offset), (DecodeErrorKind::TooLong, MAX_MESSAGE));
}

#[test]
fn unknown_kinds_are_refused_by_name() {
    let error = Message::from_slice(&[0x7E, 0]).unwrap_err();
    assert_eq!((error.kind, error.offset), (DecodeErrorKind::Unexpected(Tag(0x7E)), 0));
}

#[test]
fn tags_are_sound() {
    fn check(structure: &str, fields: &[(&str, Tag)]) {
        for (index, (name, tag)) in fields.iter().enumerate() {
            let mut out = Writer::new();
            out.bytes(*tag, &[]);
            let encoded = out.into_vec();
            assert_eq!(split(&encoded, 0).unwrap().0.tag, *tag, "{structure}.{name}: not a tag");
            // Numbers are unique too, whether the value is constructed or not: so a field can change from one to the other.
            let number = |tag: Tag| tag.0 & !0x20;
            assert!(
                fields[..index].iter().all(|(_, other)| number(*other) != number(*tag)),
                "{structure}.{name}: number used twice"
            );
        }
    }
    macro_rules! check_all {
        ($($name:ident { $($field:ident),* $(,)? })*) => {$(
            let names = [$(stringify!($field)),*];
            assert_eq!($name::FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
            check(stringify!($name), $name::FIELDS);
        )*};
    }
    structures!(check_all);
    for (index, (name, tag, _)) in Message::TABLE.iter().enumerate() {
        assert!(tag.is_constructed() && tag.0 < 0x7F, "{name}");
        assert!(
            Message::TABLE[..index].iter().all(|(_, other, _)| other != tag),
            "{name}"
        );
    }
}
