//! Whether a definition can be carried out.

use super::{Definition, Invalid, MAX_ACTIONS, MAX_FILTER, MAX_LIST, MAX_NAME, MAX_STAGES, Membership, Schedule};
use crate::rule::task::action::{Action, Work};
use crate::rule::task::filter::Filter;
use crate::rule::task::gate::Limit;
use crate::rule::task::rate::{Rates, UnavailableLimit};
use crate::rule::task::retry::Retries;
use crate::rule::task::stage::{Selection, Stage};
use crate::rule::task::window::{MAX_MINUTES, Window, Zone};
use std::collections::BTreeSet;

impl Definition {
    /// Whether it can be carried out, as far as it says itself. Whether the packages and texts exist, the estate knows.
    ///
    /// # Errors
    /// [`Invalid`]: the first thing that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let length = self.name.chars().count();
        demand(
            (1..=MAX_NAME).contains(&length) && !self.name.chars().any(char::is_control),
            "name",
            "must have 1 to 80 printable characters",
        )?;
        demand(
            (1..=MAX_ACTIONS).contains(&self.actions.len()),
            "actions",
            "must be 1 to 16",
        )?;
        for (action, index) in self.actions.iter().zip(0_u8..) {
            check_action(action, index)?;
        }
        demand(self.replaces.len() <= MAX_ACTIONS, "replaces", "must be at most 16")?;
        check_filter(&self.filter, "filter")?;
        self.check_stages()?;
        check_rates(&self.rates)?;
        for (window, place) in [
            (&self.windows.download, "windows.download"),
            (&self.windows.install, "windows.install"),
        ] {
            window.as_ref().map_or(Ok(()), |window| check_window(window, place))?;
        }
        check_retries(&self.retries)?;
        let breaker = self.breaker;
        demand(
            breaker.burst > 0 && breaker.burst <= 20 && breaker.total > 0,
            "breaker",
            "must have a burst of 1 to 20 and a total of at least 1",
        )?;
        let timeouts = self.timeouts;
        demand(timeouts.silence >= 60, "timeouts.silence", "must be at least 60 s")?;
        demand(
            timeouts.total >= timeouts.silence,
            "timeouts.total",
            "must not be below the silence",
        )?;
        demand(
            self.confirm_after <= timeouts.total,
            "confirm_after",
            "must not be above the total timeout",
        )?;
        let Schedule { not_before, end } = self.schedule;
        demand(
            end.is_none_or(|end| end > not_before.unwrap_or_default()),
            "schedule.end",
            "must be after the beginning",
        )
    }

    fn check_stages(&self) -> Result<(), Invalid> {
        let count = self.stages.len();
        demand((1..=MAX_STAGES).contains(&count), "stages", "must be 1 to 100")?;
        for (index, stage) in self.stages.iter().enumerate() {
            check_stage(stage, &format!("stages[{index}]"), index.saturating_add(1) == count)?;
        }
        let rest = self
            .stages
            .last()
            .is_some_and(|stage| stage.selection == Selection::Rest);
        demand(
            rest || self.membership == Membership::Snapshot,
            "stages",
            "must end with the rest, where terminals may join later",
        )
    }
}

fn check_action(action: &Action, index: u8) -> Result<(), Invalid> {
    let place = |field: &str| format!("actions[{index}].{field}");
    demand(
        action.after.iter().all(|before| *before < index),
        &place("after"),
        "must name earlier actions only",
    )?;
    demand(
        action.after.len() <= MAX_ACTIONS,
        &place("after"),
        "must not name an action twice",
    )?;
    demand(
        action.min_battery <= 100,
        &place("min_battery"),
        "must be 0 to 100 per cent",
    )?;
    demand(
        action.prompt.chars().count() <= 30 && !action.prompt.chars().any(char::is_control),
        &place("prompt"),
        "must have at most 30 printable characters",
    )?;
    demand(
        action.after.is_empty() || !matches!(action.work, Work::Text { .. } | Work::CheckInPolicy { .. }),
        &place("after"),
        "must be empty: texts and check-in policies wait for no action",
    )?;
    let (name, field) = match &action.work {
        Work::Remove { component } => (component, "component"),
        Work::Parameters { template, .. } => (template, "template"),
        Work::CheckInPolicy { policy } => (policy, "policy"),
        _ => return Ok(()),
    };
    demand(
        (1..=MAX_NAME).contains(&name.chars().count()),
        &place(field),
        "must have 1 to 80 characters",
    )
}

