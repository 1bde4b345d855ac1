//! Which credentials a call is opened with: a ticket if there is one, else full authentication.

use super::journal::Journal;
use super::timeline::Now;
use super::{Identity, Options};
use tms_proto::handshake::{Mode, Suite};

/// Credentials for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The ticket with this id.
    Ticket([u8; 16]),
    /// Full authentication in this mode.
    Full(Mode),
}

impl Journal {
    /// The credentials to call with. Those that were refused come last; when all were, all are tried again.
    ///
    /// A refusal is not authenticated: whoever sits on the line can refuse. So it ends nothing, it only changes the order.
    pub(super) fn choose(&mut self, identity: &Identity, options: &Options, now: Now) -> Option<Choice> {
        self.tickets.retain(|ticket| !now.is_past(ticket.expires));
        let full = |journal: &Self| {
            let modes = full_modes(identity, options).into_iter();
            modes
                .into_iter()
                .find(|mode| !journal.refused_modes.contains(&mode.code()))
                .map(Choice::Full)
        };
        let ticket = self
            .tickets
            .iter()
            .find(|ticket| !ticket.refused)
            .map(|ticket| Choice::Ticket(ticket.id));
        if let Some(choice) = ticket.or_else(|| full(self)) {
            return Some(choice);
        }
        self.forgive();
        self.tickets
            .first()
            .map(|ticket| Choice::Ticket(ticket.id))
            .or_else(|| full(self))
    }

    /// Notes that credentials were refused. Says whether there are others to try.
    pub(super) fn refused(&mut self, choice: Choice, identity: &Identity, options: &Options) -> bool {
        match choice {
            Choice::Ticket(id) => {
                for ticket in self.tickets.iter_mut().filter(|ticket| ticket.id == id) {
                    ticket.refused = true;
                }
            }
            Choice::Full(mode) => self.refused_modes.push(mode.code()),
        }
        let ticket = self.tickets.iter().any(|ticket| !ticket.refused);
        let mode = full_modes(identity, options)
            .into_iter()
            .any(|mode| !self.refused_modes.contains(&mode.code()));
        if !ticket && !mode {
            self.forgive();
        }
        ticket || mode
    }

    fn forgive(&mut self) {
        self.refused_modes.clear();
        for ticket in &mut self.tickets {
            ticket.refused = false;
        }
    }

    /// The suites to offer, the one to use first.
    pub(super) fn suites(&self, options: &Options) -> Vec<Suite> {
        let mut suites = options.suites.clone();
        // Sorting is stable: the rest keeps its order.
        suites.sort_by_key(|suite| Some(suite.code()) != self.suite);
        suites
    }

    /// The server does not take the suite. Says whether there is another that both have: never one that the terminal was not
    /// told to speak.
    pub(super) fn change_suite(&mut self, spoken: &[u8], options: &Options) -> bool {
        let used = self.suites(options).first().map(|suite| suite.code());
        let common = options
            .suites
            .iter()
            .map(|suite| suite.code())
            .find(|code| spoken.contains(code));
        let changes = common.is_some() && common != used;
        // At once the first time; whoever makes it change again and again has to wait for it.
        let at_once = changes && self.suite.is_none();
        if changes {
            self.suite = common;
        }
        at_once
    }
}

fn full_modes(identity: &Identity, options: &Options) -> Vec<Mode> {
    let (rsa, main_key) = (identity.rsa.is_some(), identity.main_key.is_some());
    if options.both {
        return if rsa && main_key { vec![Mode::Both] } else { Vec::new() };
    }
    [(main_key, Mode::MainKey), (rsa, Mode::Rsa)]
        .into_iter()
        .filter_map(|(has, mode)| has.then_some(mode))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::journal::HeldTicket;
    use super::super::{Identity, MainKeyIdentity};
    use super::*;
    use crate::custody::MemoryKeys;
    use crate::store::{Holder, TerminalId};
    use std::sync::Arc;
    use tms_proto::certificate::Anchors;
    use tms_proto::secret::Secret;

    const NOW: Now = Now {
        clock: 50,
        floor: 50,
        time: Some(50),
    };

    fn identity() -> Identity {
        Identity {
            terminal: TerminalId(1),
            holder: Holder {
                vendor: "v".into(),
                model: "m".into(),
                serial: "s".into(),
            },
            anchors: Anchors::default(),
            rsa: None,
            main_key: Some(MainKeyIdentity {
                keys: Arc::new(MemoryKeys::new()),
                epoch: 1,
            }),
        }
    }

    fn ticket(id: u8, expires: u64) -> HeldTicket {
        HeldTicket {
            id: [id; 16],
            key: Secret::new([id; 32]),
            expires,
            refused: false,
        }
    }

    #[test]
    fn the_oldest_ticket_goes_first_and_refused_credentials_last() {
        let (identity, options) = (identity(), Options::default());
        let mut journal = Journal {
            tickets: vec![ticket(1, 99), ticket(2, 99), ticket(3, 50)],
            ..Journal::default()
        };
        for round in 0..2 {
            let mut choices = Vec::new();
            loop {
                let choice = journal.choose(&identity, &options, NOW).unwrap();
                choices.push(choice);
                if !journal.refused(choice, &identity, &options) {
                    break;
                }
            }
            let expected = [
                Choice::Ticket([1; 16]),
                Choice::Ticket([2; 16]),
                Choice::Full(Mode::MainKey),
            ];
            assert_eq!(choices, expected, "round {round}");
        }
        assert_eq!(
            journal.tickets.len(),
            2,
            "an expired ticket is gone, a refused one is not"
        );
    }

    #[test]
    fn mode_4_takes_both_keys_or_none() {
        let mut journal = Journal::default();
        let options = Options {
            both: true,
            ..Options::default()
        };
        assert_eq!(journal.choose(&identity(), &options, NOW), None);
        let nothing = Identity {
            main_key: None,
            ..identity()
        };
        assert_eq!(journal.choose(&nothing, &Options::default(), NOW), None);
    }

    #[test]
    fn a_suite_changes_within_the_list_and_at_once_only_the_first_time() {
        let one = Options {
            suites: vec![Suite::ChaChaPoly],
            ..Options::default()
        };
        let mut journal = Journal::default();
        assert!(!journal.change_suite(&[Suite::AesGcm.code()], &one));
        assert_eq!(journal.suites(&one), [Suite::ChaChaPoly]);
        let two = Options {
            suites: vec![Suite::ChaChaPoly, Suite::AesGcm],
            ..Options::default()
        };
        assert!(journal.change_suite(&[Suite::AesGcm.code()], &two));
        assert_eq!(journal.suites(&two), [Suite::AesGcm, Suite::ChaChaPoly]);
        assert!(!journal.change_suite(&[Suite::ChaChaPoly.code()], &two));
        assert_eq!(journal.suites(&two), [Suite::ChaChaPoly, Suite::AesGcm]);
    }
}
