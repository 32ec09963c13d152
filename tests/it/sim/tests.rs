//! The promise, tried: every history near a few small plans, with everything that can go wrong in it; histories
//! that once broke it; and faults planted on purpose, each of which must be found.

use super::{
    HOUR, MINUTE, SECOND,
    chance::{Chance, Key, Point},
    explore,
    lambda::History,
    older::{Known, Older},
    plan::{Job, Plan},
    planted,
    rates::{Rates, Spells},
    requests::fate,
    scenarios::{self, first, job},
    world::Settings,
    wrong_reruns,
};

#[test]
fn nothing_that_goes_wrong_breaks_the_promise() {
    let mut histories = 0;
    for scenario in scenarios::all(false).into_iter().chain(scenarios::worse()) {
        let (tried, failing) = explore::shortest(&scenario);
        histories += tried;
        if let Some(failing) = failing {
            panic!("{}:\n{}", scenario.name, failing.story());
        }
    }
    println!("{histories} histories");
    assert!(histories > 10_000, "only {histories} histories were tried");
}

/// The history in which just this goes wrong.
fn holds(name: &'static str, jobs: Vec<Job>, given: &[(Key, u8)]) {
    let (_, failing) = explore::shortest(&scenarios::new(name, 0, jobs, given));
    if let Some(failing) = failing {
        panic!("{name}:\n{}", failing.story());
    }
}

/// `fewer` may take the runner of `more`, and not the other way round.
fn more_and_fewer() -> Vec<Job> {
    vec![Job { unique: true, ..job(1, 0) }, job(2, 1)]
}

#[test]
fn a_runner_taken_by_a_job_with_fewer_labels_is_owed_again() {
    let taken = first(1, Point::Assign, 1);
    holds("taken", more_and_fewer(), &[taken]);
    holds("taken, and nobody tells", more_and_fewer(), &[taken, first(2, Point::ListLag, 1)]);
    let (unlisted, stays) = (first(1, Point::ListLag, 1), first(1, Point::Exit, 1));
    holds("taken, not listed, and it stays", more_and_fewer(), &[taken, unlisted, stays]);
    for boot in [6, 7] {
        holds(
            "taken, and it dies with the other job",
            more_and_fewer(),
            &[taken, first(1, Point::Boot, boot)],
        );
    }
}

#[test]
fn that_a_runner_was_taken_is_heard_in_more_than_one_way() {
    // The runner of the first job runs the second, whose runner runs the third, and so on: only the last one idles.
    let jobs = |count| {
        let others = (3..=count).map(|number| Job { takes: 20 * MINUTE, repository: 1, ..job(number, 1) });
        more_and_fewer().into_iter().chain(others).collect::<Vec<_>>()
    };
    let dies = |nth| (Key { job: 2, point: Point::PutEvents, nth }, fate::DIES_BEFORE);
    for count in [2, 3, 4, 6, 9] {
        let mut given: Vec<_> = (1..count).map(|job| first(job, Point::Assign, 1)).collect();
        given.push(first(1, Point::StoppedEvent, 2));
        // The first webhook says that the job is queued, the second that it runs, the third that it is over.
        given.push(dies(1));
        holds("the task is gone when it is heard that the job runs", jobs(count), &given);
        given.push(dies(2));
        holds("the task is gone when it is heard that the job is over", jobs(count), &given);
    }
}

#[test]
fn a_job_whose_runner_lost_it_gets_another() {
    let lost = first(1, Point::Acquire, 1);
    holds("lost", vec![job(1, 0)], &[lost]);
    holds("lost by another's", vec![job(1, 0), job(2, 0)], &[lost, first(1, Point::Assign, 1)]);
    for times in [5, 6] {
        let always: Vec<_> = (0..times).map(|nth| (Key { job: 1, point: Point::Acquire, nth }, 1)).collect();
        holds("lost by MAX_ATTEMPTS runners and more", vec![job(1, 0)], &always);
    }
    let (fails, late) = (first(1, Point::Boot, 1), first(1, Point::StoppedEvent, 3));
    holds("lost by a runner that nobody knows the repository of", vec![job(1, 0)], &[lost, fails, late]);
}

