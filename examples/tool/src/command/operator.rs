//! `tms operator` and `tms role`.

use super::print_table;
use crate::office::Office;
use crate::refused;
use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use tms_core::clock::{Clock, SystemClock};
use tms_core::estate::{self, Account, Grant, Permission};
use tms_core::store::BranchPath;
use zeroize::Zeroizing;

/// Make, show and remove operators: who may sign in, and what they may do.
#[derive(Subcommand)]
pub(super) enum Operator {
    /// Make an operator, or change one: what is not given is taken away.
    Put(Put),
    /// Make a token for an operator that is a program, and print it, once. One that it had ends.
    Token {
        /// The operator.
        name: String,
        /// How many days it is good for.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
    },
    /// Show operators.
    List {
        /// Of this branch and those below it.
        #[arg(default_value = "/")]
        under: BranchPath,
    },
    /// Remove an operator. What they did stays in the audit log.
    Remove {
        /// The operator.
        name: String,
    },
}

/// An operator, as it is to be.
#[derive(Args)]
#[command(group = ArgGroup::new("account").required(true))]
pub(super) struct Put {
    /// The name to sign in with.
    name: String,
    /// The person's name, or what the program is for.
    #[arg(long)]
    full_name: String,
    /// The branch that manages them.
    #[arg(long, default_value = "/")]
    branch: BranchPath,
    /// A role, and the branch where it holds: ROLE@/east. May be given more than once.
    #[arg(long = "grant", value_name = "ROLE@BRANCH", value_parser = grant)]
    grants: Vec<Grant>,
    /// They sign in with the password in the first line of this file.
    #[arg(long, value_name = "FILE", group = "account")]
    password_file: Option<PathBuf>,
    /// Something outside, such as a single sign-on, vouches for them; or they get a token next.
    #[arg(long, group = "account")]
    external: bool,
    /// They cannot sign in.
    #[arg(long)]
    suspended: bool,
}

/// Make and show roles: permissions under a name.
#[derive(Subcommand)]
pub(super) enum Role {
    /// Make a role, or change it for everybody who has it.
    Put {
        /// Its name.
        name: String,
        /// What it allows, separated by commas; `tms role permissions` shows what there is.
        #[arg(long, value_delimiter = ',', required = true, value_parser = permission)]
        allow: Vec<Permission>,
    },
    /// Show the roles.
    List,
    /// Show what can be allowed.
    Permissions,
}

fn permission(text: &str) -> Result<Permission, String> {
    let found = Permission::ALL.into_iter().find(|permission| permission.name() == text);
    found.ok_or_else(|| format!("there is no permission {text}"))
}

fn grant(text: &str) -> Result<Grant, String> {
    let (role, branch) = text.split_once('@').ok_or("it is ROLE@BRANCH")?;
    Ok(Grant {
        role: role.to_owned(),
        branch: BranchPath::from_str(branch).map_err(|error| error.to_string())?,
    })
}

impl Operator {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        let (estate, actor) = (&office.estate, &office.actor);
        match self {
            Self::Put(put) => {
                let account = match &put.password_file {
                    Some(path) => {
                        let content = fs::read_to_string(path).map(Zeroizing::new);
                        let content = content.with_context(|| format!("cannot read {}", path.display()))?;
                        Account::Password(estate.verifier(content.lines().next().unwrap_or_default()).await?)
                    }
                    None => Account::External,
                };
                let name = put.name.clone();
                let operator = estate::Operator {
                    name: put.name,
                    full_name: put.full_name,
                    branch: put.branch,
                    grants: put.grants.into_iter().collect(),
                    account,
                    suspended: put.suspended,
                    failures: 0,
                    locked_until: None,
                };
                estate.put_operator(actor, operator).await?;
                writeln!(out, "operator {name} is there")?;
            }
            Self::Token { name, days } => {
                let expires = SystemClock.now().saturating_add(days * 86_400);
                let token = estate.new_token(actor, &name, expires).await?;
                writeln!(out, "{}", token.reveal())?;
            }
            Self::List { under } => {
                let mut rows = Vec::new();
                let mut after = None;
                loop {
                    let page = estate.operators(actor, &under, after, 256).await?;
                    let Some(last) = page.last() else { break };
                    after = Some((last.branch.clone(), last.name.clone()));
                    rows.extend(page.into_iter().map(row));
                }
                print_table(out, ["name", "full name", "branch", "grants", "account"], rows)?;
            }
            Self::Remove { name } => {
                if name == actor.name() {
                    return Err(refused("nobody removes themselves".to_owned()));
                }
                estate.remove_operator(actor, &name).await?;
                writeln!(out, "operator {name} is gone")?;
            }
        }
        Ok(())
    }
}

fn row(operator: estate::Operator) -> [String; 5] {
    let grants = operator
        .grants
        .iter()
        .map(|grant| format!("{}@{}", grant.role, grant.branch));
    let account = match operator.account {
        Account::Password(_) => "password",
        Account::External => "external",
        Account::Token { .. } => "token",
    };
    let account = if operator.suspended {
        format!("{account}, suspended")
    } else {
        account.to_owned()
    };
    [
        operator.name,
        operator.full_name,
        operator.branch.to_string(),
        grants.collect::<Vec<_>>().join(" "),
        account,
    ]
}

impl Role {
    pub(super) async fn run(self, office: &Office, out: &mut impl Write) -> Result<()> {
        match self {
            Self::Put { name, allow } => {
                let role = estate::Role {
                    name: name.clone(),
                    permissions: allow.into_iter().collect(),
                };
                office.estate.put_role(&office.actor, role).await?;
                writeln!(out, "role {name} is there")?;
            }
            Self::List => {
                let rows = office.estate.roles().await?.into_iter().map(|role| {
                    let names: Vec<_> = role.permissions.iter().map(|permission| permission.name()).collect();
                    [role.name, names.join(" ")]
                });
                print_table(out, ["role", "allows"], rows.collect())?;
            }
            Self::Permissions => {
                for permission in Permission::ALL {
                    writeln!(out, "{permission}")?;
                }
            }
        }
        Ok(())
    }
}
