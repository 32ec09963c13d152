//! The small plans whose neighbourhood is tried exhaustively.

use gha_fargate_runners::ports::Scope;

use super::{
    MINUTE, SECOND,
    chance::{Key, Point},
    explore::Scenario,
    plan::Job,
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

fn with_pool(mut scenario: Scenario) -> Scenario {
    scenario.settings.pool = 1;
    scenario
}
