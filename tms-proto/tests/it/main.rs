//! Properties and vectors of the wire.

mod arbitrary;
mod certificate;
mod credential;
mod docs;
mod envelope;
mod fixture;
mod handshake;
mod link;
mod message;
mod openssl;
mod package;
mod party;
mod public_key;
mod representation;
mod sample;
mod secure_vector;
mod session;
mod structure;
mod tlv;
mod transcript;
mod vector;
