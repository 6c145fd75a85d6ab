//! What was played: how many commands of each kind, accepted and refused.

use leasehold_chaincode::{Action, Command};
use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($all:ident, $of:ident, $type:ident, $($kind:ident)*) => {
        const $all: &[&str] = &[$(stringify!($kind)),*];

        /// Does not compile where one is missing.
        fn $of(one: &$type) -> &'static str {
            match one {
                $($type::$kind { .. } => stringify!($kind),)*
            }
        }
    };
}

kinds! { COMMANDS, command, Command,
    RegisterDataset AmendDataset ReplaceVolume OfferDataset TakeDataset RemoveDataset ApproveCode WithdrawCode
    Lease ApproveLease DenyLease Renew Release Revoke Expire ConfirmEnd DeclareEnded ReportMount
    JoinConsortium AmendOrganisation SuspendOrganisation ResumeOrganisation VoteOnSuspension
    RegisterCluster RetireCluster RecordTrace
}

kinds! { ACTIONS, action, Action, CreateDataset UpdateDataset UseDatasets Run CreateModel UseModels }

/// How often something was accepted, and refused.
type Counts = BTreeMap<&'static str, [u64; 2]>;

/// Commands that were played, by kind; those of traces by what was done, too.
#[derive(Debug, Default)]
pub struct Tally {
    commands: Counts,
    actions: Counts,
    histories: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, one: &Command, accepted: bool) {
        let at = usize::from(!accepted);
        self.commands.entry(command(one)).or_default()[at] += 1;
        if let Command::RecordTrace { action: done, .. } = one {
            self.actions.entry(action(done)).or_default()[at] += 1;
        }
    }

    pub(crate) fn count_history(&mut self) {
        self.histories += 1;
    }

    /// All of them.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.commands.values().flatten().sum()
    }

    /// Fails where the histories leave something out that the contract has.
    ///
    /// # Panics
    /// Where a kind of command, or of trace, was never accepted.
    pub fn has_every_kind(&self) {
        for (all, counts) in [(COMMANDS, &self.commands), (ACTIONS, &self.actions)] {
            let missing: Vec<_> = all
                .iter()
                .filter(|kind| counts.get(**kind).is_none_or(|[accepted, _]| *accepted == 0))
                .collect();
            assert!(missing.is_empty(), "never accepted: {missing:?}\n{self}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted: u64 = self.commands.values().map(|[accepted, _]| accepted).sum();
        writeln!(
            f,
            "{} histories of {} commands, {accepted} of them accepted",
            self.histories,
            self.played()
        )?;
        for (kind, [accepted, refused]) in self.commands.iter().chain(&self.actions) {
            writeln!(f, "  {kind:20} accepted {accepted:8}  refused {refused:8}")?;
        }
        Ok(())
    }
}
