//! What is said in the clear (§4.1, §4.2, §4.7): the hello, and the answers that come before any cryptography.

use super::MAX_HELLO;
use crate::code::ResultCode;
use crate::identity::CredentialId;
use crate::record::{MAX_PLAINTEXT, MIN_PLAINTEXT};
use crate::tlv;
use crate::tlv::{DecodeError, DecodeErrorKind, Element, Tag, Value, Writer, split};
use alloc::vec::Vec;
use bytes::Bytes;

const HELLO: Tag = Tag(0x60);
const BUSY: Tag = Tag(0x65);
const REFUSE: Tag = Tag(0x66);
const PATIENCE: Tag = Tag(0x67);

/// The first byte of a handshake message (§4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind;

impl Kind {
    /// Terminal to server: clear hello and Noise message 1.
    pub const HELLO: u8 = 0x01;
    /// Server to terminal: Noise message 2.
    pub const RESPONSE: u8 = 0x02;
    /// Terminal to server: Noise message 3, in modes 1 and 4.
    pub const FINAL: u8 = 0x03;
    /// Server to terminal, in place of a response: [`Busy`].
    pub const BUSY: u8 = 0x05;
    /// Server to terminal, in place of a response: [`Refuse`].
    pub const REFUSE: u8 = 0x06;
    /// Server to terminal, before a response: [`Patience`].
    pub const PATIENCE: u8 = 0x07;
}

/// Who proves what, and by what (§4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// RSA identities on both sides (Noise `XX`).
    Rsa = 1,
    /// The terminal main-control key (Noise `NNpsk0`).
    MainKey = 2,
    /// A resumption ticket (Noise `NNpsk0`).
    Ticket = 3,
    /// RSA identities and the main-control key (Noise `XXpsk3`).
    Both = 4,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Rsa, Self::MainKey, Self::Ticket, Self::Both];

    /// Whether a pre-shared key takes part.
    #[must_use]
    pub const fn has_psk(self) -> bool {
        matches!(self, Self::MainKey | Self::Ticket | Self::Both)
    }

    /// Whether static keys take part, and with them a third message.
    #[must_use]
    pub const fn has_static(self) -> bool {
        matches!(self, Self::Rsa | Self::Both)
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Rsa => 1,
            Self::MainKey => 2,
            Self::Ticket => 3,
            Self::Both => 4,
        }
    }

    /// The mode with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Rsa,
            2 => Self::MainKey,
            3 => Self::Ticket,
            4 => Self::Both,
            _ => return None,
        })
    }
}

impl Value for Mode {
    fn write(&self, tag: Tag, out: &mut Writer) {
        out.bytes(tag, &[self.code()]);
    }

    fn read(element: Element<'_>, _: &mut usize) -> Result<Self, DecodeError> {
        match element.value {
            [code] => Self::from_code(*code).ok_or_else(|| element.malformed()),
            _ => Err(element.malformed()),
        }
    }
}

/// The ciphers of a handshake and of the records after it. Key agreement is X25519 and the hash SHA-256 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `25519_ChaChaPoly_SHA256`: the default.
    ChaChaPoly = 1,
    /// `25519_AESGCM_SHA256`: where both sides have AES instructions.
    AesGcm = 2,
}

impl Suite {
    /// All suites.
    pub const ALL: [Self; 2] = [Self::ChaChaPoly, Self::AesGcm];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ChaChaPoly => 1,
            Self::AesGcm => 2,
        }
    }

    /// The suite with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::ChaChaPoly,
            2 => Self::AesGcm,
            _ => return None,
        })
    }
}

tlv! {
    /// The clear hello (§4.2). Its bytes, exactly as sent, are the prologue: whoever changes one of them on the way
    /// breaks the handshake.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Hello {
        /// Versions that the terminal speaks, one a byte. The first is the one that this message uses.
        pub versions: Bytes = 0x80,
        /// Suites that it has, one a byte. The first is the one that this message uses.
        pub suites: Bytes = 0x81,
        /// The mode.
        pub mode: Mode = 0x82,
        /// The ticket's id (16 bytes, mode 3) or the terminal's (8 bytes, modes 2 and 4).
        pub id: Option<Bytes> = 0x83,
        /// The epoch of the key derived from the main-control key (modes 2 and 4).
        pub epoch: Option<u32> = 0x84,
        /// The server's credentials that the terminal remembers (modes 1 and 4).
        pub remembered: Option<CredentialId> = 0x85,
        /// The largest record plaintext that the terminal takes, in bytes; absent for the largest there is.
        pub max_record: Option<u16> = 0x86,
    }

    /// Come back later (§4.7): said before any public-key work.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Busy {
        /// Seconds to wait.
        pub retry_after: u32 = 0x80,
        /// Why, for the log.
        pub reason: Option<ResultCode> = 0x81,
    }

    /// No (§4.7). For whatever has to do with keys the code is [`ResultCode::SecurityError`] and nothing else is said.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Refuse {
        /// Why.
        pub code: ResultCode = 0x80,
        /// The versions that the server speaks, one a byte, where that is the trouble.
        pub versions: Option<Bytes> = 0x81,
        /// The suites that the server has, one a byte, where that is the trouble.
        pub suites: Option<Bytes> = 0x82,
    }

    /// An answer will come, but not at once (§4.7). The terminal extends its time-out, one time.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Patience {
        /// By how many seconds.
        pub seconds: u16 = 0x80,
    }
}

