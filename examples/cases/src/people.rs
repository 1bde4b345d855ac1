//! The people of the bank, and what each may do.

use anyhow::Result;
use tms_core::estate::{Account, Actor, Estate, Grant, Operator, Permission, Role};
use tms_core::store::BranchPath;

/// Who acts. Each may do what their work takes, in their own branch and below it.
pub(crate) struct People {
    /// Plans for all terminals, at head office.
    pub(crate) chen: Actor,
    /// The second pair of eyes, at head office.
    pub(crate) wang: Actor,
    /// Looks after the terminals of Ningbo.
    pub(crate) li: Actor,
    /// Looks after the terminals of Hangzhou.
    pub(crate) zhao: Actor,
    /// The business system.
    pub(crate) bms: Actor,
}

impl People {
    /// Makes the roles, and gives them to people: `by` may do everything.
    pub(crate) async fn hire(estate: &Estate, by: &Actor) -> Result<Self> {
        use Permission as May;
        let planning = [May::View, May::Export, May::Plan, May::Publish, May::ManageParameters];
        let approving = [May::View, May::Plan, May::ConfirmHeadOffice, May::Audit];
        let branch = [May::View, May::Export, May::Enrol, May::ConfirmBranch, May::ManageCases];
        let interface = [May::Install];
        let roles: [(&str, &[Permission]); 4] = [
            ("planning", &planning),
            ("approving", &approving),
            ("branch", &branch),
            ("interface", &interface),
        ];
        for (name, permissions) in roles {
            let role = Role {
                name: name.to_owned(),
                permissions: permissions.iter().copied().collect(),
            };
            estate.put_role(by, role).await?;
        }
        let hire = async |name: &str, full_name: &str, role: &str, at: &str| -> Result<Actor> {
            let branch: BranchPath = at.parse()?;
            let operator = Operator {
                name: name.to_owned(),
                full_name: full_name.to_owned(),
                branch: branch.clone(),
                grants: [Grant {
                    role: role.to_owned(),
                    branch,
                }]
                .into(),
                account: Account::External,
                suspended: false,
                failures: 0,
                locked_until: None,
            };
            estate.put_operator(by, operator).await?;
            Ok(estate.sign_in_vouched(name).await?)
        };
        Ok(Self {
            chen: hire("chen", "Chen Yu, terminal planning", "planning", "/").await?,
            wang: hire("wang", "Wang Min, operations", "approving", "/").await?,
            li: hire("li", "Li Na, Ningbo", "branch", "/ningbo").await?,
            zhao: hire("zhao", "Zhao Lei, Hangzhou", "branch", "/hangzhou").await?,
            bms: hire("bms", "the business system", "interface", "/").await?,
        })
    }

    /// Who looks after a branch.
    pub(crate) fn of(&self, branch: &BranchPath) -> &Actor {
        if self.li.may(Permission::ConfirmBranch, branch) {
            &self.li
        } else {
            &self.zhao
        }
    }
}
