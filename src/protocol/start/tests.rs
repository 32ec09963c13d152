//! Every case that can come up is played to its end, with every answer that GitHub and ECS can give.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;

use super::*;
use crate::protocol::table::{Row, hold_against_docs};

const NOBODY: Owed = Owed::ToNobody("over");
const LIVES: [Life; 10] = [
    Life::Minted,
    Life::Starting,
    Life::Waiting,
    Life::Busy,
    Life::Spent,
    Life::Dead,
    Life::Lost,
    Life::Astray,
    Life::Blurred,
    Life::Over,
];

fn beginnings() -> Vec<Case> {
    let mut cases = Vec::new();
    for asked in [Old, Doubtful, Announced, Fresh] {
        for receives in [1, 2, 4] {
            for attempt in [1, 2, 3] {
                let case = Case::new(asked, Some(receives), Attempt(attempt), 2);
                cases.extend([case.clone().hidden(false), case.clone().hidden(true), case]);
            }
        }
    }
    cases
}

/// The attempts of the job that are over.
fn with_past(case: &Case) -> Vec<Case> {
    let past = |how, failures| Some(Past { how, failures });
    let of = |so_far: u32| {
        [
            None,
            past(Ended::Idle, so_far + 1),
            past(Ended::RanAJob, so_far),
            past(Ended::RanSome { lately: true }, so_far),
            past(Ended::RanSome { lately: false }, so_far),
            past(Ended::RanAnother, so_far),
        ]
    };
    let so_far = case.attempt.0 - 1;
    let pairs = of(so_far).into_iter().flat_map(|this| [None, of(so_far + 1)[1]].map(|next| (this, next)));
    let ended = |(this, next): (Option<Past>, Option<Past>)| {
        let both = [(case.attempt, this), (case.attempt.next(), next)];
        both.into_iter().filter_map(|(attempt, how)| Some((attempt, how?))).collect()
    };
    pairs.map(|pair| Case { ended: Some(ended(pair)), ..case.clone() }).collect()
}

/// What the case can be after that step, whatever the outside answers.
fn answers(case: &Case, step: Step) -> Vec<Case> {
    let with = |change: &dyn Fn(&mut Case)| {
        let mut next = case.clone();
        change(&mut next);
        next
    };
    let did = |tries: &[Name]| tries.iter().map(|&name| with(&|c| c.named(name))).collect();
    match step {
        See(Look::Job) => [
            Owed::ToTheJob,
            Owed::ToAnother,
            Owed::Unheard,
            Owed::Unsaid,
            Owed::Unclear,
            Owed::HeldBack,
            NOBODY,
        ]
        .map(|owed| with(&|c| c.now.owed = Some(owed)))
        .into(),
        See(Look::Debt | Look::FarDebt) => [
            Owed::ToTheJob,
            Owed::ToAnother,
            Owed::Unsaid,
            Owed::Unclear,
            Owed::TooFar,
            Owed::HeldBack,
            NOBODY,
        ]
        .map(|owed| with(&|c| c.owes(owed, step == See(Look::FarDebt))))
        .into(),
        See(Look::Told) => {
            [Owed::ToTheJob, Owed::ToAnother, NOBODY].map(|owed| with(&|c| c.now.owed = Some(owed))).into()
        }
        See(Look::Tasks) => [None, Some(case.attempt)].map(|crew| with(&|c| c.crew = Some(crew))).into(),
        See(Look::Crew) => [None, Some(case.attempt), Some(case.attempt.next())]
            .map(|crew| with(&|c| c.crew = Some(crew)))
            .into(),
        See(Look::Stopped) => with_past(case),
        See(Look::Holder) => LIVES.map(|life| with(&|c| c.now.name = Taken(Some(life)))).into(),
        See(Look::Former) => {
            [Former::RanAJob, Former::RanAnother, Former::Lives, Former::Young, Former::Useless]
                .map(|former| with(&|c| c.now.launch = Conflict(Some(former))))
                .into()
        }
        Do(Mint) if case.now.name == Freed => did(&[Ours, Gone]),
        Do(Mint) => did(&[Ours, Taken(None)]),
        Do(Spend) => did(&[Freed, Gone, Name::Busy]),
        // Without a queue, it is spent at once.
        Do(HandBack) => did(&[HandedBack, Freed, Gone, Name::Busy]),
        Do(Discard) => did(&[GivenBack]),
        Do(RunTask) => {
            [Launch::Started, Conflict(None), Failed].map(|launch| with(&|c| c.launched(launch))).into()
        }
        Do(Forward | GoOn) => vec![with(&|c| c.forward())],
        Do(NextAttempt) => vec![with(&|c| c.advance())],
        Step::End(_) => Vec::new(),
    }
}

