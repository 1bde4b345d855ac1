//! Strategies for every structure of a message.

use crate::structure::structures;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tms_proto::code::{
    ActionKind, ComponentKind, ComponentStatus, ErrorAction, EventKind, RegisterIntent, Representation, ResultCode,
    Stage, TextStatus, TriggerKind,
};
use tms_proto::digest::Digest;
use tms_proto::message::*;
use tms_proto::secret::Secret;

/// Something of which any value can be made.
pub(crate) trait Arbitrary: Sized {
    /// Any value.
    fn any() -> BoxedStrategy<Self>;
}

/// Integers, as often short as long, and the borders.
macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Arbitrary for $type {
            fn any() -> BoxedStrategy<Self> {
                prop_oneof![
                    (any::<Self>(), 0..Self::BITS).prop_map(|(value, shift)| value >> shift),
                    prop_oneof![Just(0), Just(0x7F), Just(0x80), Just(0xFF), Just(Self::MAX)],
                ]
                .boxed()
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64);

impl Arbitrary for i16 {
    fn any() -> BoxedStrategy<Self> {
        any::<Self>().boxed()
    }
}

impl Arbitrary for bool {
    fn any() -> BoxedStrategy<Self> {
        any::<Self>().boxed()
    }
}

impl Arbitrary for String {
    fn any() -> BoxedStrategy<Self> {
        vec(any::<char>(), 0..12).prop_map(Self::from_iter).boxed()
    }
}

impl Arbitrary for Bytes {
    fn any() -> BoxedStrategy<Self> {
        prop_oneof![8 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 100..300)]
            .prop_map(Self::from)
            .boxed()
    }
}

impl<const N: usize> Arbitrary for [u8; N] {
    fn any() -> BoxedStrategy<Self> {
        any::<Self>().boxed()
    }
}

impl<const N: usize> Arbitrary for Secret<N> {
    fn any() -> BoxedStrategy<Self> {
        any::<[u8; N]>().prop_map(Self::new).boxed()
    }
}

impl Arbitrary for Digest {
    fn any() -> BoxedStrategy<Self> {
        any::<[u8; 32]>().prop_map(Self).boxed()
    }
}

impl<T: Arbitrary + Clone + std::fmt::Debug + 'static> Arbitrary for Option<T> {
    fn any() -> BoxedStrategy<Self> {
        option::of(T::any()).boxed()
    }
}

impl<T: Arbitrary + std::fmt::Debug + 'static> Arbitrary for Vec<T> {
    fn any() -> BoxedStrategy<Self> {
        vec(T::any(), 0..3).boxed()
    }
}

/// Codes of this version and of later ones.
macro_rules! codes {
    ($($type:ty),*) => {$(
        impl Arbitrary for $type {
            fn any() -> BoxedStrategy<Self> {
                any::<u8>().prop_map(Self::from).boxed()
            }
        }
    )*};
}

codes!(
    ActionKind,
    ComponentKind,
    ComponentStatus,
    ErrorAction,
    EventKind,
    RegisterIntent,
    Representation,
    ResultCode,
    Stage,
    TextStatus,
    TriggerKind
);

/// Fields one inside the other, for tuples of strategies end at twelve.
macro_rules! nest {
    () => { Just(()) };
    ($first:ident $($rest:ident)*) => { (Arbitrary::any(), nest!($($rest)*)) };
}

macro_rules! nested {
    () => { () };
    ($first:ident $($rest:ident)*) => { ($first, nested!($($rest)*)) };
}

macro_rules! arbitrary {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Arbitrary for $name {
            fn any() -> BoxedStrategy<Self> {
                nest!($($field)*).prop_map(|nested!($($field)*)| Self { $($field),* }).boxed()
            }
        }
    )*};
}

structures!(arbitrary);

/// Any message, each kind as often as the others.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    fn of<T: Arbitrary + std::fmt::Debug + 'static>() -> BoxedStrategy<Message>
    where
        Message: From<T>,
    {
        T::any().prop_map(Message::from).boxed()
    }
    let kinds = vec![
        of::<StatusReport>(),
        of::<Plan>(),
        of::<PlanAck>(),
        of::<ObjectGet>(),
        of::<Credit>(),
        of::<ObjectStart>(),
        of::<ActionResult>(),
        of::<ResultAck>(),
        of::<Text>(),
        of::<TextReceipt>(),
        of::<Register>(),
        of::<RegisterAnswer>(),
        of::<KeyRequest>(),
        of::<KeyBlock>(),
        of::<KeyConfirm>(),
        of::<LogPart>(),
        of::<Event>(),
        of::<Reject>(),
        of::<Bye>(),
        of::<CertificateRequest>(),
        of::<CertificateGrant>(),
        of::<ProofRequest>(),
        of::<Proof>(),
    ];
    assert_eq!(kinds.len(), Message::TABLE.len(), "a kind of message has no strategy");
    proptest::strategy::Union::new(kinds)
}