fn check_filter(filter: &Filter, place: &str) -> Result<(), Invalid> {
    let lengths = [
        filter.branches.len(),
        filter.vendors.len(),
        filter.models.len(),
        filter.merchants.len(),
        filter.terminals.len(),
    ];
    demand(
        lengths.iter().all(|length| *length <= MAX_FILTER),
        place,
        "must have at most 10,000 entries in a list",
    )?;
    let installed = &filter.installed;
    demand(
        installed.len() <= MAX_LIST && installed.iter().all(|condition| condition.versions.len() <= MAX_LIST),
        place,
        "must have at most 50 conditions on components, with 50 versions each",
    )
}

fn check_stage(stage: &Stage, place: &str, last: bool) -> Result<(), Invalid> {
    let field = |field: &str| format!("{place}.{field}");
    let selection = field("selection");
    match &stage.selection {
        Selection::Remaining { percent } => {
            demand((1..=100).contains(percent), &selection, "must be 1 to 100 per cent")
        }
        Selection::Count { count } => demand(*count > 0, &selection, "must be at least one terminal"),
        Selection::Filter { filter } => check_filter(filter, &selection),
        Selection::Hash { hundredths } => demand(
            (1..=10_000).contains(hundredths),
            &selection,
            "must be 1 to 10,000 hundredths of a per cent",
        ),
        Selection::Rest => demand(last, &selection, "must be the last stage's"),
    }?;
    let gates = &stage.gates;
    demand(
        gates.success_percent <= 100,
        &field("gates.success_percent"),
        "must be 0 to 100",
    )?;
    demand(
        gates.abort.len() <= MAX_LIST,
        &field("gates.abort"),
        "must be at most 50 criteria",
    )?;
    for (criterion, index) in gates.abort.iter().zip(0_usize..) {
        let (good, what) = match criterion.limit {
            Limit::Count(count) => (count > 0, "must be at least one failure"),
            Limit::ShareOfExecuted { percent, min_executed } => (
                percent < 100 && min_executed > 0,
                "must be 0 to 99 per cent, of at least one",
            ),
            Limit::ShareOfStage(percent) => (percent < 100, "must be 0 to 99 per cent"),
        };
        demand(good, &field(&format!("gates.abort[{index}].limit")), what)?;
    }
    demand(
        gates.stall.is_none_or(|stall| stall.seconds > 0),
        &field("gates.stall.seconds"),
        "must be at least 1 s",
    )
}

fn check_rates(rates: &Rates) -> Result<(), Invalid> {
    let one_to_thousand = |number: u16| (1..=1_000).contains(&number);
    demand(
        rates.max_concurrent != Some(0),
        "rates.max_concurrent",
        "must be at least 1",
    )?;
    demand(
        rates.per_minute.is_none_or(one_to_thousand),
        "rates.per_minute",
        "must be 1 to 1000",
    )?;
    if let Some(ramp) = rates.ramp {
        demand(one_to_thousand(ramp.base), "rates.ramp.base", "must be 1 to 1000")?;
        demand(
            (11..=50).contains(&ramp.factor_tenths),
            "rates.ramp.factor_tenths",
            "must be 11 to 50",
        )?;
        demand(ramp.every > 0, "rates.ramp.every", "must be at least 1")?;
    }
    demand(
        rates.bytes_per_second != Some(0),
        "rates.bytes_per_second",
        "must be at least 1",
    )?;
    demand(
        rates.max_unavailable.len() <= 3,
        "rates.max_unavailable",
        "must be one for each key",
    )?;
    let mut keys = BTreeSet::new();
    for (rule, index) in rates.max_unavailable.iter().zip(0_usize..) {
        let place = format!("rates.max_unavailable[{index}]");
        demand(keys.insert(rule.key), &place, "must be one for each key")?;
        let (good, what) = match rule.limit {
            UnavailableLimit::Count(count) => (count > 0, "must be at least 1"),
            UnavailableLimit::Percent(percent) => ((1..=100).contains(&percent), "must be 1 to 100 per cent"),
        };
        demand(good, &place, what)?;
    }
    Ok(())
}