/// Plays on to every end; `each` sees every case, its step, and the steps before.
fn play(case: &Case, before: &mut Vec<Step>, each: &mut impl FnMut(&Case, Step, &[Step])) {
    let step = start(case);
    each(case, step, before);
    assert!(before.len() < 40, "no end: {before:?}");
    before.push(step);
    for next in answers(case, step) {
        play(&next, before, each);
    }
    before.pop();
}

fn all_plays(mut each: impl FnMut(&Case, Step, &[Step])) {
    for case in beginnings() {
        play(&case, &mut Vec::new(), &mut each);
    }
}

#[test]
fn the_good_case_is_two_steps() {
    let mut case = Case::new(Fresh, Some(1), Attempt::FIRST, 5);
    assert_eq!(start(&case), Do(Mint));
    case.now.name = Ours;
    assert_eq!(start(&case), Do(RunTask));
    case.now.launch = Launch::Started;
    assert_eq!(start(&case), Step::End(End::Started));
}

/// A job is left to a pool at the first receive of its own message, and never again; and whoever comes after that takes no
/// registration of another delivery for one that a crash has left.
#[test]
fn a_job_is_left_to_a_pool_once() {
    for pools in [Pools::None, Pools::Closed, Pools::Open] {
        for asked in [Fresh, Old, Doubtful, Announced] {
            let left: Vec<u32> =
                (1..=1000).filter(|receives| pools.go_first(asked, Some(*receives))).collect();
            let want = if (pools, asked) == (Pools::Open, Fresh) { vec![1] } else { vec![] };
            assert_eq!(left, want, "{pools:?} {asked:?}");
            assert!(!pools.go_first(asked, None), "whoever asks by hand waits for an answer");
        }
        let is_first = |asked, receives| {
            Case::new(asked, pools.receives(asked, Some(receives)), Attempt::FIRST, 5).first
        };
        let firsts = |asked| (1..9).filter(|receives| is_first(asked, *receives)).count();
        let own = if pools == Pools::None { 1 } else { 2 };
        assert_eq!([Fresh, Old, Doubtful, Announced].map(firsts), [own, own, own, 1]);
        assert_eq!(pools.receives(Doubtful, None), None);
    }
}

fn may_mint(case: &Case, before: &[Step]) {
    let was = |step| before.contains(&step);
    assert_ne!(case.now.owed, Some(NOBODY), "a mint for nobody");
    assert_eq!(case.had(), None, "a mint for an attempt that is over");
    if case.asked != Fresh {
        assert!(was(See(Look::Crew)) && was(See(Look::Stopped)));
        let look = if case.asked == Old { Look::Job } else { Look::Debt };
        assert!(was(See(look)), "nobody asked who is owed");
    }
    assert!(!case.forwarded, "a mint for a job that another was announced for");
    assert!(!was(Do(NextAttempt)) || !case.is_given_up(), "more than MAX_ATTEMPTS");
}

#[test]
fn what_holds_in_every_play() {
    let mut plays = 0;
    all_plays(|case, step, before| {
        let was = |step| before.contains(&step);
        let since = before.iter().rev().take_while(|it| **it != Do(NextAttempt));
        let this_attempt: Vec<Step> = since.copied().collect();
        let is_hidden = case.now.name == Hidden;
        assert!(
            !is_hidden
                || matches!(
                    step,
                    See(Look::Tasks | Look::Stopped | Look::Told) | Do(RunTask | Forward) | Step::End(_)
                ),
            "GitHub is asked where the container mints: {step:?}"
        );
        match step {
            Do(Mint) => {
                may_mint(case, before);
                let mints = this_attempt.iter().filter(|it| **it == Do(Mint)).count();
                assert!(mints < 2, "a third mint under one name");
            }
            Do(RunTask) => {
                assert!(matches!(case.now.name, Ours | Hidden), "RunTask without a registration");
                assert!(!case.several || was(See(Look::Tasks)), "a second task on another capacity");
                let is_known = case.asked == Fresh || was(See(Look::Stopped));
                assert!(!is_hidden || is_known, "how many died before is not known");
                let is_told = case.asked == Fresh || was(See(Look::Told));
                assert!(!is_hidden || is_told, "nobody looked whether the job is over");
                assert!(!is_hidden || case.had().is_none(), "RunTask answers with a task that is over");
                assert!(!this_attempt.contains(&step), "two RunTasks of one attempt");
            }
            Do(Spend) => assert!(case.had().is_some(), "another delivery may be between its two calls"),
            Do(NextAttempt) => assert!(this_attempt.contains(&See(Look::Debt)), "nobody asked who is owed"),
            Do(Forward | GoOn) => {
                assert!(!case.forwarded, "announced twice");
                assert!(
                    matches!(before.last(), Some(See(_))),
                    "who is owed was seen before an effect: {before:?}"
                );
            }
            Step::End(end) => {
                plays += 1;
                assert_eq!(end == End::Started, case.now.launch == Launch::Started);
                assert!(
                    case.now.name != Ours || end == End::Started,
                    "a registration without a task: {before:?}"
                );
                let waits = matches!(case.now.owed, Some(Owed::ToTheJob | Owed::Unsaid));
                assert!(end != GivenUp || waits, "a job is given up that runs, or is over");
            }
            Do(HandBack) => assert!(!case.first, "another delivery is at work, most likely"),
            See(_) | Do(Discard) => {}
        }
    });
    assert!(plays > 1_000, "only {plays} plays");
}

