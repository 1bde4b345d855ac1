//! How messages and secrets stand in the journal: in their own encoding, in hexadecimal.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tms_proto::tlv::Structure;

struct Encoded<T>(T);

impl<T: Structure> Serialize for Encoded<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.to_vec()))
    }
}

impl<'de, T: Structure> Deserialize<'de> for Encoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(text).map_err(D::Error::custom)?;
        T::from_slice(&bytes).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn serialize<T: Structure, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    Encoded(value).serialize(serializer)
}

pub(super) fn deserialize<'de, T: Structure, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Encoded::deserialize(deserializer).map(|encoded| encoded.0)
}

/// For `Vec<T>` and `Option<T>`.
pub(super) mod each {
    use super::{Deserialize, Deserializer, Encoded, Serializer, Structure};

    pub(in crate::agent) fn serialize<'a, C, T, S>(values: &'a C, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'a C: IntoIterator<Item = &'a T>,
        T: Structure + 'a,
        S: Serializer,
    {
        serializer.collect_seq(values.into_iter().map(Encoded))
    }

    pub(in crate::agent) fn deserialize<'de, C, T, D>(deserializer: D) -> Result<C, D::Error>
    where
        C: Collect<T>,
        T: Structure,
        D: Deserializer<'de>,
    {
        let values = Vec::<Encoded<T>>::deserialize(deserializer)?;
        Ok(C::collect(values.into_iter().map(|encoded| encoded.0)))
    }

    pub(in crate::agent) trait Collect<T> {
        fn collect(values: impl Iterator<Item = T>) -> Self;
    }

    impl<T> Collect<T> for Vec<T> {
        fn collect(values: impl Iterator<Item = T>) -> Self {
            values.collect()
        }
    }

    impl<T> Collect<T> for Option<T> {
        fn collect(mut values: impl Iterator<Item = T>) -> Self {
            values.next()
        }
    }
}

/// For a secret of 32 bytes. The journal stands in the terminal's protected memory, and nowhere else.
pub(super) mod secret {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;
    use tms_proto::secret::Secret;
    use zeroize::Zeroizing;

    pub(in crate::agent) fn serialize<S: Serializer>(secret: &Secret<32>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(secret.expose())))
    }

    pub(in crate::agent) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<32>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&*text, &mut *bytes).map_err(D::Error::custom)?;
        Ok(Secret::new(*bytes))
    }
}