fn check_window(window: &Window, place: &str) -> Result<(), Invalid> {
    demand(
        (1..=MAX_MINUTES).contains(&window.minutes),
        &format!("{place}.minutes"),
        "must be 1 to 1430",
    )?;
    demand(
        window.days.len() <= 7,
        &format!("{place}.days"),
        "must be at most seven",
    )?;
    demand(
        window.month_end <= 15,
        &format!("{place}.month_end"),
        "must be 0 to 15 days",
    )?;
    demand(
        window.closed.len() <= MAX_LIST && window.closed.iter().all(|dates| dates.first <= dates.last),
        &format!("{place}.closed"),
        "must be at most 50, each with its first date first",
    )?;
    demand(
        window.zone.as_deref().is_none_or(|zone| Zone::named(zone).is_some()),
        &format!("{place}.zone"),
        "must be a name of the IANA time zone database",
    )
}

fn check_retries(retries: &Retries) -> Result<(), Invalid> {
    let mut classes = BTreeSet::new();
    for (policy, index) in retries.policies.iter().zip(0_usize..) {
        let place = format!("retries[{index}]");
        demand(classes.insert(policy.class), &place, "must be one for each class")?;
        demand(
            policy.class.is_retriable(),
            &place,
            "must be for failures that trying again can mend",
        )?;
        demand(policy.max <= 10, &place, "must be at most ten retries")?;
        demand(
            (10..=100).contains(&policy.factor_tenths),
            &place,
            "must have a factor of 10 to 100 tenths",
        )?;
        demand(
            policy.cap >= policy.base,
            &place,
            "must have a cap that is not below its base",
        )?;
    }
    Ok(())
}

