//! The handshake (§4): every mode works, and nothing that was changed on the way does.

use crate::party::{NOW, party, server, terminal};
use bytes::Bytes;
use proptest::prelude::*;
use tms_proto::handshake::{
    HandshakeError, Hello, Initiator, MAX_HELLO, MAX_MESSAGE, MAX_PAYLOAD, Mode, Responder, StaticKey, Suite,
};
use tms_proto::message::{Message, StatusReport, Trigger};
use tms_proto::record::{Content, Records};
use tms_proto::secret::Psk;
use tms_proto::tlv::{Tag, Writer};

/// Everything that goes into a handshake.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    pub(crate) suite: Suite,
    pub(crate) hello: Vec<u8>,
    pub(crate) terminal_secret: [u8; 32],
    pub(crate) server_secret: [u8; 32],
    pub(crate) psk: Psk,
    pub(crate) terminal_ephemeral: [u8; 32],
    pub(crate) server_ephemeral: [u8; 32],
    pub(crate) payloads: [Vec<u8>; 3],
}

impl Setup {
    /// A handshake of this mode with short payloads.
    fn new(mode: Mode, suite: Suite) -> Self {
        let first: &[u8] = if mode.has_static() { b"" } else { b"the report" };
        Self {
            mode,
            suite,
            hello: hello(mode, suite).encode(),
            terminal_secret: [0x11; 32],
            server_secret: [0x22; 32],
            psk: Psk::new([0x33; 32]),
            terminal_ephemeral: [0x44; 32],
            server_ephemeral: [0x55; 32],
            payloads: [first.to_vec(), b"the answer".to_vec(), b"the last word".to_vec()],
        }
    }

    pub(crate) fn initiator(&self) -> Initiator {
        let (key, psk) = (self.mode.has_static(), self.mode.has_psk());
        let key = key.then(|| StaticKey::from_secret(self.terminal_secret));
        let psk = psk.then_some(&self.psk);
        Initiator::new(
            &self.hello,
            self.mode,
            self.suite,
            key.as_ref(),
            psk,
            self.terminal_ephemeral,
        )
        .unwrap()
    }

    pub(crate) fn responder(&self) -> Responder {
        let (key, psk) = (self.mode.has_static(), self.mode.has_psk());
        let key = key.then(|| StaticKey::from_secret(self.server_secret));
        let psk = psk.then_some(&self.psk);
        Responder::new(
            &self.hello,
            self.mode,
            self.suite,
            key.as_ref(),
            psk,
            self.server_ephemeral,
        )
        .unwrap()
    }
}

pub(crate) fn hello(mode: Mode, suite: Suite) -> Hello {
    let mut hello = Hello::new(mode, &[suite]);
    match mode {
        Mode::Rsa => {}
        Mode::MainKey | Mode::Both => {
            hello.id = Some(Bytes::copy_from_slice(&7u64.to_be_bytes()));
            hello.epoch = Some(3);
        }
        Mode::Ticket => hello.id = Some(Bytes::from_static(b"\0\0\0\0\0\0\0\x07ticket-1")),
    }
    hello
}

/// What a handshake came to.
pub(crate) struct Outcome {
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) hash: [u8; 32],
    pub(crate) terminal: Records,
    pub(crate) server: Records,
}

