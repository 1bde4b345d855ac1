//! Case 3: a terminal that was moved without leave.

use crate::bank::Bank;
use crate::story::Story;
use anyhow::{Context, Result, ensure};
use tms_core::estate::{CaseState, Disposition};
use tms_core::rule::relocation::{CaseKind, ObservedCaller};
use tms_core::store::BranchPath;

/// How many days it takes.
pub(crate) const DAYS: u32 = 10;

/// Which terminal: the first of Beilun.
const WHICH: usize = 2;

/// The number at which it stands then: in another city.
const ELSEWHERE: &str = "02155507788";

pub(crate) async fn tell(bank: &mut Bank, story: &mut Story) -> Result<Vec<String>> {
    story.heading(
        "Case 3  A terminal that was moved without leave is found",
        &[
            "When it registered, the number that a terminal called from was noted. A merchant who lends the terminal to somebody",
            "in another city does not say so; but the terminal calls, and the exchange tells from where. Nobody is blocked by a",
            "number alone: there is a case, with its evidence, and a person who looks into it.",
        ],
    );
    let away = bank.life.time(2, 20);
    bank.life.until(away).await?;
    let open = bank
        .estate()
        .cases(&bank.people.li, &"/ningbo".parse()?, CaseState::Open, 10)
        .await?;
    ensure!(open.is_empty(), "nobody is under suspicion who stands where it was put");
    let moved = bank.life.members.get_mut(WHICH).context("a terminal of Beilun")?;
    let (label, home, id) = (moved.shop.label(), moved.line.clone(), moved.id);
    moved.line = ELSEWHERE.to_owned();
    story.at(
        away,
        "nobody",
        format!("says that {label} of {} is carried to another city", moved.shop.name),
    );
    bank.life.until(bank.life.time(8, 18)).await?;

    let (li, estate) = (&bank.people.li, bank.estate());
    let ningbo: BranchPath = "/ningbo".parse()?;
    let open = estate.cases(li, &ningbo, CaseState::Open, 10).await?;
    let [case] = &open[..] else {
        anyhow::bail!("{} cases are open, one is expected", open.len());
    };
    ensure!(
        case.terminal == id && case.data.kind == CaseKind::Relocation,
        "the case is about the terminal that was moved"
    );
    let limit = estate.case_settings().await?.policy.threshold;
    story.at(
        case.opened,
        "estate",
        format!(
            "opens case {}: {} points, and {limit} open one",
            case.id, case.data.score
        ),
    );
    let known = estate.whereabouts(li, id).await?.context("it has registered")?;
    let rows: Vec<_> = known
        .sightings
        .iter()
        .map(|seen| {
            let number = match &seen.observed.caller {
                Some(ObservedCaller::Known { number, .. }) => number.clone(),
                _ => "not told".to_owned(),
            };
            [
                story.moment(seen.time),
                number,
                seen.observed.line.clone().unwrap_or_default(),
            ]
        })
        .collect();
    story.table(
        "3-whereabouts",
        &format!("Where {label} was seen; it is registered at {home}"),
        ["when", "calls from", "line"],
        rows,
    )?;
    let report = estate.case_report(li, &ningbo, None).await?;
    story.report_of(
        "3-cases",
        "What li finds: whom to visit, and why",
        &report,
        &[
            "score", "state", "branch", "vendor", "model", "serial", "merchant", "evidence", "opened",
        ],
    )?;
    let visible = estate
        .case_report(&bank.people.zhao, &"/hangzhou".parse()?, None)
        .await?;
    ensure!(visible.rows.is_empty(), "Hangzhou has no case");
    story.note("zhao in Hangzhou sees none of it: it is not his branch.");

    let visit = bank.life.time(9, 11);
    bank.life.until(visit).await?;
    let (li, estate) = (&bank.people.li, bank.estate());
    estate.assign_case(li, &case.id, "li").await?;
    story.at(
        visit,
        "li",
        "takes the case, and visits the merchant: the terminal is not there",
    );
    let found = Disposition::ConfirmedRelocation;
    let closed = estate
        .dispose_case(li, &case.id, found, "lent to a shop in Shanghai, fetched back")
        .await?;
    ensure!(closed.state == CaseState::Closed, "the case is closed");
    let back = bank.life.members.get_mut(WHICH).context("a terminal of Beilun")?;
    back.line = home;
    story.at(
        visit,
        "li",
        "closes the case: relocation confirmed, the terminal is fetched back",
    );
    Ok(vec![format!("case show {}", case.id), "report cases".to_owned()])
}
