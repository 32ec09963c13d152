//! GitHub: registrations, jobs, tokens, deliveries, limits.

use time::Duration;

use super::NOON;
use crate::model::{
    app::App,
    deliveries::Deliveries,
    github::{Deleted, Github, JobStatus, MintError, Scope},
    jit,
    limits::{Limited, Limits},
    past::Sight,
};

fn org() -> Scope {
    Scope::organization("octo-org")
}

fn labels(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("label-{n}")).collect()
}

#[test]
fn github_mints_once_under_a_name() {
    let long = "x".repeat(65);
    let table = [
        ("a", 1, labels(1), Ok(1)),
        ("a", 1, labels(1), Err(MintError::NameTaken)),
        ("b", 1, labels(100), Ok(2)),
        ("c", 1, labels(101), Err(MintError::Labels)),
        ("c", 1, vec![], Err(MintError::Labels)),
        ("c", 1, vec![String::new()], Err(MintError::Labels)),
        (long.as_str(), 1, labels(1), Err(MintError::Name)),
        ("c", 7, labels(1), Err(MintError::UnknownGroup)),
        ("c", 2, labels(1), Err(MintError::GroupNotYours)),
    ];
    let mut github = Github::new();
    for (name, group, labels, want) in table {
        assert_eq!(github.mint(&org(), name, group, &labels, NOON), want, "{name} {group} {}", labels.len());
    }
    // Another scope has other names, and ids go on rising.
    let repository = Scope::repository("octo-org", "example-workflow");
    assert_eq!(github.mint(&repository, "a", 1, &labels(1), NOON), Ok(3));
    assert_eq!(github.find(&repository, "a").map(|runner| runner.id), Some(3));
    assert_eq!(github.mint(&org(), "Case", 1, &["Self-Hosted"], NOON), Ok(4));
    assert!(github.runner(4).is_some_and(|runner| runner.labels.stored().eq(["self-hosted"])));
}

#[test]
fn github_deletes_for_one_caller_only_and_never_a_busy_runner() {
    let mut github = Github::new();
    let runner = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    assert_eq!(github.delete(&Scope::organization("other"), runner, NOON), Deleted::Gone);
    assert!(github.connect(runner, NOON));
    let job = github.queue_job(0, "octo-org", "r", &["X"], NOON);
    assert_eq!(github.assign_all(NOON), [(job, runner)]);
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Busy);
    assert!(github.disconnect(runner, NOON), "its process dies");
    assert_eq!(
        github.delete(&org(), runner, NOON + Duration::days(2)),
        Deleted::Busy,
        "until GitHub notices"
    );
    assert!(github.complete(job, "failure", NOON));
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Gone);

    let idle = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    assert_eq!(github.delete(&org(), idle, NOON), Deleted::Spent);
    assert_eq!(github.delete(&org(), idle, NOON), Deleted::Gone);
    assert!(!github.connect(idle, NOON), "its configuration is worth nothing now");
}

#[test]
fn github_gives_a_job_to_any_runner_with_all_its_labels() {
    let table: [(&[&str], &[&str], bool); 7] = [
        (&["self-hosted", "fargate"], &["self-hosted", "fargate"], true),
        (&["Self-Hosted", "FARGATE"], &["self-hosted", "fargate"], true),
        (&["fargate"], &["self-hosted", "fargate", "cpu=2"], true),
        (&["self-hosted", "fargate", "cpu=2"], &["self-hosted", "fargate"], false),
        (&["self-hosted", "run=1"], &["self-hosted", "run=2"], false),
        (&["self-hosted", "run=1"], &["self-hosted", "run=1", "run=2"], true),
        (&[], &["self-hosted"], false),
    ];
    for (job, runner, fits) in table {
        let mut github = Github::new();
        let job_id = github.queue_job(0, "octo-org", "r", job, NOON);
        let other = github.queue_job(0, "octo-org", "r", &["other"], NOON);
        let id = github.mint(&org(), "a", 1, runner, NOON).unwrap();
        assert_eq!(github.runners_for(job_id).count(), 0, "it is not online yet");
        github.connect(id, NOON);
        assert_eq!(
            github.runners_for(job_id).collect::<Vec<_>>(),
            if fits { vec![id] } else { vec![] },
            "{job:?}"
        );
        assert_eq!(
            github.jobs_for(id, 9).collect::<Vec<_>>(),
            if fits { vec![job_id] } else { vec![] },
            "{job:?}"
        );
        assert_eq!(github.assign(job_id, id, NOON), fits);
        assert!(!github.assign(other, id, NOON));
        assert_eq!(github.queued_count(), if fits { 1 } else { 2 });
    }
}

