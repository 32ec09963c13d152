//! The small plans whose neighbourhood is tried exhaustively.

use gha_fargate_runners::ports::Scope;

use super::{
    HOUR, MINUTE, SECOND,
    chance::{Key, Point},
    explore::Scenario,
    plan::Job,
    rates::{Rates, Spells},
    world::Settings,
};

/// The job of that number, ten seconds after the one before.
pub fn job(number: u64, labels: u8) -> Job {
    let at = number * 10 * SECOND;
    Job { number, at, labels, repository: 0, unique: false, takes: 2 * MINUTE, cancelled_after: None }
}

fn cancelled(job: Job, after: u64) -> Job {
    Job { cancelled_after: Some(after * SECOND), ..job }
}

/// The first decision about a job at a point.
pub fn first(job: u64, point: Point, choice: u8) -> (Key, u8) {
    (Key { job, point, nth: 0 }, choice)
}

/// All of them. In each, everything that can go wrong is tried by itself, and in those marked with 2 every two
/// things that can. With `deep`, that is done in all.
pub fn all(deep: bool) -> Vec<Scenario> {
    let stolen = |choice| first(1, Point::Assign, choice);
    let mut all = vec![
        new("one job", 2, vec![job(1, 0)], &[]),
        new("cancelled while its message is on its way", 1, vec![cancelled(job(1, 0), 0)], &[]),
        new("cancelled while its runner starts", 2, vec![cancelled(job(1, 0), 25)], &[]),
        new("cancelled in the moment in which it is taken", 1, vec![cancelled(job(1, 0), 29)], &[]),
        new("cancelled while it runs", 1, vec![cancelled(job(1, 0), 60)], &[]),
        new("its event comes twice", 2, vec![job(1, 0)], &[first(1, Point::Bus, 1)]),
        new("its event comes again later", 1, vec![job(1, 0)], &[first(1, Point::Bus, 3)]),
        new("its webhook never comes", 1, vec![job(1, 0)], &[first(1, Point::Webhook, 2)]),
        new("its webhook is not answered", 1, vec![job(1, 0)], &[first(1, Point::Webhook, 4)]),
        new("two jobs", 1, vec![job(1, 0), job(2, 0)], &[]),
        new("two jobs take each other's runners", 1, vec![job(1, 0), job(2, 0)], &[stolen(1)]),
        new(
            "a job with fewer labels takes a runner",
            1,
            vec![Job { unique: true, ..job(1, 0) }, job(2, 1)],
            &[stolen(1)],
        ),
        new(
            "a job is cancelled whose runner has another",
            1,
            vec![job(1, 0), cancelled(job(2, 0), 50)],
            &[stolen(1)],
        ),
        // Its runner connects after 29.45 s, and is given the other job 0.4 s later.
        new(
            "a job is cancelled in the moment in which its runner gets another",
            1,
            vec![Job { cancelled_after: Some(29_450), ..job(1, 0) }, job(2, 0)],
            &[],
        ),
        new("three jobs, two label sets", 1, vec![job(1, 0), job(2, 1), cancelled(job(3, 1), 40)], &[]),
        with_pool(new("a warm pool", 1, vec![job(40, 0), job(41, 1)], &[])),
        with_scope(Scope::Repo, new("in its repository", 1, vec![job(1, 0), elsewhere(job(2, 0))], &[])),
        with_scope(
            Scope::Enterprise("acme-inc".to_owned()),
            new("in an enterprise", 1, vec![job(1, 0)], &[]),
        ),
    ];
    all.extend(
        (1..=7).map(|boot| new("its runner dies", 1, vec![job(1, 0)], &[first(1, Point::Boot, boot)])),
    );
    if deep {
        all.iter_mut().for_each(|scenario| scenario.depth = 2);
    }
    all
}