/// Every case that can come up, and its step.
fn cases() -> Vec<(Case, Step)> {
    let (mut seen, mut cases) = (BTreeSet::new(), Vec::new());
    all_plays(|case, step, _| {
        if seen.insert(format!("{case:?}")) {
            cases.push((case.clone(), step));
        }
    });
    cases
}

fn count(steps: impl Iterator<Item = Step>) -> String {
    let mut counts = BTreeMap::new();
    for step in steps {
        *counts.entry(format!("{step:?}")).or_insert(0) += 1;
    }
    counts.into_iter().map(|(step, count)| format!("{count} × {step}\n")).collect()
}

#[test]
fn no_row_can_be_dropped() {
    let cases = cases();
    let whole: Vec<Step> = cases.iter().map(|(_, step)| *step).collect();
    expect![[r#"
        324 × Do(Discard)
        1152 × Do(Forward)
        324 × Do(GoOn)
        108 × Do(HandBack)
        345 × Do(Mint)
        1442 × Do(NextAttempt)
        234 × Do(RunTask)
        1194 × Do(Spend)
        513 × End(Contradicted)
        204 × End(Duplicate("a runner for it is there already"))
        486 × End(Duplicate("its runner is there already"))
        459 × End(Duplicate("its runner runs a job"))
        387 × End(Duplicate("its task is there already"))
        72 × End(Duplicate("its task was started before, with other settings"))
        1278 × End(Duplicate("the runner of this attempt has run a job"))
        594 × End(Duplicate("the task of this attempt is over"))
        234 × End(Error)
        1152 × End(Forwarded)
        1224 × End(GivenUp)
        108 × End(HandedBack)
        1134 × End(InFlight)
        1374 × End(NotOwed("over"))
        550 × End(NotOwed("the job runs, or ran, on another's runner"))
        417 × End(NotOwed("the job waits for approval"))
        234 × End(Started)
        876 × End(Unclear)
        102 × Look(Crew)
        945 × Look(Debt)
        378 × Look(FarDebt)
        162 × Look(Former)
        162 × Look(Holder)
        9 × Look(Job)
        156 × Look(Stopped)
        63 × Look(Tasks)
        54 × Look(Told)
    "#]]
    .assert_eq(&count(whole.iter().copied()));
    let rows = start_rows();
    for (dropped, Row { when, .. }) in rows.iter().enumerate() {
        let without: Option<Vec<Step>> = cases.iter().map(|(case, _)| start_without(dropped, case)).collect();
        // A hole the compiler reports; anything else changes a step.
        if let Some(steps) = without {
            assert!(steps != whole, "nobody would miss the row {when}");
        }
    }
    let all: Option<Vec<Step>> = cases.iter().map(|(case, _)| start_without(rows.len(), case)).collect();
    assert!(all == Some(whole), "with all its rows it is the table");
}

#[test]
fn docs_show_the_rows() {
    let facts = "asked, owed, runner there, attempt over, name, RunTask";
    hold_against_docs("start", facts, &start_rows());
}

#[test]
fn whoever_announced_an_attempt_has_counted_those_that_died_before() {
    let past = |attempt, failures| (Attempt(attempt), Past { how: Ended::Idle, failures });
    let table = [
        // Told with which attempt, of those that are over, the attempt at hand.
        (None, vec![past(1, 1), past(2, 2)], 3, 2),
        (Some((3, 0)), vec![past(1, 1), past(2, 2)], 3, 0),
        (Some((3, 1)), vec![past(1, 1), past(2, 2)], 3, 1),
        (Some((3, 1)), vec![past(2, 2), past(3, 2)], 4, 2),
        (Some((3, 0)), vec![past(3, 1), past(4, 2)], 3, 1),
    ];
    for (told, ended, at, want) in table {
        let told = told.map(|(attempt, failures)| (Attempt(attempt), failures));
        let ended = Some(ended.into_iter().collect());
        let case = Case { told, ended, ..Case::new(Announced, Some(1), Attempt(at), 5) };
        assert_eq!(case.failures(), want, "{case:?}");
    }
}