#[test]
fn an_announced_runner_does_not_wait_for_the_one_that_it_replaces() {
    let (hangs, late) = (first(1, Point::Boot, 4), first(1, Point::DeleteRunner, 6));
    holds("its DELETE comes late", vec![job(1, 0)], &[hangs, late]);
}

#[test]
fn a_registration_too_many_is_spent_by_the_delivery_that_finds_it() {
    // Its event comes again when its runner is gone with the other job; the function dies with the new registration.
    let short = |number| Job { takes: 20 * SECOND, ..job(number, 0) };
    let (taken, again) = (first(1, Point::Assign, 1), first(1, Point::Bus, 3));
    let dies = first(1, Point::DeleteRunner, fate::DIES_BEFORE);
    holds("it dies before it deletes", vec![short(1), short(2)], &[taken, again, dies]);
}

#[test]
fn an_attempt_is_not_started_again_when_capacity_comes_back() {
    let (dry, twice) = (first(1, Point::Supply, 1), first(1, Point::Bus, 3));
    for boot in 0..=7 {
        holds("Spot was dry", vec![job(1, 0)], &[dry, twice, first(1, Point::Boot, boot)]);
    }
}

/// A history of 300 jobs, after which nothing is out of order.
fn keeps_the_promise(seed: u64, per_hour: u64, settings: Settings) -> History {
    let what = format!("seed {seed}, {:?}", settings.older);
    let plan = Plan::Seeded { seed, jobs: 300, per_hour, from: 1 };
    let mut history = History::new(plan, Chance::seeded(seed), settings, seed);
    history.run(|_| {});
    {
        let world = history.world.borrow();
        assert!(world.stats.ran > 250, "{what}: only {} jobs ran", world.stats.ran);
        assert!(world.checks.violations.is_empty(), "{what}: {:?}", world.checks.violations);
    }
    history
}

#[test]
fn what_goes_wrong_often_breaks_nothing_either() {
    for seed in 1..=6 {
        keeps_the_promise(seed, 3_600, Settings { faults: 400, ..Settings::default() });
    }
}

#[test]
fn what_other_fleets_have_met_breaks_nothing_either() {
    for seed in 1..=3 {
        let apps = seed as usize;
        keeps_the_promise(seed, 1_800, Settings { rates: Rates::harder(), apps, ..Settings::default() });
    }
}

/// The functions have no credentials for GitHub, and each container asks for its own registration.
#[test]
fn where_the_containers_mint_the_promise_is_kept_too() {
    let mut histories = 0;
    for scenario in scenarios::container_minted() {
        let (tried, failing) = explore::shortest(&scenario);
        histories += tried;
        if let Some(failing) = failing {
            panic!("{}:\n{}", scenario.name, failing.story());
        }
    }
    println!("{histories} histories");
    for seed in [1, 3] {
        let settings = Settings { container_minted: true, faults: 200, ..Settings::default() };
        let history = keeps_the_promise(seed, 3_600, settings);
        let world = history.world.borrow();
        let functions = [0, 1, 2, 3].map(|by| world.stats.calls_by[by][Point::Mint as usize]);
        assert_eq!(functions, [0; 4], "only containers mint");
    }
}

/// Of the faults that are planted below, those that show only there.
#[test]
fn every_fault_is_caught_where_the_containers_mint() {
    for (fault, name) in planted::CONTAINER_MINTED {
        let failing = planted::catch(fault).unwrap_or_else(|| panic!("not caught: {name}"));
        println!("{name}:\n{}", failing.story());
        assert!(failing.jobs.len() <= 2, "{name}: no short history");
    }
}

/// While a stack is updated, and back again: each function may be of the release before, and any two may differ.
#[test]
fn functions_of_two_releases_keep_the_promise_together() {
    let [webhook, dispatch, reconcile] =
        [[true, false, false], [false, true, false], [false, false, true]].map(Older::These);
    for (seed, older) in [webhook, dispatch, reconcile, Older::ByTurns].into_iter().enumerate() {
        let seed = seed as u64 + 1;
        keeps_the_promise(seed, 3_600, Settings { older, faults: 300, ..Settings::default() });
    }
}