/// Those in which several things go wrong in any case, and with which planted faults are caught.
pub fn worse() -> Vec<Scenario> {
    let nth = |job, point, nth, choice| (Key { job, point, nth }, choice);
    let (dry, twice) = (first(1, Point::Supply, 1), first(1, Point::Bus, 3));
    let always: Vec<_> = (0..60).map(|time| nth(1, Point::Boot, time, 2)).collect();
    let more = Job { unique: true, ..job(1, 0) };
    let taken = first(1, Point::Assign, 1);
    vec![
        new("its runner is lost with its registration", 1, vec![job(1, 0)], &[first(1, Point::Acquire, 2)]),
        new("every runner of it dies", 0, vec![job(1, 0)], &always),
        new(
            "its runner dies, and GitHub says nothing",
            0,
            vec![job(1, 0)],
            &[first(1, Point::Silence, 1), first(1, Point::Boot, 2)],
        ),
        new(
            "it is given the runner of one with more labels, and they are slow to say so",
            1,
            vec![more, Job { takes: 20 * MINUTE, ..job(2, 1) }],
            &[taken, first(1, Point::StoppedEvent, 2)],
        ),
        new(
            "another's runner is taken, and dies",
            1,
            vec![more, job(2, 1)],
            &[taken, first(1, Point::Boot, 6)],
        ),
        new(
            "its runner seems idle when it is swept",
            0,
            vec![Job { takes: 33 * MINUTE + 38 * SECOND, ..job(1, 0) }],
            &[nth(1, Point::Seems, 1, 1)],
        ),
        new(
            "a job is cancelled in the moment in which its runner gets another, and GitHub shows that late",
            1,
            vec![Job { cancelled_after: Some(29_450), ..job(1, 0) }, job(2, 0)],
            &[first(2, Point::Seems, 1)],
        ),
        with_rates(
            Rates { broken: Spells::During { from: 0, until: 2 * HOUR }, ..Rates::default() },
            new("all runners die", 0, (1..=4).map(|number| job(number, 0)).collect(), &[]),
        ),
        new(
            "Spot was dry, its runner taken, and its event comes again before the next one is up",
            1,
            vec![job(1, 0), Job { takes: MINUTE, ..job(2, 1) }],
            &[dry, taken, twice, nth(1, Point::Boot, 1, 5)],
        ),
    ]
}

/// Those in which the containers mint for themselves.
pub fn container_minted() -> Vec<Scenario> {
    let more = Job { unique: true, ..job(1, 0) };
    let (dry, taken) = (first(1, Point::Supply, 1), first(1, Point::Assign, 1));
    let mut all = vec![
        new("one job", 1, vec![job(1, 0)], &[]),
        new("cancelled while its message is on its way", 0, vec![cancelled(job(1, 0), 0)], &[]),
        new("cancelled while its runner starts", 0, vec![cancelled(job(1, 0), 25)], &[]),
        new("cancelled while it runs", 0, vec![cancelled(job(1, 0), 60)], &[]),
        new(
            "its event comes again later, and Spot was dry",
            0,
            vec![job(1, 0)],
            &[dry, first(1, Point::Bus, 3)],
        ),
        new("two jobs take each other's runners", 0, vec![job(1, 0), job(2, 0)], &[taken]),
        new("a job with fewer labels takes a runner", 0, vec![more, job(2, 1)], &[taken]),
        new("its runner loses it", 0, vec![job(1, 0)], &[first(1, Point::Acquire, 1)]),
    ];
    let (dies, unheard) = (first(1, Point::Boot, 2), first(1, Point::StoppedEvent, 2));
    all.push(new("its runner dies, and nobody tells", 0, vec![job(1, 0)], &[dies, unheard]));
    let dies = |boot| new("its runner dies", 0, vec![job(1, 0)], &[first(1, Point::Boot, boot)]);
    all.extend([1, 2, 3, 4, 5, 6, 7, 13].map(dies));
    let always: Vec<_> = (0..60).map(|nth| (Key { job: 1, point: Point::Boot, nth }, 2)).collect();
    all.push(new("every runner of it dies", 0, vec![job(1, 0)], &always));
    for scenario in &mut all {
        scenario.settings.container_minted = true;
    }
    all
}

/// A plan, and what goes wrong in any case.
pub fn new(name: &'static str, depth: usize, jobs: Vec<Job>, given: &[(Key, u8)]) -> Scenario {
    Scenario { name, jobs, given: given.iter().copied().collect(), depth, settings: Settings::default() }
}

fn elsewhere(job: Job) -> Job {
    Job { repository: 1, ..job }
}

fn with_scope(scope: Scope, mut scenario: Scenario) -> Scenario {
    scenario.settings.scope = scope;
    scenario
}

fn with_rates(rates: Rates, mut scenario: Scenario) -> Scenario {
    scenario.settings.rates = rates;
    scenario
}

fn with_pool(mut scenario: Scenario) -> Scenario {
    scenario.settings.pool = 1;
    scenario
}
