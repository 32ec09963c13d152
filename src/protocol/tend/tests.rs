//! All combinations of facts.

use std::collections::BTreeMap;

use expect_test::expect;

use super::*;
use crate::protocol::{
    life::{Reg, TaskState, life},
    table::{Row, hold_against_docs},
};

fn cases() -> Vec<Case> {
    use RunnerOwed::*;
    let mut cases = Vec::new();
    for reg in [Reg::Gone, Reg::Offline, Reg::Online, Reg::Busy, Reg::Hidden, Reg::Unused] {
        for task in [TaskState::Unseen, TaskState::Live, TaskState::Ended] {
            for heard in [Stopped, Unneeded, Swept { past: false }, Swept { past: true }] {
                for owner in [Job, Pool { surplus: false }, Pool { surplus: true }] {
                    let all = [AtWork, ToNobody, ToThePool, Unclear, MayStillCome, Served, Announced, ToAJob];
                    for owed in std::iter::once(None).chain(all.map(Some)) {
                        for (surely_spent, surely_unheard) in [(false, false), (true, true), (false, true)] {
                            let life = life(reg, task);
                            cases.push(Case { life, heard, owner, owed, surely_spent, surely_unheard });
                        }
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn what_holds_in_every_case() {
    for case in cases() {
        let step = tend(&case);
        let is_at_work = matches!(case.life, Life::Busy | Life::Blurred);
        let destroys = matches!(step, Spend | Stop | AnnounceAndStop | Retire | Replace);
        assert!(!(is_at_work && destroys), "{case:?}: {step:?}");
        let swept_as_live = matches!(case.life, Life::Starting | Life::Waiting | Life::Spent)
            && matches!(case.heard, Swept { .. });
        if swept_as_live && destroys {
            assert!(
                !matches!(case.owed, None | Some(RunnerOwed::AtWork)),
                "{case:?}: {step:?} without evidence"
            );
        }
        if case.life == Life::Waiting && matches!(case.heard, Swept { .. }) && destroys {
            assert_ne!(case.owed, Some(RunnerOwed::Unclear), "{case:?}: {step:?} in doubt");
        }
        if matches!(step, Replace | Announce | AnnounceAndStop | AnnounceAndTag | ReportAndAnnounce) {
            assert_eq!(case.owner, Job, "{case:?}: the pool owes nothing");
            let is_owed = !matches!(case.owed, None | Some(RunnerOwed::ToNobody));
            assert!(is_owed, "{case:?}: announced for nobody");
        }
        if step == LookOwed {
            assert_eq!(case.owed, None, "{case:?}: looked at twice");
        }
        if case.heard == (Swept { past: false }) && case.life != Life::Minted {
            assert_eq!(step, Leave, "{case:?}: it has time left");
        }
        if case.life == Life::Lost && case.heard == Stopped && case.owed.is_some() {
            assert!(matches!(step, Report | ReportAndAnnounce), "{case:?}: lost, and nobody is told");
        }
        let waits =
            matches!(case.life, Life::Dead | Life::Starting | Life::Waiting | Life::Astray | Life::Unused);
        let swept_or_stopped = matches!(case.heard, Stopped | Swept { past: true });
        if waits
            && swept_or_stopped
            && step != LookTags
            && case.owner == Job
            && case.owed == Some(RunnerOwed::ToAJob)
        {
            assert!(
                matches!(step, Replace | Announce | AnnounceAndStop),
                "{case:?}: a job waits, and gets no runner"
            );
        }
    }
}

fn count(steps: impl Iterator<Item = Step>) -> String {
    let mut counts = BTreeMap::new();
    for step in steps {
        *counts.entry(step).or_insert(0) += 1;
    }
    counts.into_iter().map(|(step, count)| format!("{count} × {step:?}\n")).collect()
}

#[test]
fn no_row_can_be_dropped() {
    let cases = cases();
    let whole = count(cases.iter().map(tend));
    expect![[r#"
        3891 × Leave
        126 × LookOwed
        54 × LookRegistration
        6 × LookTags
        6 × Join
        243 × Spend
        81 × HandBack
        69 × Tag
        326 × Stop
        10 × AnnounceAndStop
        3 × AnnounceAndTag
        589 × Retire
        95 × Replace
        45 × Announce
        252 × Report
        36 × ReportAndAnnounce
    "#]]
    .assert_eq(&whole);
    for (dropped, Row { when, .. }) in tend_rows().iter().enumerate() {
        let without: Option<Vec<Step>> = cases.iter().map(|case| tend_without(dropped, case)).collect();
        // A hole the compiler reports; anything else changes the counts above.
        if let Some(steps) = without {
            assert_ne!(count(steps.into_iter()), whole, "nobody would miss the row {when}");
        }
    }
}

#[test]
fn docs_show_the_rows() {
    hold_against_docs("tend", "life, heard, started for, owed", &tend_rows());
}
