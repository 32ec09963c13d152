//! What comes next for a registration that was found without a task, and handed back: the whole of it, in one table.
//!
//! Whatever is owed to its job is announced first, as after any other loss of a runner; then the registration is spent. So
//! nothing waits here for capacity or for a place, and at no moment does the job's runner hang on this message alone.

use crate::protocol::{life::Life, table::table};

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Did {
    /// Nothing.
    #[default]
    Nothing,
    /// The attempt was announced.
    Announced,
    /// And its registration spent.
    Spent,
}

/// What is known so far. `None`: nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Case {
    /// The runner of that name. [`Life::Over`]: there is none.
    pub holder: Option<Life>,
    /// What was done.
    pub did: Did,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Who holds the name.
    LookHolder,
    /// Announce the attempt.
    Announce,
    /// DELETE of the registration.
    Spend,
    /// This is how it ended.
    End(End),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The announcement has it from here.
    Announced,
    /// It is registered no more.
    Gone,
    /// Its runner is there.
    Duplicate,
}

use self::{Did::*, Step::*};

table! {
    /// What comes next for a registration that was handed back.
    pub fn handed_back / handed_back_rows / handed_back_without (c: &Case) -> Step = match (c.holder, c.did);

    "Done.":
        (_, Spent)                                  => End(self::End::Announced);
    "No registration stays without a task.":
        (_, Announced)                              => Spend;
    "Somebody may have seen to it meanwhile.":
        (None, _)                                   => LookHolder;
    "Whoever spent it has seen to the job, or announced it before. What is only not listed is handed back again.":
        (Some(Life::Over), _)                       => End(Gone);
    "A crash between mint and RunTask, or a runner that died unheard: what was at work on it when it was handed back is done by now.":
        (Some(Life::Minted), _)                     => Announce;
    "A task on its way, or a runner that is up, holds it.":
        (Some(_), _)                                => End(Duplicate);
}

use self::End::{Duplicate, Gone};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::table::{Row, hold_against_docs};

    const LIVES: [Option<Life>; 5] =
        [None, Some(Life::Over), Some(Life::Minted), Some(Life::Starting), Some(Life::Blurred)];

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for holder in LIVES {
            for did in [Nothing, Announced, Spent] {
                cases.push(Case { holder, did });
            }
        }
        cases
    }

    #[test]
    fn what_holds_in_every_case() {
        for case in cases() {
            match handed_back(&case) {
                Spend => {
                    assert_eq!(case.did, Announced, "announced first: {case:?}");
                }
                Announce => {
                    assert_eq!((case.did, case.holder), (Nothing, Some(Life::Minted)), "{case:?}");
                }
                LookHolder => assert_eq!(case.holder, None, "{case:?}"),
                End(_) => {}
            }
        }
    }

    #[test]
    fn no_row_can_be_dropped() {
        let cases = cases();
        let whole: Vec<Step> = cases.iter().map(handed_back).collect();
        for (dropped, Row { when, .. }) in handed_back_rows().iter().enumerate() {
            let without: Option<Vec<Step>> =
                cases.iter().map(|case| handed_back_without(dropped, case)).collect();
            assert_ne!(without, Some(whole.clone()), "nobody would miss the row {when}");
        }
    }

    #[test]
    fn docs_show_the_rows() {
        hold_against_docs("handed back", "runner of that name, done", &handed_back_rows());
    }
}
