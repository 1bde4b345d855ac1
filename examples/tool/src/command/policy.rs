//! `tms policy` and `tms access`.

use super::print_table;
use crate::office::Office;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use tms_core::estate::ClassPolicy;
use tms_core::rule::policy::{CheckInPolicy, Class, Days, Hours};
use tms_core::rule::slot::Access as Capacity;
use tms_core::store::BranchPath;

/// Say when terminals check in.
#[derive(Subcommand)]
pub(super) enum Policy {
    /// Make a policy for a class of terminals, or change it. Of several that cover a terminal, the one counts that says most.
    Put(Box<Put>),
    /// Show the policies.
    List {
        /// Those of this branch and below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
    /// Remove a policy.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What a policy says.
#[derive(Args)]
pub(super) struct Put {
    /// Its name.
    name: String,
    /// For terminals of this branch and those below it.
    #[arg(long, value_name = "PATH", default_value = "/")]
    branch: BranchPath,
    /// For terminals of this vendor.
    #[arg(long)]
    vendor: Option<String>,
    /// For terminals of this model.
    #[arg(long)]
    model: Option<String>,
    /// For terminals that call so.
    #[arg(long, value_parser = ["modem", "tcp"])]
    link: Option<String>,
    /// For this one terminal: its serial number, vendor/model/serial, or id.
    #[arg(long)]
    terminal: Option<String>,
    /// The access that they call: each is given a time at which it has room.
    #[arg(long, value_name = "NAME")]
    access: Option<String>,
    /// Hours between two check-ins.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    every: u32,
    /// Hours by which one may be earlier or later; a quarter of the period by default.
    #[arg(long, value_name = "HOURS")]
    tolerance: Option<u32>,
    /// On these days only: mon, tue, wed, thu, fri, sat, sun, with commas between.
    #[arg(long, value_delimiter = ',')]
    days: Vec<String>,
    /// At these hours only, such as 22:00-06:00, by the clock of the branch; with commas between.
    #[arg(long, value_delimiter = ',')]
    hours: Vec<String>,
    /// Minutes that a terminal's time stays open.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    window: u32,
    /// Seconds before a terminal dials again.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    redial: u32,
    /// How often it dials at most.
    #[arg(long, value_name = "COUNT", default_value_t = 6)]
    tries: u16,
    /// Check in after so many settlements, too.
    #[arg(long, value_name = "COUNT")]
    after_settlements: Option<u16>,
    /// Check in when switched on, too.
    #[arg(long)]
    at_power_on: bool,
    /// Seconds that calls by hand, after settlements and at power-on are apart from the check-in before, at least.
    #[arg(long, value_name = "SECONDS")]
    gap: Option<u32>,
}

/// Say what access numbers and endpoints carry.
#[derive(Subcommand)]
pub(super) enum Access {
    /// Make an access, or change what it carries.
    Put {
        /// Its name.
        name: String,
        /// The branch that keeps it.
        #[arg(long, value_name = "PATH", default_value = "/")]
        branch: BranchPath,
        /// Calls that it carries at once.
        #[arg(long)]
        lines: u32,
        /// Calls that it can begin in a minute; six for each line by default.
        #[arg(long, value_name = "COUNT")]
        per_minute: Option<u32>,
        /// Bytes in a second.
        #[arg(long, default_value_t = 120)]
        rate: u32,
        /// Seconds of a call before and after its bytes.
        #[arg(long, value_name = "SECONDS", default_value_t = 15)]
        overhead: u32,
    },
    /// Show the accesses.
    List {
        /// Those of this branch and below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Policy {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put(put) => {
                let name = put.name.clone();
                let policy = put.policy(office).await?;
                estate.put_policy(actor, policy).await?;
                writeln!(out, "policy {name} holds from each terminal's next check-in on")?;
            }
            Self::List { under } => {
                let policies = estate.policies(actor, &under).await?;
                let rows = policies.into_iter().map(|policy| {
                    let class = policy.class;
                    let said = [
                        class.vendor,
                        class.model,
                        class.link,
                        class.terminal.map(|id| id.to_string()),
                    ];
                    let timing = policy.policy;
                    let hours: Vec<_> = timing.hours.iter().map(|hours| show_hours(*hours)).collect();
                    [
                        policy.name,
                        class.branch.to_string(),
                        said.into_iter().flatten().collect::<Vec<_>>().join(" "),
                        policy.access.unwrap_or_default(),
                        format!("{} s ± {} s", timing.period, timing.tolerance),
                        show_days(timing.days),
                        hours.join(","),
                        show_triggers(&timing),
                    ]
                });
                let head = ["name", "branch", "for", "access", "every", "days", "hours", "also"];
                print_table(out, head, rows.collect())?;
            }
            Self::Remove { name } => {
                estate.remove_policy(actor, &name).await?;
                writeln!(out, "policy {name} is gone")?;
            }
        }
        Ok(())
    }
}