impl Hello {
    /// A hello of this version.
    #[must_use]
    pub fn new(mode: Mode, suites: &[Suite]) -> Self {
        Self {
            versions: Bytes::from_static(&[super::VERSION]),
            suites: suites.iter().map(|suite| suite.code()).collect(),
            mode,
            id: None,
            epoch: None,
            remembered: None,
            max_record: None,
        }
    }

    /// The version that this message uses.
    #[must_use]
    pub fn version(&self) -> Option<u8> {
        self.versions.first().copied()
    }

    /// The suite that this message uses, if this implementation has it.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        self.suites.first().and_then(|code| Suite::from_code(*code))
    }

    /// The ticket's id, in mode 3. Its first eight bytes are the terminal's id.
    #[must_use]
    pub fn ticket(&self) -> Option<[u8; 16]> {
        self.id.as_deref().and_then(|id| id.try_into().ok())
    }

    /// The terminal's id, in modes 2 to 4: as claimed, until the handshake is done.
    #[must_use]
    pub fn terminal(&self) -> Option<u64> {
        self.id
            .as_deref()
            .and_then(|id| id.first_chunk())
            .map(|id| u64::from_be_bytes(*id))
    }

    /// The largest record plaintext that the terminal takes, in bytes.
    #[must_use]
    pub fn record_limit(&self) -> usize {
        self.max_record
            .map_or(MAX_PLAINTEXT, |limit| usize::from(limit).min(MAX_PLAINTEXT))
    }

    /// The encoding, tag and length included: what goes on the line and into the prologue.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(HELLO, self)
    }

    /// Reads the hello at the start of `bytes`, and says how many bytes it takes; what follows is Noise message 1.
    ///
    /// # Errors
    /// Where the hello is malformed, longer than [`MAX_HELLO`], or does not have the fields that its mode needs and
    /// only these.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let bytes = bytes.get(..MAX_HELLO).unwrap_or(bytes);
        let (element, rest) = split(bytes, 0)?;
        let used = bytes.len() - rest.len();
        if element.tag != HELLO {
            return Err(DecodeError::new(DecodeErrorKind::Unexpected(element.tag), 0));
        }
        let hello = Self::read(element, &mut 0)?;
        let malformed = |tag| Err(DecodeError::new(DecodeErrorKind::Value(Tag(tag)), element.offset));
        let id = hello.id.as_ref().map(Bytes::len);
        let wanted = match hello.mode {
            Mode::Rsa => None,
            Mode::MainKey | Mode::Both => Some(8),
            Mode::Ticket => Some(16),
        };
        if hello.versions.is_empty() || hello.versions.len() > 16 {
            return malformed(0x80);
        }
        if hello.suites.is_empty() || hello.suites.len() > 16 {
            return malformed(0x81);
        }
        if id != wanted {
            return malformed(0x83);
        }
        if hello.epoch.is_some() != matches!(hello.mode, Mode::MainKey | Mode::Both) {
            return malformed(0x84);
        }
        if hello.remembered.is_some() && !hello.mode.has_static() {
            return malformed(0x85);
        }
        if hello.max_record.is_some_and(|limit| usize::from(limit) < MIN_PLAINTEXT) {
            return malformed(0x86);
        }
        Ok((hello, used))
    }
}

macro_rules! answers {
    ($($name:ident = $tag:ident),* $(,)?) => {$(
        impl $name {
            /// The encoding, tag and length included; the kind goes before it.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                encode($tag, self)
            }

            /// Reads what follows the kind.
            ///
            /// # Errors
            /// Where `bytes` is not exactly one such answer.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode($tag, bytes)
            }
        }
    )*};
}

answers!(Busy = BUSY, Refuse = REFUSE, Patience = PATIENCE);

fn encode<T: Value>(tag: Tag, value: &T) -> Vec<u8> {
    let mut out = Writer::new();
    value.write(tag, &mut out);
    out.into_vec()
}

