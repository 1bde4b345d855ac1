//! Keys and certificates (§7.9): opaque TR-31 or TR-34 blocks, certificate renewal, and the live proof.

use crate::code::ResultCode;
use crate::digest::Digest;
use crate::tlv;
use alloc::string::String;
use bytes::Bytes;

tlv! {
    /// Terminal to server: asks for a key. Only after full authentication (modes 1 and 4).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyRequest {
        /// Slot number.
        pub slot: u16 = 0x80,
        /// Usage, as the two characters of a TR-31 header.
        pub usage: String = 0x81,
        /// The receiver's random number or certificate, as the scheme asks for.
        pub block: Option<Bytes> = 0x82,
    }

    /// Server to terminal: a key block, opaque to both sessions.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyBlock {
        /// Slot number.
        pub slot: u16 = 0x80,
        /// The TR-31 or TR-34 block.
        pub block: Bytes = 0x81,
    }

    /// Terminal to server: the key is in the PIN pad, or why not.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyConfirm {
        /// Slot number.
        pub slot: u16 = 0x80,
        /// How it went.
        pub code: ResultCode = 0x81,
        /// Key check value.
        pub check_value: Option<Bytes> = 0x82,
    }

    /// Terminal to server: asks for a new certificate for the key that it has.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CertificateRequest {
        /// Digest of the terminal's public key.
        pub key: Digest = 0x80,
    }

    /// Server to terminal: the new certificate, or why there is none yet.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CertificateGrant {
        /// How it went.
        pub code: ResultCode = 0x80,
        /// The card-verifiable certificate, encoded.
        pub certificate: Option<Bytes> = 0x81,
    }

    /// Server to terminal: sign the handshake hash with the RSA identity.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ProofRequest {
        /// Why, for the log.
        pub reason: Option<String> = 0x80,
    }

    /// Terminal to server: RSA-PSS over the handshake hash.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Proof {
        /// The signature.
        pub signature: Bytes = 0x80,
    }
}