impl Put {
    async fn policy(self, office: &Office) -> Result<ClassPolicy> {
        let terminal = match &self.terminal {
            Some(text) => Some(office.find(text).await?.id),
            None => None,
        };
        let seconds = |hours: u32| hours.checked_mul(3_600).context("too many hours");
        let period = seconds(self.every)?;
        Ok(ClassPolicy {
            name: self.name,
            class: Class {
                branch: self.branch,
                vendor: self.vendor,
                model: self.model,
                link: self.link,
                terminal,
            },
            policy: CheckInPolicy {
                period,
                tolerance: self.tolerance.map_or(Ok(period / 4), seconds)?,
                days: read_days(&self.days)?,
                hours: self.hours.iter().map(|text| read_hours(text)).collect::<Result<_>>()?,
                window: self.window.checked_mul(60).context("too many minutes")?,
                redial_delay: self.redial,
                redial_max: self.tries,
                after_settlements: self.after_settlements,
                at_power_on: self.at_power_on,
                gap: self.gap,
            },
            access: self.access,
        })
    }
}

impl Access {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put {
                name,
                branch,
                lines,
                per_minute,
                rate,
                overhead,
            } => {
                let default = Capacity::modems(lines);
                let capacity = Capacity {
                    calls_per_minute: per_minute.unwrap_or(default.calls_per_minute),
                    rate,
                    overhead,
                    ..default
                };
                estate.put_access(actor, &name, &branch, capacity).await?;
                writeln!(out, "access {name} is there")?;
            }
            Self::List { under } => {
                let accesses = estate.accesses(actor, &under).await?;
                let rows = accesses.into_iter().map(|access| {
                    let capacity = access.capacity;
                    [
                        access.name,
                        access.branch.to_string(),
                        capacity.lines.to_string(),
                        capacity.calls_per_minute.to_string(),
                        capacity.rate.to_string(),
                        capacity.overhead.to_string(),
                        access.addresses.join(" "),
                    ]
                });
                let head = [
                    "name",
                    "branch",
                    "lines",
                    "calls/min",
                    "bytes/s",
                    "overhead s",
                    "addresses",
                ];
                print_table(out, head, rows.collect())?;
            }
        }
        Ok(())
    }
}

/// What brings a call forward, and how far such calls are apart.
fn show_triggers(policy: &CheckInPolicy) -> String {
    let settlements = policy
        .after_settlements
        .map(|count| format!("after {count} settlements"));
    let power_on = policy.at_power_on.then(|| "at power-on".to_owned());
    let gap = policy.gap.map(|seconds| format!("{seconds} s apart"));
    let said = [settlements, power_on, gap];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn read_days(names: &[String]) -> Result<Days> {
    if names.is_empty() {
        return Ok(Days::ALL);
    }
    let mut days = Days(0);
    for name in names {
        let Some(day) = DAYS.iter().position(|day| *day == name.to_lowercase()) else {
            bail!("{name} is no day: they are {}", DAYS.join(", "));
        };
        days.0 |= 1 << day;
    }
    Ok(days)
}

fn show_days(days: Days) -> String {
    if days == Days::ALL {
        return String::new();
    }
    let named = DAYS.iter().enumerate().filter(|(day, _)| days.0 & (1 << day) != 0);
    named.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn read_hours(text: &str) -> Result<Hours> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 1_440).then_some(hour * 60 + minute)
    };
    let parts = text
        .split_once('-')
        .and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
    let (from, until) = parts.with_context(|| format!("{text} is not like 22:00-06:00"))?;
    let from = from % 1_440;
    let minutes = if until > from {
        until - from
    } else {
        until + 1_440 - from
    };
    Ok(Hours { from, minutes })
}

fn show_hours(hours: Hours) -> String {
    let until = (hours.from + hours.minutes) % 1_440;
    let show = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{}-{}", show(hours.from), show(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours_are_read_as_they_are_shown() {
        for text in ["22:00-06:00", "00:00-04:00", "09:30-09:31"] {
            assert_eq!(show_hours(read_hours(text).unwrap()), text);
        }
        let midnight = read_hours("18:00-24:00").unwrap();
        assert_eq!((midnight.from, midnight.minutes), (1_080, 360));
        for wrong in ["", "22-6", "25:00-26:00", "1:60-2:00", "10:00"] {
            assert!(read_hours(wrong).is_err(), "{wrong}");
        }
        let days = read_days(&["mon".to_owned(), "Sun".to_owned()]).unwrap();
        assert_eq!((days, show_days(days).as_str()), (Days(65), "mon,sun"));
        assert!(read_days(&["someday".to_owned()]).is_err());
        assert_eq!(show_days(read_days(&[]).unwrap()), "");
    }
}