#[test]
fn github_keeps_jobs_and_runners_of_other_owners_apart() {
    let table = [
        (Scope::organization("OCTO-org"), true),
        (Scope::organization("other"), false),
        (Scope::repository("octo-org", "r"), true),
        (Scope::repository("octo-org", "other"), false),
        (Scope::enterprise("github"), true),
    ];
    for (scope, fits) in table {
        let mut github = Github::new();
        let job = github.queue_job(0, "octo-org", "r", &["x"], NOON);
        let runner = github.mint(&scope, "a", 1, &["x"], NOON).unwrap();
        github.connect(runner, NOON);
        assert_eq!(github.assign(job, runner, NOON), fits, "{scope:?}");
    }
}

#[test]
fn a_job_takes_its_registration_with_it_and_a_ghost_keeps_polling() {
    let mut github = Github::new();
    let job = github.queue_job(7, "octo-org", "r", &["x"], NOON);
    let first = github.mint(&org(), "first", 1, &["x"], NOON).unwrap();
    let second = github.mint(&org(), "second", 1, &["x"], NOON).unwrap();
    github.connect(first, NOON);
    assert!(github.assign(job, first, NOON));
    github.lose_job(job, false, NOON);
    assert!(github.runner(first).is_some_and(|runner| runner.online && runner.ghost && !runner.busy));
    assert_eq!(github.assign_all(NOON), [], "a ghost gets no other job");
    github.connect(second, NOON);
    assert_eq!(github.assign_all(NOON), [(job, second)]);
    assert!(github.complete(job, "success", NOON));
    assert!(!github.complete(job, "success", NOON), "once");
    assert!(github.runner(second).is_none() && github.runner(first).is_some());
    assert_eq!(github.job(job).map(|job| job.status), Some(JobStatus::Completed));
}

#[test]
fn github_removes_a_registration_that_stays_away_for_a_day() {
    let mut github = Github::new();
    let never = github.mint(&org(), "never", 1, &["x"], NOON).unwrap();
    let once = github.mint(&org(), "once", 1, &["x"], NOON).unwrap();
    let online = github.mint(&org(), "online", 1, &["x"], NOON).unwrap();
    github.connect(online, NOON);
    github.connect(once, NOON);
    github.disconnect(once, NOON + Duration::hours(3));
    let alive = |github: &Github| github.runners().map(|runner| runner.id).collect::<Vec<_>>();
    github.expire(NOON + Duration::days(1));
    assert_eq!(alive(&github), [never, once, online]);
    github.expire(NOON + Duration::days(1) + Duration::seconds(1));
    assert_eq!(alive(&github), [once, online]);
    github.expire(NOON + Duration::days(30));
    assert_eq!(alive(&github), [online]);
}

#[test]
fn github_pages_by_the_hundred() {
    let mut github = Github::new();
    for n in 0..250 {
        github.mint(&org(), &format!("r{n}"), 1, &["x"], NOON).unwrap();
    }
    let sizes: Vec<usize> =
        (1..=4).map(|page| github.list(&org(), page, 100, Sight::at(NOON)).0.len()).collect();
    assert_eq!(sizes, [100, 100, 50, 0]);
    assert_eq!(github.list(&org(), 1, 100, Sight::at(NOON)).1, 250);
    assert_eq!(github.list(&Scope::organization("other"), 1, 100, Sight::at(NOON)).1, 0);
}

#[test]
fn a_jit_configuration_is_as_long_as_github_s_and_names_its_runner() {
    let encoded = jit::encode(42, "fargate-1234567890-1");
    assert!((4000..=4500).contains(&encoded.len()), "{} characters", encoded.len());
    assert_eq!(jit::runner_id(&encoded), Some(42));
    assert_eq!(jit::runner_id("bm90IGpzb24="), None);
}

#[test]
fn installation_tokens_live_an_hour() {
    let mut app = App::default();
    app.install("Octo-Org", 5);
    assert!(app.access_token(6, NOON).is_none());
    let (token, expires) = app.access_token(5, NOON).unwrap();
    assert_eq!(expires, NOON + Duration::hours(1));
    assert!(app.identity(&token, expires - Duration::seconds(1)).is_some());
    assert!(app.identity(&token, expires).is_none());
    assert_eq!(app.installation("OCTO-ORG"), Some(5));
    assert_eq!(app.installation("other"), None);
}