/// Runs a handshake between two sides that may not agree, over a line that may change messages.
pub(crate) fn run(
    terminal: &Setup,
    server: &Setup,
    line: &mut dyn FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> Result<Outcome, HandshakeError> {
    let (mut initiator, mut responder) = (terminal.initiator(), server.responder());
    let mut messages = Vec::new();
    let mut carry = |number, message: Vec<u8>| {
        messages.push(message.clone());
        line(number, message)
    };
    let message = carry(0, initiator.first(&terminal.payloads[0])?);
    assert_eq!(responder.first(&message)?, terminal.payloads[0]);
    let message = carry(1, responder.second(&server.payloads[1])?);
    assert_eq!(initiator.second(&message)?, server.payloads[1]);
    if terminal.mode.has_static() {
        assert_eq!(initiator.remote_static(), Some(public(server.server_secret)));
        let message = carry(2, initiator.third(&terminal.payloads[2])?);
        assert_eq!(responder.third(&message)?, terminal.payloads[2]);
        assert_eq!(responder.remote_static(), Some(public(terminal.terminal_secret)));
    } else {
        assert_eq!((initiator.remote_static(), responder.remote_static()), (None, None));
    }
    assert_eq!(initiator.hash(), responder.hash());
    let hash = initiator.hash();
    assert_ne!(hash, [0; 32]);
    Ok(Outcome {
        messages,
        hash,
        terminal: initiator.finish()?,
        server: responder.finish()?,
    })
}

fn public(secret: [u8; 32]) -> [u8; 32] {
    StaticKey::from_secret(secret).public()
}

pub(crate) fn honest(_: usize, message: Vec<u8>) -> Vec<u8> {
    message
}

fn all() -> impl Iterator<Item = Setup> {
    Mode::ALL
        .into_iter()
        .flat_map(|mode| Suite::ALL.into_iter().map(move |suite| Setup::new(mode, suite)))
}

#[test]
fn every_mode_and_suite_ends_in_records() {
    for setup in all() {
        let mut outcome = run(&setup, &setup, &mut honest).unwrap();
        let mut record = Vec::new();
        outcome.terminal.seal(Content::Message, b"up", &mut record).unwrap();
        assert_eq!(outcome.server.open(&record).unwrap().1, b"up"[..]);
        let mut record = Vec::new();
        outcome.server.seal(Content::Message, b"down", &mut record).unwrap();
        assert_eq!(outcome.terminal.open(&record).unwrap().1, b"down"[..]);
    }
}

#[test]
fn the_same_keys_give_the_same_bytes_and_other_ephemeral_keys_do_not() {
    for setup in all() {
        let first = run(&setup, &setup, &mut honest).unwrap();
        let again = run(&setup, &setup, &mut honest).unwrap();
        assert_eq!((&first.messages, first.hash), (&again.messages, again.hash));
        let other = Setup {
            server_ephemeral: [0x56; 32],
            ..setup.clone()
        };
        let other = run(&other, &other, &mut honest).unwrap();
        assert_eq!(first.messages[0], other.messages[0]);
        assert_ne!(first.messages[1], other.messages[1]);
        assert_ne!(first.hash, other.hash);
    }
}

#[test]
fn another_pre_shared_key_ends_it() {
    for setup in all().filter(|setup| setup.mode.has_psk()) {
        let other = Setup {
            psk: Psk::new([0x34; 32]),
            ..setup.clone()
        };
        assert_eq!(run(&setup, &other, &mut honest).err(), Some(HandshakeError::Refused));
    }
}

/// Whoever stands in the middle cannot take a version or a suite off the list, add one, change the mode, the epoch, the
/// ticket or the record limit: the hello's bytes are the prologue.
#[test]
fn another_hello_ends_it() {
    for setup in all() {
        for index in 0..setup.hello.len() {
            let mut hello = setup.hello.clone();
            hello[index] ^= 1;
            let other = Setup { hello, ..setup.clone() };
            assert_eq!(
                run(&setup, &other, &mut honest).err(),
                Some(HandshakeError::Refused),
                "byte {index}"
            );
        }
        let mut both = hello(setup.mode, setup.suite);
        both.suites = Bytes::from_static(&[1, 2]);
        both.versions = Bytes::from_static(&[2, 1]);
        let offered = Setup {
            hello: both.encode(),
            ..setup.clone()
        };
        assert!(run(&offered, &offered, &mut honest).is_ok());
        assert_eq!(run(&offered, &setup, &mut honest).err(), Some(HandshakeError::Refused));
        assert_eq!(run(&setup, &offered, &mut honest).err(), Some(HandshakeError::Refused));
    }
}

#[test]
fn another_suite_ends_it() {
    for setup in all() {
        let suite = if setup.suite == Suite::AesGcm {
            Suite::ChaChaPoly
        } else {
            Suite::AesGcm
        };
        let other = Setup { suite, ..setup.clone() };
        assert_eq!(run(&setup, &other, &mut honest).err(), Some(HandshakeError::Refused));
    }
}

#[test]
fn every_changed_bit_and_every_missing_or_added_byte_ends_it() {
    for setup in all() {
        let messages = run(&setup, &setup, &mut honest).unwrap().messages;
        for (at, message) in messages.iter().enumerate() {
            for index in 0..message.len() {
                let mut change = |number, mut message: Vec<u8>| {
                    if number == at {
                        // The last byte of a key has a bit that X25519 does not look at: the hash does.
                        message[index] ^= if index == 31 { 0x80 } else { 1 << (index % 8) };
                    }
                    message
                };
                let outcome = run(&setup, &setup, &mut change);
                assert_eq!(
                    outcome.err(),
                    Some(HandshakeError::Refused),
                    "message {at}, byte {index}"
                );
                let mut cut = |number, mut message: Vec<u8>| {
                    message.truncate(if number == at { index } else { usize::MAX });
                    message
                };
                assert_eq!(run(&setup, &setup, &mut cut).err(), Some(HandshakeError::Refused));
            }
            let mut add = |number, mut message: Vec<u8>| {
                message.extend((number == at).then_some(0));
                message
            };
            assert_eq!(run(&setup, &setup, &mut add).err(), Some(HandshakeError::Refused));
        }
    }
}

/// A man in the middle with a static key of his own is seen as himself: it is the channel certificate's place to tell.
#[test]
fn whoever_answers_is_known_by_the_static_key_that_he_has() {
    let setup = Setup::new(Mode::Rsa, Suite::ChaChaPoly);
    let thief = Setup {
        server_secret: [0x66; 32],
        ..setup.clone()
    };
    let (mut initiator, mut responder) = (setup.initiator(), thief.responder());
    responder.first(&initiator.first(b"").unwrap()).unwrap();
    initiator
        .second(&responder.second(b"stolen credentials").unwrap())
        .unwrap();
    assert_eq!(initiator.remote_static(), Some(public(thief.server_secret)));
    assert_ne!(initiator.remote_static(), Some(public(setup.server_secret)));
}

#[test]
fn a_message_of_one_handshake_is_nothing_to_another() {
    for setup in all() {
        let messages = run(&setup, &setup, &mut honest).unwrap().messages;
        let other = Setup {
            terminal_ephemeral: [0x45; 32],
            server_ephemeral: [0x57; 32],
            ..setup.clone()
        };
        for (at, old) in messages.iter().enumerate().skip(1) {
            let mut replay = |number, message| if number == at { old.clone() } else { message };
            assert_eq!(
                run(&other, &other, &mut replay).err(),
                Some(HandshakeError::Refused),
                "message {at}"
            );
        }
    }
}

#[test]
fn calls_out_of_order_and_after_a_failure_are_refused() {
    let order = Err(HandshakeError::Order);
    for setup in all() {
        let mut initiator = setup.initiator();
        assert_eq!(initiator.second(b"x"), order);
        assert_eq!(initiator.third(b"x"), order);
        let first = initiator.first(&setup.payloads[0]).unwrap();
        assert_eq!(initiator.first(&setup.payloads[0]), order);
        assert_eq!(initiator.second(b"rubbish"), Err(HandshakeError::Refused));
        // A second try with the same ephemeral key is not given.
        assert_eq!(initiator.second(b"rubbish"), order);
        assert_eq!((initiator.hash(), initiator.remote_static()), ([0; 32], None));
        assert!(initiator.finish().is_err());

        let mut responder = setup.responder();
        assert_eq!(responder.second(b""), order);
        responder.first(&first).unwrap();
        assert_eq!(responder.first(&first), order);
        assert_eq!(responder.third(b""), order);
        let second = responder.second(b"").unwrap();
        let early = responder.finish().map(|_| ());
        assert_eq!(
            early,
            if setup.mode.has_static() {
                Err(HandshakeError::Order)
            } else {
                Ok(())
            }
        );

        let mut initiator = setup.initiator();
        initiator.first(&setup.payloads[0]).unwrap();
        initiator.second(&second).unwrap();
        assert_eq!(initiator.third(b"").is_ok(), setup.mode.has_static());
    }
}

#[test]
fn the_mode_gets_the_keys_that_it_needs_and_no_others() {
    let (key, psk) = (StaticKey::from_secret([1; 32]), Psk::new([2; 32]));
    for mode in Mode::ALL {
        for (key, psk) in [
            (None, None),
            (Some(&key), None),
            (None, Some(&psk)),
            (Some(&key), Some(&psk)),
        ] {
            let right = key.is_some() == mode.has_static() && psk.is_some() == mode.has_psk();
            let initiator = Initiator::new(b"", mode, Suite::ChaChaPoly, key, psk, [3; 32]);
            let responder = Responder::new(b"", mode, Suite::ChaChaPoly, key, psk, [3; 32]);
            assert_eq!(initiator.err(), (!right).then_some(HandshakeError::Keys));
            assert_eq!(responder.err(), (!right).then_some(HandshakeError::Keys));
        }
    }
}

#[test]
fn payloads_and_messages_are_bounded() {
    for setup in all() {
        let (mut initiator, mut responder) = (setup.initiator(), setup.responder());
        // With the kind, and the hello before message 1, no message is longer than 4 KiB; one of 4 KiB can be made.
        let mut first = Vec::new();
        if setup.mode.has_static() {
            // It would go in the clear.
            assert_eq!(initiator.first(b"x"), Err(HandshakeError::Payload));
            first = initiator.first(b"").unwrap();
        } else {
            let room = MAX_MESSAGE - 1 - setup.hello.len() - 48;
            assert_eq!(initiator.first(&vec![0; room + 1]), Err(HandshakeError::Payload));
            first.extend(initiator.first(&vec![0; room]).unwrap());
            assert_eq!(1 + setup.hello.len() + first.len(), MAX_MESSAGE);
        }
        responder.first(&first).unwrap();
        let room = MAX_MESSAGE - 1 - if setup.mode.has_static() { 96 } else { 48 };
        assert_eq!(responder.second(&vec![0; room + 1]), Err(HandshakeError::Payload));
        let second = responder.second(&vec![0; room]).unwrap();
        assert_eq!(1 + second.len(), MAX_MESSAGE);
        assert_eq!(initiator.second(&second), Ok(vec![0; room]));
        if setup.mode.has_static() {
            let room = MAX_MESSAGE - 1 - 64;
            assert_eq!(initiator.third(&vec![0; room + 1]), Err(HandshakeError::Payload));
            assert_eq!(1 + initiator.third(&vec![0; room]).unwrap().len(), MAX_MESSAGE);
            assert_eq!(responder.third(&[0; MAX_MESSAGE + 1]), Err(HandshakeError::Refused));
        }
    }
    // What fits everywhere.
    let mut setup = Setup::new(Mode::Ticket, Suite::ChaChaPoly);
    setup.hello = vec![0; MAX_HELLO];
    assert!(setup.initiator().first(&[0; MAX_PAYLOAD]).is_ok());
}

#[test]
fn nothing_secret_is_shown() {
    let setup = Setup::new(Mode::Both, Suite::ChaChaPoly);
    assert_eq!(format!("{:?}", setup.initiator()), "Initiator { mode: Both, .. }");
    assert_eq!(format!("{:?}", setup.responder()), "Responder { mode: Both, .. }");
    assert_eq!(
        format!("{:?}", StaticKey::from_secret(setup.terminal_secret)),
        "StaticKey { .. }"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rubbish_is_refused_by_both_sides(bytes in proptest::collection::vec(any::<u8>(), 0..300), mode in 0..4usize) {
        let setup = Setup::new(Mode::ALL[mode], Suite::ChaChaPoly);
        let mut responder = setup.responder();
        // In mode 1 any 32 bytes are a key; nothing is proved by it.
        if setup.mode != Mode::Rsa || bytes.len() != 32 {
            prop_assert_eq!(responder.first(&bytes), Err(HandshakeError::Refused));
        }
        let mut initiator = setup.initiator();
        initiator.first(&setup.payloads[0]).unwrap();
        prop_assert_eq!(initiator.second(&bytes), Err(HandshakeError::Refused));
    }
}

/// The payloads of a real handshake (§4.5): times, credentials and a status report.
pub(crate) fn real(mode: Mode, suite: Suite) -> Setup {
    let (terminal, server) = (party("terminal-1", terminal(1)), party("server", server()));
    let report = Message::from(StatusReport::new(
        Trigger::of(tms_proto::code::TriggerKind::Manual),
        7,
        NOW,
    ))
    .to_vec();
    let mut first = Vec::new();
    let mut second = Writer::new();
    let mut third = Writer::new();
    second.uint(Tag(0x80), NOW);
    if mode.has_static() {
        second.constructed(Tag(0xA1), |out| out.raw(server.credentials.encode()));
        third.constructed(Tag(0xA1), |out| out.raw(terminal.credentials.encode()));
        third.raw(&report);
    } else {
        first = report;
    }
    let payloads = [first, second.into_vec(), third.into_vec()];
    let (terminal_secret, server_secret) = (terminal.secret, server.secret);
    Setup {
        terminal_secret,
        server_secret,
        payloads,
        ..Setup::new(mode, suite)
    }
}

/// Payload bytes of both sides, envelope and report not counted, against what the prototype measured.
#[test]
fn the_bytes_of_a_handshake_are_within_the_budget() {
    let remembered = |server: bool, terminal: bool| {
        let mut setup = real(Mode::Rsa, Suite::ChaChaPoly);
        let mut hello = hello(Mode::Rsa, Suite::ChaChaPoly);
        let mut second = Writer::new();
        second.uint(Tag(0x80), NOW);
        let credentials = party("server", crate::party::server()).credentials;
        if server {
            hello.remembered = Some(credentials.id());
        } else {
            second.constructed(Tag(0xA1), |out| out.raw(credentials.encode()));
        }
        let mut third = Writer::new();
        let credentials = party("terminal-1", crate::party::terminal(1)).credentials;
        if terminal {
            third.bytes(Tag(0x82), &credentials.id().0);
        } else {
            third.constructed(Tag(0xA1), |out| out.raw(credentials.encode()));
        }
        setup.hello = hello.encode();
        setup.payloads = [Vec::new(), second.into_vec(), third.into_vec()];
        total(&setup)
    };
    let nothing = remembered(false, false);
    let server = remembered(true, false);
    let both = remembered(true, true);

    let mut ticket = Setup::new(Mode::Ticket, Suite::ChaChaPoly);
    let mut time = Writer::new();
    time.uint(Tag(0x80), NOW);
    let time = time.into_vec();
    ticket.payloads = [Vec::new(), time.clone(), Vec::new()];
    let shared = total(&ticket);
    // The next ticket as the plan carries it: tag A6 in message 62.
    let mut next = Writer::new();
    let body = tms_proto::message::Ticket {
        id: [1; 16],
        key: Psk::new([2; 32]),
        lifetime: 2_592_000,
    };
    next.field(Tag(0xA6), &body);
    ticket.payloads[1] = [time, next.into_vec()].concat();
    let with_ticket = total(&ticket);

    println!("nothing remembered {nothing} (prototype 1984)");
    println!("server remembered {server} (prototype 1133)");
    println!("both remembered {both} (prototype 263)");
    println!("pre-shared {shared} (prototype 138), with the next ticket {with_ticket} (prototype 185)");
    assert!(nothing <= 1984, "{nothing}");
    assert!(server <= 1133, "{server}");
    assert!(both <= 263, "{both}");
    assert!(shared <= 138, "{shared}");
    // The prototype's ticket had neither a lifetime nor tags around its parts: twelve bytes more here.
    assert!(with_ticket <= 192, "{with_ticket}");
}

/// The payload bytes of a handshake's messages, with kind and hello.
fn total(setup: &Setup) -> usize {
    let messages = run(setup, setup, &mut honest).unwrap().messages;
    messages.iter().map(|message| 1 + message.len()).sum::<usize>() + setup.hello.len()
}
