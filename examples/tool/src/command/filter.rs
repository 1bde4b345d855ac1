//! Which terminals a command is about.

use clap::Args;
use tms_core::store::{BranchPath, RosterFilter};

/// Which terminals: all that agree in everything that is said.
#[derive(Args)]
pub(super) struct Filter {
    /// Those of this branch and the ones below it, such as /east/harbour; head office is /.
    #[arg(long, value_name = "PATH", default_value = "/")]
    branch: BranchPath,
    /// Those of this vendor.
    #[arg(long, value_name = "NAME")]
    vendor: Option<String>,
    /// Those of this model.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Those whose serial numbers begin so.
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// Those at this merchant.
    #[arg(long, value_name = "ID")]
    merchant: Option<String>,
    /// Those whose first application has this version.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

impl Filter {
    /// Whether it names all terminals.
    pub(super) fn is_all(&self) -> bool {
        self.roster() == RosterFilter::under(BranchPath::head_office())
    }

    pub(super) fn roster(&self) -> RosterFilter {
        RosterFilter {
            vendor: self.vendor.clone(),
            model: self.model.clone(),
            serial: self.serial.clone(),
            merchant: self.merchant.clone(),
            version: self.version.clone(),
            ..RosterFilter::under(self.branch.clone())
        }
    }
}