#[test]
fn deliveries_are_listed_newest_first_and_sent_again_under_their_guid() {
    let mut log = Deliveries::default();
    for n in 0..250 {
        log.sent(&format!("guid-{n}"), "workflow_job", Some("queued"), "{}", 502, NOON);
    }
    let (page, more) = log.list(None, 100, Sight::at(NOON), None);
    assert_eq!((page[0].id, page[99].id, more), (250, 151, true));
    let (page, more) = log.list(Some(51), 100, Sight::at(NOON), None);
    assert_eq!((page.len(), more), (50, false));
    assert!(log.redeliver(7) && !log.redeliver(1000));
    let again = log.take_redeliveries();
    assert_eq!((again.len(), again[0].guid.as_str()), (1, "guid-6"));
    let id = log.sent_again(&again[0], 202, NOON);
    assert_eq!(log.list(None, 100, Sight::at(NOON), Some(false)).0[0].id, id);
    log.answered(250, 202);
    let (failed, more) = log.list(None, 100, Sight::at(NOON), Some(true));
    assert_eq!((failed[0].id, failed.len(), more), (249, 100, true));
    let delivery = log.get(id).unwrap();
    assert!(delivery.redelivery && delivery.guid == "guid-6" && delivery.status_code == 202);
    let later = NOON + Duration::days(3);
    log.sent("later", "ping", None, "{}", 200, later);
    assert!(log.list(None, 100, Sight::at(NOON), None).0.is_empty(), "a late copy does not know it");
    assert_eq!(log.list(None, 100, Sight::at(later), None).0.len(), 1, "the log goes back three days");
}

#[test]
fn a_late_copy_shows_what_was_there_before() {
    let mut github = Github::new();
    let at = |seconds| NOON + Duration::seconds(seconds);
    let job = github.queue_job(0, "octo-org", "r", &["x"], at(100));
    let runner = github.mint(&org(), "a", 1, &["x"], at(100)).unwrap();
    let seen = |github: &Github, seconds: i64| {
        let sight = Sight::at(at(seconds - 60));
        let job = github.show_job("octo-org", "r", job, sight).map(|job| job.status);
        let named = github.show_named(&org(), "a", sight).map(|runner| runner.online);
        assert_eq!(github.show_runner(&org(), runner, sight).map(|runner| runner.online), named);
        assert_eq!(github.list(&org(), 1, 100, sight).1, usize::from(named.is_some()));
        (job, named)
    };
    assert_eq!(seen(&github, 100), (None, None));
    assert!(github.connect(runner, at(170)));
    assert_eq!(seen(&github, 170), (Some(JobStatus::Queued), Some(false)));
    assert!(github.assign(job, runner, at(200)));
    github.complete(job, "success", at(240));
    assert_eq!(seen(&github, 240), (Some(JobStatus::Queued), Some(true)));
    assert!(github.show_named(&org(), "a", Sight::at(at(240))).is_none());
    assert_eq!(seen(&github, 270), (Some(JobStatus::InProgress), Some(true)));
    assert_eq!(seen(&github, 301), (Some(JobStatus::Completed), None));
}

#[test]
fn github_limits_requests_points_and_registrations() {
    let allowed = |limits: &mut Limits, points, scope, now| {
        (0..10_000).take_while(|_| limits.charge("me", points, scope, now).is_ok()).count()
    };
    let mut limits = Limits::default();
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 10_000, "none, until they are set");
    let mut limits = Limits::github();
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 180);
    let wait = Duration::seconds(20);
    let later = NOON + Duration::seconds(40);
    assert_eq!(limits.charge("me", 5, None, later), Err(Limited::Secondary { retry_after: wait }));
    assert_eq!(allowed(&mut limits, 1, None, later + wait), 900);
    let mut limits = Limits::github();
    limits.points_a_minute = None;
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 1500);
    assert_eq!(allowed(&mut limits, 5, Some("other"), NOON), 1500);
    assert_eq!(
        allowed(&mut limits, 1, None, NOON),
        5000 - 3000 - 2,
        "two were counted before they were refused"
    );
    let reset = NOON + Duration::hours(1);
    assert_eq!(limits.charge("me", 1, None, later), Err(Limited::Primary { reset }));
    assert_eq!(limits.charge("me", 1, None, reset), Ok(()));
}
