//! The merchants, and the terminals that stand with them.

use tms_core::estate::{InstallationFact as Fact, InstallationMessage};
use tms_core::store::BranchPath;
use tms_proto::identity::Holder;

/// The branches: path, name, and the area code of their telephone numbers.
pub(crate) const BRANCHES: [(&str, &str, &str); 3] = [
    ("/hangzhou", "Hangzhou branch", "0571"),
    ("/ningbo", "Ningbo branch", "0574"),
    ("/ningbo/beilun", "Beilun sub-branch", "0574"),
];

/// The models that the bank has bought: vendor and model, as the estate names them, how the bank's books name them, and how
/// their serial numbers begin.
pub(crate) const MODELS: [Model; 3] = [
    Model {
        vendor: "PAX",
        name: "P80",
        books: ("百富", "P80"),
        prefix: "8024",
    },
    Model {
        vendor: "Verifone",
        name: "Vx510",
        books: ("惠尔丰", "Vx510"),
        prefix: "2571",
    },
    Model {
        vendor: "Nexgo",
        name: "K301FZ",
        books: ("新国都", "K301FZ"),
        prefix: "3011",
    },
];

const NAMES: [&str; 12] = [
    "West Lake Silk",
    "Old Wharf Seafood",
    "Beilun Hardware",
    "Dragon Well Tea",
    "Moon Lake Books",
    "Harbour Noodles",
    "Jade Spring Hotel",
    "South Gate Pharmacy",
    "Anchor Ship Supplies",
    "Willow Lane Bakery",
    "Drum Tower Optics",
    "Red Hill Outfitters",
];

/// A model of terminals.
pub(crate) struct Model {
    pub(crate) vendor: &'static str,
    pub(crate) name: &'static str,
    pub(crate) books: (&'static str, &'static str),
    prefix: &'static str,
}

/// A merchant with one terminal.
#[derive(Clone)]
pub(crate) struct Shop {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) merchant: String,
    pub(crate) branch: BranchPath,
    /// The number of its telephone line.
    pub(crate) telephone: String,
    pub(crate) model: &'static Model,
    pub(crate) serial: String,
}

impl Shop {
    /// The shop with this number, from 0. None where there is no such branch or model: never.
    pub(crate) fn new(index: usize) -> Option<Self> {
        let (path, _, area) = BRANCHES.get(index % BRANCHES.len())?;
        let model = MODELS.get((index + index / BRANCHES.len()) % MODELS.len())?;
        let number = index + 1;
        let name = NAMES
            .get(index)
            .map_or_else(|| format!("Shop {number}"), |name| (*name).to_owned());
        Some(Self {
            index,
            name,
            merchant: format!("8983300000{number:05}"),
            branch: path.parse().ok()?,
            telephone: format!("{area}5550{number:04}"),
            model,
            serial: format!("{}{number:05}", model.prefix),
        })
    }

    pub(crate) fn holder(&self) -> Holder {
        Holder {
            vendor: self.model.vendor.to_owned(),
            model: self.model.name.to_owned(),
            serial: self.serial.clone(),
        }
    }

    /// The terminal, in words.
    pub(crate) fn label(&self) -> String {
        format!("{} {} {}", self.model.vendor, self.model.name, self.serial)
    }

    /// The business system's name for its installation.
    pub(crate) fn reference(&self) -> String {
        format!("BMS-{:05}", self.index + 1)
    }

    /// What the business system says of its installation. Names are as people write them there.
    pub(crate) fn installation(&self, issued: u64) -> InstallationMessage {
        let facts = [
            (Fact::Branch, self.branch.to_string()),
            (Fact::Merchant, self.merchant.clone()),
            (Fact::MerchantName, self.name.clone()),
            (Fact::Site, format!("site-{:05}", self.index + 1)),
            (Fact::Address, format!("{} Harbour Road", self.index + 1)),
            (Fact::Terminal, format!("{:08}", 10_000_001 + self.index)),
            (Fact::Vendor, self.model.books.0.to_owned()),
            (Fact::Model, self.model.books.1.to_owned()),
            (Fact::Serial, format!("S/N {}", self.serial)),
            (Fact::Applications, "cashier".to_owned()),
        ];
        InstallationMessage {
            reference: self.reference(),
            issued,
            facts: facts.into(),
            withdrawn: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_branch_has_every_model_and_no_two_shops_share_anything() {
        let shops: Vec<_> = (0..500).map(|index| Shop::new(index).unwrap()).collect();
        let kinds: BTreeSet<_> = shops[..9]
            .iter()
            .map(|shop| (shop.branch.to_string(), shop.model.name))
            .collect();
        assert_eq!(kinds.len(), 9);
        for one in [
            |shop: &Shop| shop.serial.clone(),
            |shop: &Shop| shop.merchant.clone(),
            |shop: &Shop| shop.telephone.clone(),
        ] {
            assert_eq!(shops.iter().map(one).collect::<BTreeSet<_>>().len(), 500);
        }
        assert!(shops.iter().all(|shop| shop.merchant.len() == 15));
    }
}