fn demand(good: bool, place: &str, what: &'static str) -> Result<(), Invalid> {
    if good {
        return Ok(());
    }
    Err(Invalid {
        place: place.to_owned(),
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::task::definition::Timeouts;
    use crate::rule::task::failure::FailureClass;
    use crate::rule::task::gate::{AbortAction, Criterion};
    use crate::rule::task::rate::{MaxUnavailable, Ramp, RampStep, TopologyKey};

    fn task() -> Definition {
        Definition::new(
            "night update",
            vec![Action::new(Work::Restart), Action::new(Work::CollectLogs)],
        )
    }

    #[test]
    fn the_presets_are_good() {
        assert_eq!(task().check(), Ok(()));
        assert_eq!(task().first_alone().check(), Ok(()));
    }

    #[test]
    fn a_short_text_is_a_whole_task() {
        let text = r#"{"name":"night update","actions":[{"do":"restart"},{"do":"collect_logs"}]}"#;
        assert_eq!(serde_json::from_str::<Definition>(text).unwrap(), task());
        let written = serde_json::to_string(&task().first_alone()).unwrap();
        assert_eq!(
            serde_json::from_str::<Definition>(&written).unwrap(),
            task().first_alone()
        );
    }

    #[test]
    fn words_put_the_deadline_off_but_not_for_ever() {
        let timeouts = Timeouts {
            silence: 100,
            total: 1_000,
        };
        assert_eq!(timeouts.deadline(5_000, 0), 5_100);
        assert_eq!(timeouts.deadline(5_000, 5_500), 5_600);
        assert_eq!(timeouts.deadline(5_000, 5_950), 6_000);
    }

    #[test]
    fn what_the_documents_show_is_good() {
        let page = include_str!("../../../../../docs/tasks.md").replace("4b0e…", &"4b".repeat(32));
        let shown: Vec<Definition> = page
            .split("```json")
            .skip(1)
            .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
            .collect();
        assert_eq!(shown.len(), 2);
        for task in shown {
            assert_eq!(task.check(), Ok(()));
        }
    }

    /// Each mistake is found, at its place.
    #[test]
    fn mistakes_are_found_where_they_are() {
        type Mistake = fn(&mut Definition);
        let mistakes: &[(&str, Mistake)] = &[
            ("name", |task| task.name.clear()),
            ("name", |task| task.name = "bell\u{7}".to_owned()),
            ("actions", |task| task.actions.clear()),
            ("actions[1].after", |task| task.actions[1].after = vec![1]),
            ("actions[0].min_battery", |task| task.actions[0].min_battery = 101),
            ("actions[0].prompt", |task| task.actions[0].prompt = "x".repeat(31)),
            ("actions[0].component", |task| {
                task.actions[0].work = Work::Remove {
                    component: String::new(),
                };
            }),
            ("stages", |task| task.stages.clear()),
            ("stages", |task| {
                task.membership = Membership::Continuous;
                task.stages[0].selection = Selection::Count { count: 1 };
            }),
            ("stages[0].selection", |task| task.stages.push(task.stages[0].clone())),
            ("stages[0].selection", |task| {
                task.stages[0].selection = Selection::Remaining { percent: 0 };
            }),
            ("stages[0].selection", |task| {
                task.stages[0].selection = Selection::Hash { hundredths: 10_001 };
            }),
            ("stages[0].gates.success_percent", |task| {
                task.stages[0].gates.success_percent = 101;
            }),
            ("stages[0].gates.abort[0].limit", |task| {
                task.stages[0].gates.abort = vec![Criterion {
                    classes: vec![],
                    limit: Limit::Count(0),
                    action: AbortAction::Pause,
                }];
            }),
            ("rates.per_minute", |task| task.rates.per_minute = Some(1_001)),
            ("rates.ramp.factor_tenths", |task| {
                task.rates.ramp = Some(Ramp {
                    base: 1,
                    factor_tenths: 10,
                    on: RampStep::Notified,
                    every: 1,
                });
            }),
            ("rates.max_unavailable[1]", |task| {
                let limit = UnavailableLimit::Count(1);
                let rule = MaxUnavailable {
                    key: TopologyKey::Site,
                    limit,
                };
                task.rates.max_unavailable = vec![rule, rule];
            }),
            ("windows.install.minutes", |task| {
                task.windows.install.as_mut().unwrap().minutes = 1_431;
            }),
            ("windows.install.zone", |task| {
                task.windows.install.as_mut().unwrap().zone = Some("Mars/Base".to_owned());
            }),
            ("retries[0]", |task| {
                task.retries.policies[0].class = FailureClass::Signature;
            }),
            ("retries[1]", |task| {
                task.retries.policies[1].class = task.retries.policies[0].class;
            }),
            ("breaker", |task| task.breaker.burst = 0),
            ("timeouts.total", |task| task.timeouts.total = 60),
            ("schedule.end", |task| {
                task.schedule = Schedule {
                    not_before: Some(9),
                    end: Some(9),
                };
            }),
        ];
        let window = r#"{"start":"02:00:00","minutes":180,"zone":"Asia/Shanghai"}"#;
        for (place, mistake) in mistakes {
            let mut task = task();
            task.windows.install = serde_json::from_str(window).unwrap();
            assert_eq!(task.check(), Ok(()));
            mistake(&mut task);
            let found = task.check().map_err(|invalid| invalid.place);
            assert_eq!(found, Err((*place).to_owned()));
        }
    }
}
