//! Tickets at rest: their keys are sealed by a key that only the servers hold, and bound to terminal and ticket.

use crate::entropy::Entropy;
use crate::store::{SealedTicket, TerminalId};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use std::fmt;
use tms_proto::secret::{Psk, Secret};
use zeroize::Zeroize;

/// The key under which the servers of an estate seal tickets. All nodes have the same; changing it costs every terminal
/// one full authentication.
#[derive(Clone)]
pub struct TicketKey(Secret<32>);

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

/// A new ticket: the terminal gets id and key, the store gets the sealed form.
pub(super) struct NewTicket {
    pub(super) id: [u8; 16],
    pub(super) key: Psk,
    pub(super) sealed: SealedTicket,
}

impl TicketKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Secret::new(key))
    }

    pub(super) fn issue(&self, terminal: TerminalId, expires: u64, entropy: &dyn Entropy) -> Option<NewTicket> {
        let (mut random, mut nonce, mut key) = ([0; 8], [0; 24], [0; 32]);
        entropy.fill(&mut random);
        entropy.fill(&mut nonce);
        entropy.fill(&mut key);
        let aad = aad(terminal, random);
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: &key, aad: &aad })
            .ok()?;
        let psk = Psk::new(key);
        key.zeroize();
        let sealed = SealedTicket {
            id: random,
            sealed: hex::encode(nonce) + &hex::encode(sealed),
            expires,
        };
        Some(NewTicket {
            id: ticket_id(terminal, random),
            key: psk,
            sealed,
        })
    }

    /// The ticket's key, or `None` where it was sealed under another key, for another terminal, or was changed.
    pub(super) fn open(&self, terminal: TerminalId, ticket: &SealedTicket) -> Option<Psk> {
        let sealed = hex::decode(&ticket.sealed).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let aad = aad(terminal, ticket.id);
        let mut key = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad })
            .ok()?;
        let psk = <[u8; 32]>::try_from(key.as_slice()).ok().map(Psk::new);
        key.zeroize();
        psk
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0.expose()))
    }
}

/// A ticket id names the terminal first, so that a call finds its terminal by the primary key (§4.6).
pub(super) fn ticket_id(terminal: TerminalId, random: [u8; 8]) -> [u8; 16] {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (terminal.0.to_be_bytes(), random);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// The terminal and the random half of a ticket id.
pub(super) fn split_ticket_id(id: &[u8]) -> Option<(TerminalId, [u8; 8])> {
    let (terminal, random) = id.split_first_chunk::<8>()?;
    Some((TerminalId(u64::from_be_bytes(*terminal)), random.try_into().ok()?))
}

fn aad(terminal: TerminalId, random: [u8; 8]) -> Vec<u8> {
    [b"tms ticket 1".as_slice(), &ticket_id(terminal, random)].concat()
}
