//! All combinations of facts.

use std::collections::BTreeMap as Map;

use expect_test::expect;
use time::macros::datetime;

use super::*;
use crate::{
    ids::RunId,
    protocol::table::{Row, hold_against_docs},
};

const NOON: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn options<T: Copy>(all: &[T]) -> Vec<Option<T>> {
    std::iter::once(None).chain(all.iter().copied().map(Some)).collect()
}

fn cases() -> Vec<Case> {
    let lots = [Lot::Unsaid, Lot::AtWork, Lot::Well, Lot::ByItself, Lot::Cancelled, Lot::Interrupted];
    let run_states = [
        RunState::Unsaid,
        RunState::Newer,
        RunState::AtWork,
        RunState::TooOld,
        RunState::TooOften,
        RunState::Again,
        RunState::Cancelled,
        RunState::Over,
    ];
    let all = [
        Others::Unsaid,
        Others::AtWork,
        Others::Interrupted,
        Others::FailFast,
        Others::Cancelled,
        Others::Failed,
        Others::Mixed,
    ];
    let answers = [RerunAnswer::Granted, RerunAnswer::Busy, RerunAnswer::Denied, RerunAnswer::Refused];
    let mut cases = Vec::new();
    for lot in options(&lots) {
        for run_state in options(&run_states) {
            for others in options(&all) {
                for turn in [false, true] {
                    for answer in options(&answers) {
                        cases.push(Case { lot, run_state, others, turn, answer });
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
        let step = rerun(&case);
        match step {
            LookJob => assert_eq!(case.lot, None, "{case:?}"),
            LookRun => assert_eq!(case.run_state, None, "{case:?}"),
            LookOthers => assert_eq!(case.others, None, "{case:?}"),
            RerunFailed | RerunJob => {
                assert_eq!((case.lot, case.answer), (Some(Lot::Interrupted), None), "{case:?}");
                assert!(matches!(case.run_state, Some(RunState::Over | RunState::Cancelled)), "{case:?}");
                assert!(case.turn, "{case:?}");
                // Nothing is run again after a user's own failure, nor what somebody cancelled.
                assert!(!matches!(
                    case.others,
                    None | Some(Others::Unsaid | Others::AtWork | Others::Cancelled | Others::Mixed)
                ));
                assert!(step == RerunJob || case.others != Some(Others::Failed), "{case:?}");
            }
            Later | End(_) => {}
        }
    }
}

/// Every case, with every answer, comes to its end in a few steps: nothing is looked at twice.
#[test]
fn every_case_ends() {
    for mut case in cases() {
        let goal = (case.lot, case.run_state, case.others, case.answer);
        (case.lot, case.run_state, case.others, case.answer) = (None, None, None, None);
        let steps = (0..6).map(|_| {
            let step = rerun(&case);
            match step {
                LookJob => case.lot = goal.0.or(Some(Lot::Unsaid)),
                LookRun => case.run_state = goal.1.or(Some(RunState::Unsaid)),
                LookOthers => case.others = goal.2.or(Some(Others::Unsaid)),
                RerunFailed | RerunJob => case.answer = goal.3.or(Some(RerunAnswer::Granted)),
                Later | End(_) => {}
            }
            step
        });
        let last = steps.last();
        assert!(matches!(last, Some(Later | End(_))), "{goal:?}: {last:?}");
    }
}

fn count(steps: impl Iterator<Item = Step>) -> String {
    let mut counts = Map::new();
    for step in steps {
        *counts.entry(step).or_insert(0) += 1;
    }
    counts.into_iter().map(|(step, count)| format!("{count} × {step:?}\n")).collect()
}

#[test]
fn no_row_can_be_dropped() {
    let cases = cases();
    let whole = count(cases.iter().map(rerun));
    expect![[r#"
        144 × LookJob
        16 × LookRun
        6 × LookOthers
        3 × RerunFailed
        2 × RerunJob
        1176 × Later
        1008 × End(Reran)
        144 × End(Settled("GitHub shows no such job"))
        16 × End(Settled("GitHub shows no such run"))
        16 × End(Settled("a newer attempt is there"))
        144 × End(Settled("the job ended well"))
        144 × End(Settled("the job failed by itself"))
        144 × End(Settled("the job was cancelled"))
        8 × End(Settled("the run was cancelled"))
        4 × End(LeftToAuthor("GitHub does not list the attempt's jobs"))
        1008 × End(LeftToAuthor("GitHub does not run it again"))
        16 × End(LeftToAuthor("it was run again before, and interrupted again"))
        1 × End(LeftToAuthor("other jobs failed by themselves, and several were interrupted"))
        16 × End(LeftToAuthor("the run has had 50 attempts"))
        16 × End(LeftToAuthor("the run is older than 30 days"))
        1008 × End(Denied)
    "#]]
    .assert_eq(&whole);
    for (dropped, Row { when, .. }) in rerun_rows().iter().enumerate() {
        let without: Option<Vec<Step>> = cases.iter().map(|case| rerun_without(dropped, case)).collect();
        if let Some(steps) = without {
            assert_ne!(count(steps.into_iter()), whole, "nobody would miss the row {when}");
        }
    }
}

#[test]
fn docs_show_the_rows() {
    hold_against_docs("rerun", "job, run, other failed jobs, answer", &rerun_rows());
}

fn job(id: u64, name: &str, conclusion: Option<Conclusion>, seconds: i64) -> RunJob {
    RunJob {
        id: JobId(id),
        run: RunId(1),
        attempt: 1,
        name: name.to_owned(),
        status: if conclusion.is_some() { JobStatus::Completed } else { JobStatus::InProgress },
        conclusion,
        completed_at: conclusion.map(|_| NOON + Duration::seconds(seconds)),
        runner_name: None,
        labels: Vec::new(),
        head_sha: None,
    }
}

/// Taken back at noon, gone half a minute later.
const TAKEN: Interruption = Interruption { from: NOON, to: datetime!(2026-11-24 12:00:30 UTC) };
const SOON: OffsetDateTime = datetime!(2026-11-24 12:01 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-24 13:00 UTC);

#[test]
fn lots() {
    use Conclusion::*;
    let table = [
        (None, 0, Lot::AtWork),
        (Some(Well), 10, Lot::Well),
        (Some(Failed), 10, Lot::Interrupted),
        // GitHub notices late, when nobody told it.
        (Some(Failed), 900, Lot::Interrupted),
        // Its runner was taken back while it ended.
        (Some(Failed), -1, Lot::ByItself),
        (Some(Failed), 0, Lot::Interrupted),
        // Its runner reported it so.
        (Some(Cancelled), 20, Lot::Interrupted),
        // It hung, and somebody cancelled it.
        (Some(Cancelled), 300, Lot::Cancelled),
        (Some(Cancelled), -90, Lot::Cancelled),
    ];
    for (conclusion, seconds, want) in table {
        let job = job(1, "test", conclusion, seconds);
        assert_eq!(lot(Some(&job), TAKEN, LATER), want, "{conclusion:?} {seconds}");
    }
    assert_eq!(lot(None, TAKEN, LATER), Lot::Unsaid);
    assert_eq!(lot(None, TAKEN, SOON), Lot::AtWork, "the answer may be older than the job");
    let untold = RunJob { completed_at: None, ..job(1, "test", Some(Failed), 0) };
    assert_eq!(lot(Some(&untold), TAKEN, LATER), Lot::ByItself, "when in doubt, it is the user's");
}

#[test]
fn run_states() {
    let run = Run {
        attempt: 1,
        over: true,
        cancelled: false,
        created_at: Some(NOON),
        updated_at: Some(NOON),
        asked_by: None,
    };
    let at = |run: &Run, is_own| run_state(Some(run), 1, is_own, TAKEN, LATER);
    assert_eq!(run_state(None, 1, false, TAKEN, LATER), RunState::Unsaid);
    assert_eq!(run_state(None, 1, false, TAKEN, SOON), RunState::AtWork);
    assert_eq!(at(&run, false), RunState::Over);
    assert_eq!(at(&run, true), RunState::Again);
    assert_eq!(at(&Run { cancelled: true, ..run.clone() }, false), RunState::Cancelled);
    assert_eq!(at(&Run { attempt: 2, over: false, ..run.clone() }, false), RunState::Newer);
    assert_eq!(at(&Run { over: false, ..run.clone() }, true), RunState::AtWork);
    assert_eq!(run_state(Some(&run), 2, false, TAKEN, LATER), RunState::AtWork, "older than the attempt");
    let old = Run { created_at: Some(NOON - Duration::days(31)), ..run.clone() };
    assert_eq!(at(&old, false), RunState::TooOld);
    let often = Run { attempt: 50, ..run.clone() };
    assert_eq!(run_state(Some(&often), 50, false, TAKEN, LATER), RunState::TooOften);
}

#[test]
fn one_message_of_an_attempt_goes_first() {
    let run = |seconds| Run {
        attempt: 1,
        over: true,
        cancelled: false,
        created_at: None,
        updated_at: Some(NOON - Duration::seconds(seconds)),
        asked_by: None,
    };
    let known: Interruptions = [(JobId(1), TAKEN), (JobId(2), TAKEN)].into();
    assert!(turn(JobId(1), &known, false, &run(0), NOON));
    assert!(!turn(JobId(2), &known, false, &run(200), NOON));
    assert!(turn(JobId(2), &known, false, &run(300), NOON), "the first may never come");
    assert!(!turn(JobId(1), &known, true, &run(1000), NOON), "a sibling may know more");
    assert!(turn(JobId(1), &known, true, &run(1300), NOON));
}

#[test]
fn the_rest_of_an_attempt() {
    use Conclusion::*;
    let (a, b) = ("build (1, x)", "build (2, x)");
    let known: Interruptions = [(JobId(1), TAKEN), (JobId(2), TAKEN)].into();
    let own = || job(1, a, Some(Failed), 10);
    let table = [
        (vec![own()], Others::Interrupted),
        (vec![own(), job(3, "lint", Some(Well), 5)], Others::Interrupted),
        (vec![own(), job(2, b, Some(Failed), 20)], Others::Interrupted),
        // Cancelled by fail-fast, at once.
        (vec![own(), job(3, "build (3, x)", Some(Cancelled), 30)], Others::FailFast),
        // Of another job, or long after, or without a failure: by somebody.
        (vec![own(), job(3, "lint", Some(Cancelled), 30)], Others::Cancelled),
        (vec![own(), job(3, "build", Some(Cancelled), 30)], Others::Cancelled),
        (vec![own(), job(3, "build (3, x)", Some(Cancelled), 900)], Others::Cancelled),
        (
            vec![job(1, a, Some(Cancelled), 10), job(3, "build (3, x)", Some(Cancelled), 30)],
            Others::Cancelled,
        ),
        (vec![own(), job(3, "lint", Some(Failed), -500)], Others::Failed),
        (vec![own(), job(2, b, Some(Failed), 20), job(3, "lint", Some(Failed), 1)], Others::Mixed),
        (
            vec![own(), job(3, "build (3, x)", Some(Cancelled), 30), job(4, "lint", Some(Failed), 1)],
            Others::Mixed,
        ),
        // Its runner went after it.
        (vec![own(), job(2, b, Some(Failed), -1)], Others::Failed),
        (vec![own(), job(2, b, None, 0)], Others::AtWork),
        // As it was before them.
        (vec![], Others::AtWork),
    ];
    for (index, (jobs, want)) in table.into_iter().enumerate() {
        assert_eq!(others(JobId(1), Some(&jobs), &known), want, "row {index}");
    }
    assert_eq!(others(JobId(1), None, &known), Others::Unsaid);
}

#[test]
fn names_of_a_matrix() {
    let table = [
        ("build (1)", Some("build")),
        ("ci / build (x64, [a, b])", Some("ci / build")),
        ("build", None),
        ("build (x", None),
        ("", None),
    ];
    for (name, want) in table {
        assert_eq!(matrix(name), want, "{name}");
    }
}
