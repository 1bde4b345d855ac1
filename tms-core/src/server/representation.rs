//! Which representation of a content a terminal gets (§9.8).

use crate::store::{Assignment, Decoding, PackageRef, RepresentationRef, Terminal};
use tms_proto::code::Representation;
use tms_proto::digest::Digest;
use tms_proto::message::Inventory;

/// The most contents of a terminal that a delta may be against. Their digests stand in its record.
const MAX_BASES: usize = 32;

/// What a terminal with this inventory can make of representations.
#[must_use]
pub fn decoding(inventory: &Inventory) -> Decoding {
    let listed = inventory.capabilities.as_ref();
    let listed = listed.and_then(|capabilities| capabilities.representations.as_deref());
    let lists = |form: &Representation| listed.is_some_and(|listed| listed.contains(&u8::from(*form)));
    let known = [Representation::Zstd, Representation::Delta];
    let forms: Vec<Representation> = known.into_iter().filter(lists).collect();
    let mut bases = Vec::new();
    if forms.contains(&Representation::Delta) {
        bases = inventory
            .components
            .iter()
            .filter_map(|component| component.digest)
            .collect();
        bases.sort_unstable();
        bases.dedup();
        bases.truncate(MAX_BASES);
    }
    Decoding { forms, bases }
}

/// Whether a terminal can decode it, and has what it is against.
#[must_use]
pub fn decodes(decoding: &Decoding, representation: &RepresentationRef) -> bool {
    let listed = decoding.forms.contains(&representation.form);
    listed
        && match representation.form {
            Representation::Delta => representation.base.is_some_and(|base| has(decoding, &base)),
            _ => representation.base.is_none(),
        }
}

/// A package as an assignment of this terminal holds it: what is known not to fit needs no room there.
#[must_use]
pub fn fitting(mut package: PackageRef, terminal: &Terminal) -> PackageRef {
    let unknown = terminal.inventory.is_none();
    package
        .representations
        .retain(|representation| unknown || decodes(&terminal.decoding, representation));
    package
}

/// The smallest representation for a terminal, where one is smaller than the content itself.
#[must_use]
pub fn smallest<'a>(assignment: &'a Assignment, decoding: &Decoding) -> Option<&'a RepresentationRef> {
    let package = assignment.order.package()?;
    let fits =
        |representation: &&RepresentationRef| representation.size < package.size && decodes(decoding, representation);
    let all = package.representations.iter().filter(|_| !assignment.whole);
    all.filter(fits).min_by_key(|representation| representation.size)
}

fn has(decoding: &Decoding, base: &Digest) -> bool {
    decoding.bases.contains(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;
    use bytes::Bytes;
    use tms_proto::message::Capabilities;

    fn inventory(codes: Option<&'static [u8]>, digests: &[&[u8]]) -> Inventory {
        let mut inventory = sample::inventory(1).inventory;
        let component = inventory.components[0].clone();
        inventory.components = digests
            .iter()
            .map(|content| {
                let mut component = component.clone();
                component.digest = Some(Digest::of(content));
                component
            })
            .collect();
        inventory.capabilities = Some(Capabilities {
            representations: codes.map(Bytes::from_static),
            ..Capabilities::default()
        });
        inventory
    }

    fn coded(form: Representation, size: u64, base: Option<&[u8]>) -> RepresentationRef {
        RepresentationRef {
            form,
            object: Digest::of(&size.to_be_bytes()),
            size,
            base: base.map(Digest::of),
        }
    }

    /// The size of what a terminal with this inventory gets; none where that is the content.
    fn gets(inventory: &Inventory, whole: bool) -> Option<u64> {
        let mut assignment = sample::assignment(1, 1);
        assignment.whole = whole;
        assignment.order.package_mut().unwrap().size = 1_000;
        assignment.order.package_mut().unwrap().representations = vec![
            coded(Representation::Zstd, 500, None),
            coded(Representation::Delta, 50, Some(b"one")),
            coded(Representation::Delta, 40, Some(b"two")),
            coded(Representation::Delta, 600, Some(b"three")),
            coded(Representation::Delta, 10, None),
            coded(Representation::Other(9), 1, None),
        ];
        smallest(&assignment, &decoding(inventory)).map(|chosen| chosen.size)
    }

    #[test]
    fn the_smallest_is_taken_of_those_that_can_be_decoded() {
        for (codes, contents, expected) in [
            (None, &[&b"one"[..]][..], None),
            (Some(&[0][..]), &[b"one"], None),
            (Some(&[0, 1]), &[b"one"], Some(500)),
            (Some(&[0, 1, 2]), &[b"one"], Some(50)),
            (Some(&[0, 1, 2]), &[b"one", b"two"], Some(40)),
            (Some(&[2]), &[b"two"], Some(40)),
            (Some(&[0, 1, 2]), &[b"three"], Some(500)),
            (Some(&[0, 2]), &[b"four"], None),
            (Some(&[0, 1, 2, 9]), &[], Some(500)),
        ] {
            let inventory = inventory(codes, contents);
            assert_eq!(gets(&inventory, false), expected, "{codes:?} {contents:?}");
            assert_eq!(gets(&inventory, true), None);
        }
    }

    #[test]
    fn what_would_be_larger_than_the_content_is_not_taken() {
        let mut assignment = sample::assignment(1, 1);
        assignment.whole = false;
        assignment.order.package_mut().unwrap().size = 1_000;
        assignment.order.package_mut().unwrap().representations = vec![coded(Representation::Zstd, 1_000, None)];
        let decoding = decoding(&inventory(Some(&[0, 1, 2]), &[]));
        assert_eq!(smallest(&assignment, &decoding), None);
        assignment.order.package_mut().unwrap().representations[0].size = 999;
        assert!(smallest(&assignment, &decoding).is_some());
    }

    #[test]
    fn what_is_kept_of_an_inventory_is_bounded_and_in_one_order() {
        let contents: Vec<Vec<u8>> = (0..100u8).map(|number| vec![number]).collect();
        let mut contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let first = decoding(&inventory(Some(&[1, 2]), &contents));
        assert_eq!(first.bases.len(), MAX_BASES);
        contents.reverse();
        assert_eq!(decoding(&inventory(Some(&[2, 1]), &contents)), first);
        // Who decodes no deltas needs no bases.
        assert_eq!(decoding(&inventory(Some(&[0, 1]), &contents)).bases, []);
        assert!(decoding(&Inventory::default()).is_none());
    }
}
