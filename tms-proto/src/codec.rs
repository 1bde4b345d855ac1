//! The envelope as a `tokio_util` codec, for gateways that only forward frames (protocol §2).
//!
//! Sessions do not need it: they take bytes as they come.

use crate::envelope::{Envelope, EnvelopeError, Frame};
use bytes::{Buf, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// Why a gateway's line failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent what is not an envelope, or a frame does not fit into one. The offset counts from the start of the
    /// frame: a codec does not know what came before.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Skips keep-alives. A decoding error ends the stream, which has no mark to find the way back by.
impl Decoder for Envelope {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        while let Some(span) = self.scan(source)? {
            if span.payload.is_empty() {
                source.advance(span.total);
            } else {
                let payload = source.split_to(span.total).freeze().slice(span.payload);
                return Ok(Some(Frame {
                    tpdu: span.tpdu,
                    payload,
                }));
            }
        }
        Ok(None)
    }
}

/// Sends a frame with the TPDU that it holds, or with the profile's own where it holds none.
impl Encoder<Frame> for Envelope {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        let length = self.check(frame.tpdu, frame.payload.len())?;
        out.reserve(self.overhead() + frame.payload.len());
        self.write(length, frame.tpdu.or(self.tpdu), &frame.payload, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{EnvelopeErrorKind, Tpdu};
    use bytes::Bytes;

    fn encode(mut envelope: Envelope, frame: Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        Encoder::encode(&mut envelope, frame, out)
    }

    #[test]
    fn frames_pass_from_one_profile_to_another() {
        let mut access = Envelope::STX_BCD;
        let tpdu = Some(Tpdu {
            destination: [0x01, 0x34],
            source: [0x80, 0x05],
        });
        let payload = Bytes::from_static(b"forwarded");
        let mut line = BytesMut::from(&*access.keep_alive());
        encode(
            access,
            Frame {
                tpdu,
                payload: payload.clone(),
            },
            &mut line,
        )
        .unwrap();
        let cut = line.split_off(line.len() - 1);

        assert_eq!(access.decode(&mut line).unwrap(), None);
        line.unsplit(cut);
        let frame = access.decode(&mut line).unwrap().unwrap();
        assert_eq!(frame, Frame { tpdu, payload });
        assert!(line.is_empty());

        let mut out = BytesMut::new();
        encode(Envelope::TCP, Frame { tpdu: None, ..frame }, &mut out).unwrap();
        assert_eq!(out[..], *b"\x00\x09forwarded");
    }

    #[test]
    fn errors_come_through() {
        let mut access = Envelope::STX_BCD;
        let error = access.decode(&mut BytesMut::from(&b"GET / HTTP/1.1"[..])).unwrap_err();
        assert!(matches!(
            error,
            CodecError::Envelope(EnvelopeError {
                kind: EnvelopeErrorKind::Stx,
                offset: 0
            })
        ));
        let error = encode(
            access,
            Frame {
                tpdu: None,
                payload: Bytes::new(),
            },
            &mut BytesMut::new(),
        )
        .unwrap_err();
        assert!(matches!(
            error,
            CodecError::Envelope(EnvelopeError {
                kind: EnvelopeErrorKind::Empty,
                offset: 0
            })
        ));
    }
}
