//! Reports: whatever is counted or told of an estate as a whole.

use crate::{TODAY, Table};
use anyhow::Result;
use tms_core::estate::report::Reports;
use tms_core::estate::{Actor, CaseState, Estate};
use tms_core::store::{BranchPath, Dimension, RosterFilter, Seen};

pub(crate) async fn roster(estate: &Reports<'_>, table: &mut Table) -> Result<()> {
    use Dimension::{Branch, Merchant, Model, State, Vendor, Version};
    let head: BranchPath = "/".parse()?;
    let all = RosterFilter::under(head.clone());
    let region = RosterFilter::under("/r3".parse()?);
    let groups: [(&str, &[Dimension]); 8] = [
        ("standing, all together", &[]),
        ("standing by branch", &[Branch]),
        ("standing by vendor", &[Vendor]),
        ("standing by vendor and model", &[Vendor, Model]),
        ("standing by version", &[Version]),
        ("standing by merchant", &[Merchant]),
        ("standing by state", &[State]),
        ("standing by branch and model", &[Branch, Model]),
    ];
    for (name, by) in groups {
        table.add(name, || estate.standing(&all, by, 30)).await?;
        let name = format!("{name}, one region");
        table.add(&name, || estate.standing(&region, by, 30)).await?;
    }
    let model = RosterFilter {
        vendor: Some("PAX".to_owned()),
        model: Some("M00".to_owned()),
        ..all.clone()
    };
    table
        .add("standing by version, one model", || {
            estate.standing(&model, &[Version], 30)
        })
        .await?;
    let merchant = RosterFilter {
        merchant: Some(format!("{:015}", 100_000_000_000_003_u64)),
        ..all.clone()
    };
    table
        .add("standing of one merchant", || estate.standing(&merchant, &[], 30))
        .await?;
    table.add("versions", || estate.versions(&all)).await?;
    table.add("versions, one region", || estate.versions(&region)).await?;
    table
        .add("alive since a month", || estate.alive(&head, TODAY - 30))
        .await?;
    for seen in [Seen::Since(TODAY - 30), Seen::Before(TODAY - 30), Seen::Never] {
        let filter = RosterFilter {
            seen: Some(seen),
            ..all.clone()
        };
        table
            .add(&format!("count of {seen:?}"), || estate.count(&filter))
            .await?;
    }
    let serial = RosterFilter {
        serial: Some("12".to_owned()),
        ..all.clone()
    };
    table
        .add("count of serial numbers 12…", || estate.count(&serial))
        .await?;
    for days in [30, 400] {
        table
            .add(&format!("check-ins, {days} days"), || estate.check_ins(&head, days))
            .await?;
        table
            .add(&format!("failures, {days} days"), || estate.failures(&head, days))
            .await?;
    }
    Ok(())
}

pub(crate) async fn work(estate: &Estate, actor: &Actor, table: &mut Table) -> Result<()> {
    let head = BranchPath::head_office();
    table
        .add("progress of the task", || {
            estate.task_progress(actor, crate::work::TASK)
        })
        .await?;
    table
        .add("receipts of the text", || estate.text(actor, crate::work::TEXT))
        .await?;
    table
        .add("drift, counted", || estate.drift_counts(actor, &head))
        .await?;
    for state in CaseState::ALL {
        table
            .add(&format!("cases, {}", state.name()), || {
                estate.case_report(actor, &head, Some(state))
            })
            .await?;
    }
    table
        .add("cases, all", || estate.case_report(actor, &head, None))
        .await?;
    if let Some(list) = estate.stocktakings(actor, &head, 1).await?.pop() {
        table
            .add(&format!("{} findings of a list of assets", list.kept), || {
                estate.asset_report(actor, &list.id)
            })
            .await?;
    }
    Ok(())
}
