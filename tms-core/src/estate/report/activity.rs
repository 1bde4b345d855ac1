//! What terminals did, day by day.

use super::row::{OnDay, row};
use super::{MAX_DAYS, Report, Reports};
use crate::estate::EstateError;
use crate::estate::daily::Daily;
use crate::store::{BranchPath, Day, Entity, Query, Record, RosterFilter, Seen, StoreError};
use std::collections::BTreeMap;
use tms_proto::code::{ResultCode, TriggerKind};

row! {
    /// The check-ins of a day. Calls that were refused or broke off before the plan was acknowledged are none.
    pub struct CheckInRow {
        /// The day.
        pub day: OnDay,
        /// Check-ins.
        pub check_ins: u64,
        /// Terminals that checked in.
        pub terminals: u64,
        /// Terminals of the branch now, those that never called among them.
        pub of_terminals: u64,
        /// Terminals that checked in for the first time ever.
        pub first: u64,
        /// By RSA identity.
        pub mode_1: u64,
        /// By main-control key.
        pub mode_2: u64,
        /// By ticket.
        pub mode_3: u64,
        /// By both keys.
        pub mode_4: u64,
        /// Somebody pressed a key.
        pub manual: u64,
        /// A transaction response said so.
        pub transaction_notice: u64,
        /// The next contact had come.
        pub schedule: u64,
        /// So many settlements had passed.
        pub settlement_count: u64,
        /// The terminal was switched on.
        pub power_on: u64,
        /// Something happened in the terminal.
        pub event: u64,
        /// An earlier call failed or broke off.
        pub retry: u64,
        /// Within a second, from the call's beginning until the plan was acknowledged.
        pub within_1_s: u64,
        /// Within two, and not within one; so on.
        pub within_2_s: u64,
        /// Within five.
        pub within_5_s: u64,
        /// Within ten.
        pub within_10_s: u64,
        /// Within thirty.
        pub within_30_s: u64,
        /// Within sixty.
        pub within_60_s: u64,
        /// Longer.
        pub longer: u64,
        /// The terminal's clock was two minutes wrong or more.
        pub skewed: u64,
        /// Results that terminals reported.
        pub results: u64,
        /// Results that were failures.
        pub failures: u64,
        /// Downloads that were completed.
        pub downloads: u64,
        /// Bytes of their content.
        pub downloaded: u64,
        /// Suspicions of a clone.
        pub clones: u64,
        /// Terminals that were enrolled.
        pub enrolled: u64,
    }
}

row! {
    /// The failures of one kind on a day.
    pub struct FailureRow {
        /// The day.
        pub day: OnDay,
        /// How far the action had come.
        pub stage: String,
        /// What went wrong.
        pub code: String,
        /// How often.
        pub count: u64,
        /// All results of the day, those that went well among them.
        pub of_results: u64,
    }
}

impl CheckInRow {
    fn of(daily: &Daily, terminals: u64) -> Self {
        let mode = |mode: u8| daily.modes.get(&mode).copied().unwrap_or_default();
        let trigger = |kind: TriggerKind| daily.triggers.get(&kind.to_string()).copied().unwrap_or_default();
        let [
            within_1_s,
            within_2_s,
            within_5_s,
            within_10_s,
            within_30_s,
            within_60_s,
            longer,
        ] = daily.took;
        Self {
            day: OnDay(daily.day),
            check_ins: daily.check_ins,
            terminals: daily.terminals,
            of_terminals: terminals,
            first: daily.first,
            mode_1: mode(1),
            mode_2: mode(2),
            mode_3: mode(3),
            mode_4: mode(4),
            manual: trigger(TriggerKind::Manual),
            transaction_notice: trigger(TriggerKind::TransactionNotice),
            schedule: trigger(TriggerKind::Schedule),
            settlement_count: trigger(TriggerKind::SettlementCount),
            power_on: trigger(TriggerKind::PowerOn),
            event: trigger(TriggerKind::Event),
            retry: trigger(TriggerKind::Retry),
            within_1_s,
            within_2_s,
            within_5_s,
            within_10_s,
            within_30_s,
            within_60_s,
            longer,
            skewed: daily.skewed,
            results: daily.all_results(),
            failures: failures(daily).fold(0, |sum, (_, _, count)| sum.saturating_add(count)),
            downloads: daily.downloads,
            downloaded: daily.downloaded,
            clones: daily.clones,
            enrolled: daily.enrolled,
        }
    }
}

