//! Which jobs come, and when. A job's nature depends on the seed and its number alone.

use super::{HOUR, MINUTE, Ms, SECOND, chance::hash};

/// The label sets of the workflows. Some are parts of others: GitHub gives a job to any runner that has all of its
/// labels, so a job of the second set may take a runner of any.
pub const LABELS: [&[&str]; 10] = [
    &["self-hosted", "linux", "x64", "fargate"],
    &["self-hosted", "fargate"],
    &["self-hosted", "fargate", "cpu=2", "ram=8"],
    &["self-hosted", "fargate", "spot"],
    &["self-hosted", "linux", "x64", "fargate", "on-demand"],
    // Those choose a runner class.
    &["self-hosted", "big"],
    &["self-hosted", "big", "priority=high"],
    &["self-hosted", "small", "cpu=1"],
    &["self-hosted", "docker"],
    &["self-hosted", "season"],
];

// Some of those.
pub const SPOT: u8 = 3;
pub const BIG: u8 = 5;
pub const BIG_URGENT: u8 = 6;
pub const SMALL: u8 = 7;
pub const DOCKER: u8 = 8;
pub const SEASON: u8 = 9;

/// Whether a runner of label set `runner` may get a job of label set `job`.
pub fn covers(runner: u8, job: u8) -> bool {
    let has = &LABELS[usize::from(runner)];
    LABELS[usize::from(job)].iter().all(|label| has.contains(label))
}

/// One job of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its number, from 1: GitHub's id for it.
    pub number: u64,
    pub at: Ms,
    /// Which of [`LABELS`].
    pub labels: u8,
    /// Which of the organisation's repositories it is of.
    pub repository: u8,
    /// Whether it has a `run=…` label as well.
    pub unique: bool,
    /// How long it runs.
    pub takes: Ms,
    /// Cancelled so long after it was queued, if it is not over by then.
    pub cancelled_after: Option<Ms>,
}

/// The jobs of a repository that is not served: each comes with one that is, and has its number and this.
pub const TAKERS: u64 = 1 << 40;

pub fn is_taker(number: u64) -> bool {
    number & TAKERS != 0
}

/// The siblings of a job of the plan have its number and so many times this.
pub const SIBLINGS: u64 = 1 << 44;
/// And a job that runs again, that of the first attempt and so many times this.
pub const ATTEMPTS: u64 = 1 << 48;

/// The number of the job of the plan that it comes from.
pub fn origin(number: u64) -> u64 {
    number % TAKERS
}

/// The number of a job when it runs again.
pub fn again(number: u64, attempt: u32) -> u64 {
    number % ATTEMPTS + u64::from(attempt) * ATTEMPTS
}

/// The repository that is not served.
pub const LEGACY: u8 = u8::MAX;

impl Job {
    /// The job of the other repository that comes with this one.
    pub fn taker(&self, at: Ms) -> Job {
        let number = TAKERS + self.number;
        Job { number, at, repository: LEGACY, unique: false, cancelled_after: None, ..*self }
    }

    /// Another of the same matrix.
    pub fn sibling(&self, nth: u64) -> Job {
        let number = self.number + nth * SIBLINGS;
        let takes = 15 * SECOND + hash(&[number, self.takes]) % (20 * MINUTE);
        Job { number, takes, cancelled_after: None, ..*self }
    }

    /// The same once more.
    pub fn again(&self, number: u64, at: Ms) -> Job {
        let takes = 15 * SECOND + hash(&[number, self.takes]) % (20 * MINUTE);
        Job { number, at, takes, cancelled_after: None, ..*self }
    }

    pub fn is_taker(&self) -> bool {
        is_taker(self.number)
    }
}

/// A plan.
#[derive(Debug, Clone)]
pub enum Plan {
    /// These jobs.
    These(Vec<Job>),
    /// So many jobs by seed.
    Seeded { seed: u64, jobs: u64, per_hour: u64, from: u64 },
}

impl Plan {
    /// The first job after `after` (`None`: the first of all).
    pub fn next(&self, after: Option<&Job>) -> Option<Job> {
        match self {
            Plan::These(jobs) => {
                // In the order of their numbers.
                let index = after.map_or(0, |after| jobs.partition_point(|job| job.number <= after.number));
                jobs.get(index).copied()
            }
            Plan::Seeded { seed, jobs, per_hour, from } => {
                let number = after.map_or(*from, |job| job.number + 1);
                let before = after.map_or(0, |job| job.at);
                (number < from + jobs).then(|| seeded(*seed, number, before, *per_hour))
            }
        }
    }
}

/// A job by seed and number. Workflows fan out: now and then a few dozen jobs come in the same moment, and
/// nights are quiet.
fn seeded(seed: u64, number: u64, before: Ms, per_hour: u64) -> Job {
    let draw = |what: u64| hash(&[seed, number, 0x706c_616e, what]);
    let fan_out = (number / 40).is_multiple_of(5) && hash(&[seed, number / 40, 7]).is_multiple_of(2);
    let is_night = (before / HOUR) % 24 >= 20;
    let mean = HOUR / per_hour.max(1);
    let gap = match (fan_out, is_night) {
        (true, _) => draw(0) % 50,
        (false, true) => draw(0) % (4 * mean),
        (false, false) => draw(0) % (2 * mean + mean / 3),
    };
    // From 15 seconds to 34 minutes, short ones more often.
    let takes = ((15 * SECOND) << (draw(1) % 6)) + draw(2) % ((15 * SECOND) << (draw(1) % 6).max(1));
    let cancelled_after = match draw(3) % 100 {
        0..3 => Some(draw(4) % (2 * MINUTE)),
        3 => Some(draw(4) % (20 * MINUTE)),
        _ => None,
    };
    let labels = match draw(5) % 100 {
        0..40 => 0,
        40..65 => 1,
        65..80 => 2,
        80..92 => 3,
        _ => 4,
    };
    // One repository has most of the jobs.
    let repository = [0, 0, 0, 1, 2][(draw(7) % 5) as usize];
    let unique = draw(6) % 20 == 0;
    Job { number, at: before + gap, labels, repository, unique, takes, cancelled_after }
}
