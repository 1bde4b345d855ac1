//! Case 5: one more application.

use crate::bank::{Bank, CASHIER, key};
use crate::story::Story;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use tms_core::estate::{KeyLoad, LayerDraft};
use tms_core::rule::task::{Action, Definition, Work};
use tms_core::rule::template::{Charset, Definition as Parameter, Kind, Scope, Template};
use tms_core::store::Caller;
use zeroize::Zeroizing;

/// How many days it takes.
pub(crate) const DAYS: u32 = 10;

const LOYALTY: &str = "loyalty";
const VERSION: &str = "1.0.0";

/// Whose terminals: two merchants of Hangzhou, which have the same model.
const WHO: [usize; 2] = [0, 9];
const MODEL: usize = 0;

/// The slot of the PIN pad for the new application's key.
const SLOT: u16 = 5;

pub(crate) async fn tell(bank: &mut Bank, story: &mut Story) -> Result<Vec<String>> {
    story.heading(
        "Case 5  A merchant's terminals get one more application, with parameters and a key",
        &[
            "Two merchants join a scheme for loyal customers. Their terminals get an application beside the cashier program, and",
            "parameters with what belongs to each merchant; the scheme's key is loaded into the PIN pad, and what is recorded of it",
            "is its place and its check value.",
        ],
    );
    bank.life.until(bank.life.time(0, 9)).await?;
    let manifest = bank.publish(LOYALTY, VERSION, 1, MODEL).await?;
    let version = template(bank).await?;
    let mut parameters = Action::new(Work::Parameters {
        template: LOYALTY.to_owned(),
        version,
    });
    // Parameters without their application are of no use.
    parameters.after = vec![0];
    let actions = vec![Action::new(Work::Install { manifest }), parameters];
    story.at(
        bank.life.now(),
        "chen",
        format!("publishes {LOYALTY} {VERSION}, and writes its parameters"),
    );
    let mut schemes = Vec::new();
    for (index, scheme) in WHO.into_iter().zip(["GOLD", "HARBOUR"]) {
        let member = bank.life.members.get(index).context("a merchant of Hangzhou")?;
        set(bank, &member.shop.merchant, scheme).await?;
        story.at(
            bank.life.now(),
            "chen",
            format!(
                "sets for merchant {}, {}: scheme {scheme}",
                member.shop.merchant, member.shop.name
            ),
        );
        schemes.push((index, scheme));
    }
    let mut definition = Definition::new("loyalty for two merchants", actions);
    definition.filter.merchants = WHO
        .iter()
        .filter_map(|index| Some(bank.life.members.get(*index)?.shop.merchant.clone()))
        .collect();
    let task = bank
        .start(
            story,
            definition,
            "the application, and then its parameters, for these merchants",
        )
        .await?;

    let at = bank.life.time(1, 15);
    bank.life.until(at).await?;
    for index in WHO {
        let member = bank.life.members.get(index).context("a merchant of Hangzhou")?;
        let load = KeyLoad::of(
            "at the counter, two custodians".to_owned(),
            Some(1),
            vec![key(SLOT, "D0", &member.shop.serial)],
        );
        bank.estate()
            .record_key_load(&bank.people.zhao, &Caller::Id(member.id), load)
            .await?;
    }
    story.at(
        at,
        "zhao",
        format!("has the scheme's key loaded into slot {SLOT} of both PIN pads, and records it"),
    );
    bank.life.until(bank.life.time(9, 18)).await?;
    bank.ensure_completed(task, WHO.len()).await?;
    story.at(
        bank.life.now(),
        "terminals",
        "have called, and both say that the application runs with its parameters",
    );
    bank.show(story, "5-progress", task).await?;

    let mut rows = Vec::new();
    let mut loads = Vec::new();
    for (index, scheme) in schemes {
        let member = bank.life.members.get(index).context("a merchant of Hangzhou")?;
        let runs = member.terminal.versions().await;
        let version = |component: &str| {
            runs.get(component)
                .map(|version| version.version.clone())
                .unwrap_or_default()
        };
        ensure!(
            version(LOYALTY) == VERSION && !version(CASHIER).is_empty(),
            "both applications run"
        );
        let held = member
            .terminal
            .parameters(LOYALTY)
            .await?
            .context("it has parameters")?;
        let value = |name: &str| {
            let found = held.parameters.iter().find(|parameter| parameter.name == name);
            found.map(|parameter| parameter.value.clone()).unwrap_or_default()
        };
        ensure!(
            (value("scheme").as_str(), value("merchant")) == (scheme, member.shop.merchant.clone()),
            "each merchant's own parameters are in force"
        );
        // What the terminal has said of itself, beside what is in its memory.
        let inventory = bank
            .life
            .office
            .inventory(member.id)
            .await?
            .context("it has reported")?
            .inventory;
        let said = inventory
            .parameters
            .iter()
            .find(|set| set.name == LOYALTY)
            .context("it reports the set")?;
        rows.push([
            member.shop.label(),
            member.shop.name.clone(),
            format!("{CASHIER} {}, {LOYALTY} {}", version(CASHIER), version(LOYALTY)),
            value("scheme"),
            value("merchant"),
            said.digest.short().to_string(),
        ]);
        for load in bank.estate().key_loads(&bank.people.zhao, member.id).await? {
            for key in &load.keys {
                loads.push([
                    member.shop.label(),
                    story.moment(load.time),
                    load.operator.clone(),
                    load.custodian.clone(),
                    key.slot.to_string(),
                    key.usage.clone(),
                    key.version.to_string(),
                    key.check_value.clone(),
                ]);
            }
        }
    }
    ensure!(loads.len() == 3 * WHO.len(), "three keys are recorded of each");
    story.table(
        "5-parameters",
        "What runs and is in force; the digest is that which the terminal reports",
        ["terminal", "merchant", "runs", "scheme", "merchant number", "set"],
        rows,
    )?;
    story.table(
        "5-keys",
        "Which keys were loaded, newest first: never a key",
        [
            "terminal",
            "when",
            "recorded by",
            "custodian",
            "slot",
            "usage",
            "version",
            "check value",
        ],
        loads,
    )?;
    let first = bank
        .life
        .members
        .first()
        .context("a merchant of Hangzhou")?
        .shop
        .serial
        .clone();
    Ok(vec![
        format!("task terminals {task:016x}"),
        format!("terminal {first}"),
        format!("template preview {first} {LOYALTY}"),
    ])
}

async fn template(bank: &Bank) -> Result<u32> {
    let text = |name: &str, label: &str, default: Option<&str>| Parameter {
        name: name.to_owned(),
        label: label.to_owned(),
        kind: Kind::Text {
            min: 1,
            max: 40,
            charset: Charset::Unicode,
        },
        default: default.map(str::to_owned),
        required: true,
        narrowest: None,
        on_site: Default::default(),
    };
    let template = Template {
        name: LOYALTY.to_owned(),
        version: 0,
        definitions: vec![
            text("scheme", "the merchant's scheme", None),
            text("merchant", "the merchant's number", Some("${merchant.number}")),
        ],
    };
    Ok(bank.estate().put_template(&bank.people.chen, template).await?)
}

async fn set(bank: &Bank, merchant: &str, scheme: &str) -> Result<()> {
    let draft = LayerDraft {
        scope: Scope::Merchant(merchant.to_owned()),
        version: 0,
        values: [("scheme".to_owned(), Some(Zeroizing::new(scheme.to_owned())))].into(),
        variables: BTreeMap::new(),
    };
    bank.estate().put_layer(&bank.people.chen, LOYALTY, &draft).await?;
    Ok(())
}