#[test]
fn the_release_before_neither_writes_nor_sees_what_was_added_since() {
    let known = Known::of_the_release_before();
    let tags = [("gha:runner-id", "7"), ("gha:failures", "1"), ("gha:later", "x")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(known.tags(&tags), tags[..1]);
    let announced =
        r#"{"replacement":{"attempt":2,"job_id":1,"labels":["x"],"owner":"acme","repository_id":3}}"#;
    let seen = r#"{"replacement":{"attempt":2,"job_id":1,"labels":["x"],"owner":"acme"}}"#;
    assert_eq!(known.body(announced), seen);
    let event = r#"{"detail":{"action":"queued","workflow_job":{"id":1,"run_attempt":2}},"detail-type":"workflow_job"}"#;
    let seen = r#"{"detail":{"action":"queued","workflow_job":{"id":1}},"detail-type":"workflow_job"}"#;
    assert_eq!(known.body(event), seen);
    for other in [r#"{"detail":{"taskArn":"x"},"detail-type":"ECS Task State Change"}"#, "no JSON"] {
        assert_eq!(known.body(other), other);
    }
}

/// What other fleets have met can be switched on, each by itself. Whether the promise holds then is another question.
#[test]
fn what_is_switched_on_comes() {
    let hour = Spells::During { from: 0, until: HOUR };
    let usual = Rates::default;
    let taken = "job 10995116277… runs on fargate-";
    let table = [
        (Rates { consumed: 20_000, ..usual() }, "has no registration any more"),
        (Rates { late_busy: 20_000, ..usual() }, "idle: true"),
        (Rates { seems_idle: 20_000, ..usual() }, "idle: true"),
        (Rates { seems_offline: 20_000, ..usual() }, "offline: true"),
        (Rates { unlisted: 20_000, ..usual() }, "lists will not show"),
        (Rates { unheard_taker: 20_000, ..usual() }, taken),
        (Rates { excluded_taker: 20_000, ..usual() }, taken),
        (Rates { held_back: 20_000, ..usual() }, "until it is approved"),
        (Rates { silent_job: 20_000, ..usual() }, "will not say"),
        (Rates { unknown_queued: 20_000, ..usual() }, "a status that nobody knows"),
        (Rates { unknown_taken: 20_000, ..usual() }, "a status that nobody knows"),
        (Rates { late_webhook: 20_000, ..usual() }, "three minutes late"),
        (Rates { unheard: 20_000, ..usual() }, "is never sent"),
        (Rates { webhooks_out: hour, ..usual() }, "never comes"),
        (Rates { webhooks_lost: hour, ..usual() }, "is never sent"),
        (Rates { refused: hour, ..usual() }, "GitHub refuses"),
        (Rates { registry_down: hour, ..usual() }, "stops: TaskFailedToStart"),
        (Rates { no_addresses: hour, ..usual() }, "stops: TaskFailedToStart"),
        (Rates { disguised_throttle: 20_000, ..usual() }, "in disguise"),
        (Rates { lag: 5 * MINUTE, late_copy: 20_000, ..usual() }, "shows what was there"),
        (Rates { ahead: [300_000, -300_000, 300_000], ..usual() }, "is over"),
    ];
    for (rates, told) in table {
        let settings =
            Settings { rates: rates.clone(), telling: true, stop_at_violation: false, ..Settings::default() };
        let plan = Plan::Seeded { seed: 1, jobs: 20, per_hour: 3_600, from: 1 };
        let mut history = History::new(plan, Chance::seeded(1), settings, 1);
        history.run(|_| {});
        let world = history.world.borrow();
        let tells = |line: &str| told.split('…').all(|part| line.contains(part));
        assert!(world.lines.iter().any(|(_, _, line)| tells(line)), "{told}: {rates:?}");
    }
}

/// For two hours every runner dies, or does not start, while sixty jobs an hour come: few runners are spent on that, no job is
/// given up, and all have run soon after.
#[test]
fn a_fault_of_the_whole_fleet_is_not_the_jobs() {
    let spell = Spells::During { from: 10 * MINUTE, until: 130 * MINUTE };
    let usual = Rates::default;
    for (what, rates) in [
        ("broken", Rates { broken: spell, ..usual() }),
        ("refused", Rates { refused: spell, ..usual() }),
        ("registry down", Rates { registry_down: spell, ..usual() }),
        ("no addresses", Rates { no_addresses: spell, ..usual() }),
    ] {
        let settings = Settings { rates, faults: 0, ..Settings::default() };
        let plan = Plan::Seeded { seed: 5, jobs: 130, per_hour: 60, from: 1 };
        let mut history = History::new(plan, Chance::seeded(5), settings, 5);
        history.run(|_| {});
        let world = history.world.borrow();
        assert!(world.checks.violations.is_empty(), "{what}: {:?}", world.checks.violations);
        assert_eq!(world.stats.rejected, 0, "{what}");
        let started = world.stats.calls[Point::RunTask as usize];
        println!("{what}: {started} runners, and all was over in minute {}", world.now / MINUTE);
        assert!(started < 130 + 140, "{what}: {started} runners for 130 jobs");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let digest = |seed| {
        let plan = Plan::Seeded { seed, jobs: 200, per_hour: 3_600, from: 1 };
        let mut history = History::new(plan, Chance::seeded(seed), Settings::default(), seed);
        history.run(|_| {});

        history.world.borrow().digest
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn every_planted_fault_is_caught() {
    for (fault, name) in planted::ALL {
        let failing = planted::catch(fault).unwrap_or_else(|| panic!("not caught: {name}"));
        println!("{name}:\n{}", failing.story());
        assert!(failing.jobs.len() <= 2, "{name}: no short history");
    }
}

#[test]
fn what_goes_with_its_runner_runs_again_once() {
    for scenario in wrong_reruns::scenarios(false) {
        let (tried, failing) = explore::shortest(&scenario);
        println!("{tried} histories: {}", scenario.name);
        if let Some(failing) = failing {
            panic!("{}:\n{}", scenario.name, failing.story());
        }
    }
    let rates =
        Rates { spot: 20_000, user_failure: 20_000, matrix: 30_000, person: 20_000, ..Rates::default() };
    let settings = Settings { author: true, rates, ..Settings::default() };
    let plan = Plan::Seeded { seed: 7, jobs: 150, per_hour: 3_600, from: 1 };
    let mut history = History::new(plan, Chance::seeded(7), settings, 7);
    history.run(|_| {});
    let world = history.world.borrow();
    assert!(world.checks.violations.is_empty(), "{:?}", world.checks.violations);
    let counts = world.runs.counts();
    assert!(counts.iter().all(|(_, count)| *count > 10), "{counts:?}");
}

/// Where no job is interrupted, whoever looks after authors costs next to nothing. (Runners are that have none.)
#[test]
fn nothing_is_asked_where_nothing_is_interrupted() {
    let rates = Rates { user_failure: 10_000, matrix: 20_000, person: 10_000, ..Rates::default() };
    let settings = Settings { author: true, rates, ..Settings::default() };
    let plan = Plan::Seeded { seed: 1, jobs: 600, per_hour: 2_000, from: 1 };
    let mut history = History::new(plan, Chance::seeded(1), settings, 1);
    history.run(|_| {});
    let stats = &history.world.borrow().stats;
    let (all, more) = (stats.github_calls() + stats.ecs_calls(), stats.calls_for_authors());
    println!("{more} of {all} calls for {} jobs", stats.jobs);
    assert!(more * 50 <= all, "{more} of {all}");
}

#[test]
fn every_fault_in_what_runs_again_is_caught() {
    for (wrong, name) in wrong_reruns::ALL {
        let failing = wrong_reruns::catch(wrong).unwrap_or_else(|| panic!("not caught: {name}"));
        println!("{name}:\n{}", failing.story());
        assert!(failing.script.len() <= 4, "{name}: no short history");
    }
}