/// What did not go well: a result with any code but success, and but those that say only that the terminal waits.
fn failures(daily: &Daily) -> impl Iterator<Item = (&str, &str, u64)> {
    let good = [
        ResultCode::Success,
        ResultCode::Busy,
        ResultCode::Postponed,
        ResultCode::Unsettled,
        ResultCode::LowBattery,
    ]
    .map(|code| code.to_string());
    daily.results.iter().flat_map(move |(stage, codes)| {
        let good = good.clone();
        let bad = codes.iter().filter(move |(code, _)| !good.contains(code));
        bad.map(|(code, count)| (stage.as_str(), code.as_str(), *count))
    })
}

impl Reports<'_> {
    /// The check-ins of a branch and those below it on each of the last `days` days, today the last; a day of none has a row
    /// like the others. At most 400 days.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn check_ins(&self, under: &BranchPath, days: u32) -> Result<Report<CheckInRow>, EstateError> {
        let as_of = self.as_of().await?;
        let terminals = self.count(&RosterFilter::under(under.clone())).await?;
        let daily = self.daily(under, days).await?;
        Ok(Report {
            under: under.clone(),
            as_of,
            terminals,
            cut: days > MAX_DAYS,
            rows: daily.iter().map(|daily| CheckInRow::of(daily, terminals)).collect(),
        })
    }

    /// What went wrong in a branch and those below it on each of the last `days` days, by stage and code. At most 400 days.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn failures(&self, under: &BranchPath, days: u32) -> Result<Report<FailureRow>, EstateError> {
        let as_of = self.as_of().await?;
        let terminals = self.count(&RosterFilter::under(under.clone())).await?;
        let daily = self.daily(under, days).await?;
        let rows = daily.iter().flat_map(|daily| {
            failures(daily).map(|(stage, code, count)| FailureRow {
                day: OnDay(daily.day),
                stage: stage.to_owned(),
                code: code.to_owned(),
                count,
                of_results: daily.all_results(),
            })
        });
        Ok(Report {
            under: under.clone(),
            as_of,
            terminals,
            cut: days > MAX_DAYS,
            rows: rows.collect(),
        })
    }

    /// How many terminals of the branch were seen on this day or later, and how many there are.
    ///
    /// # Errors
    /// [`EstateError::Store`].
    pub async fn alive(&self, under: &BranchPath, since: Day) -> Result<(u64, u64), EstateError> {
        let all = RosterFilter::under(under.clone());
        let alive = RosterFilter {
            seen: Some(Seen::Since(since)),
            ..all.clone()
        };
        Ok((self.count(&alive).await?, self.count(&all).await?))
    }

    /// A branch's days, in their order, those of nothing among them: of all branches below it that are told of together.
    async fn daily(&self, under: &BranchPath, days: u32) -> Result<Vec<Daily>, StoreError> {
        let days = days.min(MAX_DAYS);
        let (first, today) = (self.since(days), self.today());
        let all = (first..=today).take(usize::try_from(days).unwrap_or(usize::MAX));
        let mut found: BTreeMap<Day, Daily> = all.map(|day| (day, Daily::of(under.clone(), day))).collect();
        for scope in self.scopes(under) {
            let query = Query::Documents {
                kind: Daily::KIND,
                prefix: Daily::ids_of(&scope),
                after: first.checked_sub(1).map(|before| Daily::id_of(&scope, before)),
            };
            for document in self.store.list(&query, days).await? {
                if let Record::Document(document) = document.record {
                    let daily: Daily = document.read()?;
                    if let Some(sum) = found.get_mut(&daily.day) {
                        sum.merge(&daily);
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }
}
