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
            modes.into_iter().find(|mode| !journal.refused_modes.contains(&mode.code())).map(Choice::Full)
        };
        let ticket = self.tickets.iter().find(|ticket| !ticket.refused).map(|ticket| Choice::Ticket(ticket.id));
        if let Some(choice) = ticket.or_else(|| full(self)) {
            return Some(choice);
        }
        self.forgive();
        self.tickets.first().map(|ticket| Choice::Ticket(ticket.id)).or_else(|| full(self))
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
        let mode = full_modes(identity, options).into_iter().any(|mode| !self.refused_modes.contains(&mode.code()));
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
        let common = options.suites.iter().map(|suite| suite.code()).find(|code| spoken.contains(code));
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
    [(main_key, Mode::MainKey), (rsa, Mode::Rsa)].into_iter().filter_map(|(has, mode)| has.then_some(mode)).collect()
}