fn decode<T: Value>(tag: Tag, bytes: &[u8]) -> Result<T, DecodeError> {
    let (element, rest) = split(bytes, 0)?;
    if element.tag != tag {
        return Err(DecodeError::new(DecodeErrorKind::Unexpected(element.tag), 0));
    }
    if !rest.is_empty() {
        return Err(DecodeError::new(DecodeErrorKind::Trailing, bytes.len() - rest.len()));
    }
    T::read(element, &mut 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv::Structure;

    fn hello(mode: Mode) -> Hello {
        let mut hello = Hello::new(mode, &[Suite::ChaChaPoly, Suite::AesGcm]);
        match mode {
            Mode::Rsa => hello.remembered = Some(CredentialId([9; 16])),
            Mode::MainKey => (hello.id, hello.epoch) = (Some(Bytes::from_static(&[1; 8])), Some(7)),
            Mode::Ticket => hello.id = Some(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3])),
            Mode::Both => (hello.id, hello.epoch) = (Some(Bytes::from_static(&[1; 8])), Some(0)),
        }
        hello
    }

    #[test]
    fn a_hello_of_each_mode_survives_and_says_where_it_ends() {
        for mode in Mode::ALL {
            let hello = hello(mode);
            let mut bytes = hello.encode();
            let used = bytes.len();
            assert_eq!(bytes[0], 0x60);
            bytes.extend([0xEE; 40]);
            assert_eq!(Hello::decode(&bytes), Ok((hello.clone(), used)));
            assert_eq!(hello.suite(), Some(Suite::ChaChaPoly));
            assert_eq!(hello.version(), Some(1));
        }
        assert_eq!(hello(Mode::Ticket).terminal(), Some(0x0102));
        assert_eq!(hello(Mode::Rsa).terminal(), None);
    }

    #[test]
    fn a_hello_has_the_fields_of_its_mode_and_no_others() {
        let refused = |change: &dyn Fn(&mut Hello), mode| {
            let mut hello = hello(mode);
            change(&mut hello);
            Hello::decode(&hello.encode()).unwrap_err().kind
        };
        let wrong = |tag| DecodeErrorKind::Value(Tag(tag));
        let short = Some(Bytes::from_static(&[1; 8]));
        assert_eq!(refused(&|hello| hello.id.clone_from(&short), Mode::Rsa), wrong(0x83));
        assert_eq!(refused(&|hello| hello.id.clone_from(&short), Mode::Ticket), wrong(0x83));
        assert_eq!(refused(&|hello| hello.id = None, Mode::MainKey), wrong(0x83));
        assert_eq!(refused(&|hello| hello.epoch = None, Mode::Both), wrong(0x84));
        assert_eq!(refused(&|hello| hello.epoch = Some(1), Mode::Ticket), wrong(0x84));
        assert_eq!(
            refused(&|hello| hello.remembered = Some(CredentialId([0; 16])), Mode::Ticket),
            wrong(0x85)
        );
        assert_eq!(refused(&|hello| hello.max_record = Some(127), Mode::Rsa), wrong(0x86));
        assert_eq!(refused(&|hello| hello.versions = Bytes::new(), Mode::Rsa), wrong(0x80));
        assert_eq!(
            refused(&|hello| hello.suites = Bytes::from_static(&[1; 17]), Mode::Rsa),
            wrong(0x81)
        );
    }

    #[test]
    fn an_unknown_mode_is_refused_and_an_unknown_suite_is_seen() {
        let mut bytes = hello(Mode::Rsa).encode();
        let at = bytes.windows(3).position(|bytes| bytes == [0x82, 1, 1]).unwrap() + 2;
        bytes[at] = 5;
        assert_eq!(
            Hello::decode(&bytes).unwrap_err().kind,
            DecodeErrorKind::Value(Tag(0x82))
        );
        let mut later = hello(Mode::Rsa);
        later.suites = Bytes::from_static(&[9, 1]);
        let (later, _) = Hello::decode(&later.encode()).unwrap();
        assert_eq!(later.suite(), None);
    }

    #[test]
    fn a_hello_is_bounded_before_it_is_read() {
        let mut out = Writer::new();
        out.constructed(HELLO, |out| {
            hello(Mode::Rsa).write_fields(out);
            out.bytes(Tag(0x9F40), &[0; 256]);
        });
        assert_eq!(
            Hello::decode(&out.into_vec()).unwrap_err().kind,
            DecodeErrorKind::Truncated
        );
    }

    #[test]
    fn the_record_limit_never_exceeds_ours() {
        let mut hello = hello(Mode::Rsa);
        assert_eq!(hello.record_limit(), MAX_PLAINTEXT);
        hello.max_record = Some(u16::MAX);
        assert_eq!(hello.record_limit(), MAX_PLAINTEXT);
        hello.max_record = Some(1024);
        assert_eq!(hello.record_limit(), 1024);
    }

    #[test]
    fn clear_answers_survive() {
        let busy = Busy {
            retry_after: 90,
            reason: Some(ResultCode::Busy),
        };
        assert_eq!(busy.encode(), [0x65, 6, 0x80, 1, 90, 0x81, 1, 40]);
        assert_eq!(Busy::decode(&busy.encode()), Ok(busy));
        let refuse = Refuse {
            code: ResultCode::SecurityError,
            versions: None,
            suites: None,
        };
        assert_eq!(refuse.encode(), [0x66, 3, 0x80, 1, 21]);
        assert_eq!(Refuse::decode(&refuse.encode()), Ok(refuse));
        let patience = Patience { seconds: 20 };
        assert_eq!(patience.encode(), [0x67, 3, 0x80, 1, 20]);
        assert_eq!(Patience::decode(&patience.encode()), Ok(patience));
        assert_eq!(
            Patience::decode(&busy.encode()).unwrap_err().kind,
            DecodeErrorKind::Unexpected(BUSY)
        );
        let long = [patience.encode(), patience.encode()].concat();
        assert_eq!(Patience::decode(&long).unwrap_err().kind, DecodeErrorKind::Trailing);
    }
}
