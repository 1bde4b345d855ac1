//! Reports tell of what the operator may see, and of nothing else.

use crate::world::{NOW, World, holder, operator};
use std::collections::BTreeMap;
use tms_core::estate::report::{OnDay, TerminalRow};
use tms_core::estate::{Account, Actor, Branch, Enrolment, Grant, Operator, Permission, Role};
use tms_core::store::{BranchPath, Change, Dimension, Event, Expect, RosterFilter, Seen, TerminalId};
use tms_core::testing::sample;

const DAY: u64 = 86_400;

fn path(text: &str) -> BranchPath {
    text.parse().unwrap()
}

/// Terminals in several branches, some of which called and whose certificates end; and an operator who sees the east and the
/// west, and takes files of the west alone.
async fn organisation() -> (World, Actor) {
    let world = World::new().await;
    let estate = &world.estate;
    for at in ["/east", "/east/harbour", "/east2", "/west"] {
        let branch = Branch {
            path: path(at),
            name: at.to_owned(),
            zone: None,
            variables: BTreeMap::new(),
        };
        estate.put_branch(&operator(), branch).await.unwrap();
    }
    for (number, at) in ["/", "/east", "/east/harbour", "/east2", "/west"]
        .into_iter()
        .cycle()
        .take(25)
        .enumerate()
    {
        let enrolment = Enrolment {
            branch: path(at),
            ..Enrolment::of(holder(&format!("{number:04}")))
        };
        let id = estate.enrol(&operator(), enrolment).await.unwrap();
        if number % 3 > 0 {
            let mut inventory = sample::inventory(id.0);
            inventory.inventory.components[0].expiry = Some(NOW + (30 + number as u64 % 7) * DAY);
            let checked_in = Event {
                actor: "test".to_owned(),
                ..sample::checked_in(id.0, NOW - (number as u64 % 4) * DAY)
            };
            let inventory_came = Event {
                kind: tms_core::store::EventKind::InventoryReported,
                ..checked_in.clone()
            };
            let changes = vec![
                Change::Put(Expect::Absent, inventory.into()),
                Change::Append(checked_in),
                Change::Append(inventory_came),
            ];
            world.store.commit(changes).await.unwrap();
        }
    }
    while estate.roll_up(1_000).await.unwrap().events > 0 {}
    for (name, permissions) in [
        ("viewer", &[Permission::View][..]),
        ("exporter", &[Permission::View, Permission::Export]),
    ] {
        let role = Role {
            name: name.to_owned(),
            permissions: permissions.iter().copied().collect(),
        };
        estate.put_role(&operator(), role).await.unwrap();
    }
    let grant = |role: &str, at: &str| Grant {
        role: role.to_owned(),
        branch: path(at),
    };
    let li = Operator {
        name: "li".to_owned(),
        full_name: "Li".to_owned(),
        branch: path("/"),
        grants: [grant("viewer", "/east"), grant("exporter", "/west")].into(),
        account: Account::External,
        suspended: false,
        failures: 0,
        locked_until: None,
    };
    estate.put_operator(&operator(), li).await.unwrap();
    let li = estate.sign_in_vouched("li").await.unwrap();
    (world, li)
}

fn is_seen(branch: &BranchPath) -> bool {
    path("/east").covers(branch) || path("/west").covers(branch)
}

