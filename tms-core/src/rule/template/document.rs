//! Parameters as a terminal gets them: one encoding for one set of values.

use super::render::Rendering;
use super::value::{Sealed, Value};
use std::fmt;
use tms_proto::digest::Digest;
use tms_proto::tlv;
use tms_proto::tlv::{DecodeError, Structure, Tag, Writer};
use zeroize::Zeroizing;

tlv! {
    /// A parameter set as a terminal gets it, in ascending order of names. Its digest is what the terminal reports.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Document {
        /// The template's name.
        pub template: String = 0x80,
        /// The parameters.
        pub parameters: Vec<Parameter> = 0xA1,
    }

    /// One parameter.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Parameter {
        /// Its name.
        pub name: String = 0x80,
        /// Its kind's one-byte code.
        pub kind: u8 = 0x81,
        /// Its value, in its kind's one form.
        pub value: String = 0x82,
    }
}

impl fmt::Debug for Parameter {
    /// Without the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameter")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Document {
    /// Encodes a rendering, with its secrets opened by `open`, which is told the parameter, and gives the digest that a terminal with exactly these
    /// parameters reports. The encoding has secrets in it: it is made when it is sent, and not kept.
    ///
    /// # Errors
    /// What `open` fails with.
    pub fn encode<E>(
        rendering: &Rendering,
        open: impl Fn(&str, &Sealed) -> Result<Zeroizing<String>, E>,
    ) -> Result<(Zeroizing<Vec<u8>>, Digest), E> {
        let mut out = Writer::new();
        out.bytes(Tag(0x80), rendering.template.as_bytes());
        for (name, rendered) in &rendering.values {
            let opened;
            let value = match &rendered.value {
                Value::Plain(text) => text,
                Value::Sealed(sealed) => {
                    opened = open(name, sealed)?;
                    &*opened
                }
            };
            out.constructed(Tag(0xA1), |out| {
                out.bytes(Tag(0x80), name.as_bytes());
                out.uint(Tag(0x81), u64::from(rendered.kind));
                out.bytes(Tag(0x82), value.as_bytes());
            });
        }
        let encoded = Zeroizing::new(out.into_vec());
        let digest = Digest::of(&encoded);
        Ok((encoded, digest))
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        Self::from_slice(encoded)
    }
}