#[tokio::test]
async fn lists_and_numbers_end_where_the_right_does() {
    let (world, li) = organisation().await;
    let (all, root) = (RosterFilter::under(path("/")), operator());
    let (everything, seen) = (world.estate.reports(&root), world.estate.reports(&li));
    for when in [None, Some(Seen::Never), Some(Seen::Since(everything.since(2)))] {
        let filter = RosterFilter {
            seen: when,
            ..all.clone()
        };
        let rows = everything.terminals(&filter, None, 100).await.unwrap().rows;
        let expected: Vec<TerminalRow> = rows.into_iter().filter(|row| is_seen(&row.branch)).collect();
        assert!(expected.len() > 1);
        assert_eq!(seen.count(&filter).await.unwrap(), expected.len() as u64);
        for limit in [1, 2, 3, 100] {
            let (mut found, mut next) = (Vec::new(), None);
            loop {
                let page = seen.terminals(&filter, next.as_deref(), limit).await.unwrap();
                found.extend(page.rows);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{limit}");
        }
    }
    // A cursor of somebody else's list leads nowhere that is not theirs.
    let other = everything
        .terminals(&RosterFilter::under(path("/east2")), None, 1)
        .await
        .unwrap();
    let page = seen.terminals(&all, other.next.as_deref(), 100).await.unwrap();
    assert!(page.rows.iter().all(|row| path("/west").covers(&row.branch)));
    // Asked for one branch, they get that one, or nothing at all.
    assert_eq!(
        seen.count(&RosterFilter::under(path("/east/harbour"))).await.unwrap(),
        5
    );
    assert_eq!(seen.count(&RosterFilter::under(path("/east2"))).await.unwrap(), 0);
    // What they take out as a file is of the west.
    let file = seen.clone().exported().terminals(&all, None, 100).await.unwrap();
    assert_eq!(file.rows.len(), 5);
    assert!(file.rows.iter().all(|row| row.branch == path("/west")));
}

#[tokio::test]
async fn sums_are_of_what_is_seen() {
    let (world, li) = organisation().await;
    let (all, root) = (path("/"), operator());
    let (everything, seen) = (world.estate.reports(&root), world.estate.reports(&li));
    let filter = RosterFilter::under(all.clone());
    let parts = ["/east", "/west"].map(path);
    let rows = async |by: &[Dimension]| seen.standing(&filter, by, 2).await.unwrap();
    let mut expected = 0;
    for part in &parts {
        let report = everything
            .standing(&RosterFilter::under(part.clone()), &[], 2)
            .await
            .unwrap();
        expected += report.rows[0].alive;
    }
    let together = rows(&[]).await;
    assert_eq!((together.terminals, together.rows[0].alive), (15, expected));
    let branches = rows(&[Dimension::Branch]).await;
    let names: Vec<_> = branches.rows.iter().map(|row| row.branch.clone().unwrap()).collect();
    assert_eq!(names, ["/east/", "/east/harbour/", "/west/"]);

    let report = seen.check_ins(&all, 5).await.unwrap();
    assert_eq!((report.rows.len(), report.terminals), (5, 15));
    for row in &report.rows {
        let mut expected = 0;
        for part in &parts {
            let of_part = everything.check_ins(part, 5).await.unwrap();
            expected += of_part
                .rows
                .iter()
                .find(|other| other.day == row.day)
                .unwrap()
                .check_ins;
        }
        assert_eq!(row.check_ins, expected, "{:?}", row.day);
    }
    assert!(report.rows.iter().map(|row| row.check_ins).sum::<u64>() > 5);
    let OnDay(today) = report.rows[4].day;
    assert_eq!(seen.alive(&all, today - 1).await.unwrap(), (expected, 15));
    assert!(seen.failures(&all, 5).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn what_ends_soon_is_found_from_every_branch() {
    let (world, li) = organisation().await;
    let (all, root) = (path("/"), operator());
    let (everything, seen) = (world.estate.reports(&root), world.estate.reports(&li));
    let rows = everything.expiring(&all, 400, None, 100).await.unwrap().rows;
    assert!(rows.len() > 10);
    let ids = |rows: &[tms_core::estate::report::ExpiryRow]| -> Vec<TerminalId> {
        rows.iter()
            .map(|row| TerminalId(u64::from_str_radix(&row.terminal, 16).unwrap()))
            .collect()
    };
    for (whole, under) in [
        (true, "/east"),
        (true, "/east/harbour"),
        (false, "/"),
        (false, "/east2"),
    ] {
        let (reports, under) = (if whole { &everything } else { &seen }, path(under));
        let told = |branch: &BranchPath| under.covers(branch) && (whole || is_seen(branch));
        let expected: Vec<_> = rows.iter().filter(|row| told(&row.branch)).cloned().collect();
        for limit in [1, 2, 100] {
            let (mut found, mut next) = (Vec::new(), None);
            loop {
                let page = reports.expiring(&under, 400, next.as_deref(), limit).await.unwrap();
                found.extend(page.rows);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(ids(&found), ids(&expected), "{under} {limit}");
        }
    }
}
