//! A job that went with its runner runs again, told over real HTTP.

mod cuts;
mod reruns;
mod told;

use crate::fleet::Fleet;
use crate::http::{AUTHOR_QUEUE, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, Op, REPOSITORY, World};
use crate::model::github::JobStatus;
use gha_fargate_runners::lambda::{metric::Metric, metrics::Metrics};
use time::Duration;

const LABELS: [&str; 2] = ["self-hosted", "fargate"];
const PERSON: &str = "octocat";

/// A world and its fleet on Spot, with somebody who looks after authors.
pub struct Story {
    pub world: World,
    pub fleet: Fleet,
}

impl Story {
    pub async fn begin() -> Story {
        Story::with(&[]).await
    }

    async fn with(changes: &[(&str, &str)]) -> Story {
        let world = World::start();
        world.set_now(world.now());
        let fleet = Story::fleet(&world, changes).await;
        Story { world, fleet }
    }

    async fn fleet(world: &World, changes: &[(&str, &str)]) -> Fleet {
        let url = world.queue_url(AUTHOR_QUEUE);
        let mut all = vec![("CAPACITY", "FARGATE_SPOT,FARGATE"), ("AUTHOR_QUEUE_URL", url.as_str())];
        all.extend(changes);
        Fleet::with(world, &all).await
    }

    /// A run of these jobs is queued, and each runs on a runner of its own: the jobs.
    pub async fn run(&self, names: &[&str]) -> Vec<u64> {
        let now = self.world.now();
        let jobs = self.world.github().queue_run((OWNER, REPOSITORY), names, &LABELS, PERSON, now);
        self.start(&jobs).await;
        jobs
    }

    /// Runners are started for the jobs, boot, and get them.
    async fn start(&self, jobs: &[u64]) {
        let bodies: Vec<String> = jobs.iter().map(|job| self.world.queued(*job)).collect();
        let batch = self.world.deliver(&bodies);
        self.world.acknowledge(JOB_QUEUE, &batch, &self.fleet.dispatch(&batch).await);
        self.world.boot();
        for (job, _) in self.world.assign() {
            let event = self.world.payload(job, "in_progress").to_string();
            let batch = self.world.deliver_to(LIFECYCLE_QUEUE, &[event]);
            self.world.acknowledge(LIFECYCLE_QUEUE, &batch, &self.fleet.reconcile(&batch).await);
        }
        for job in jobs {
            assert_eq!(self.status(*job), JobStatus::InProgress, "job {job}\n{}", self.world.books());
        }
    }

    fn status(&self, job: u64) -> JobStatus {
        self.world.github().job(job).expect("a job").status
    }

    fn task_of(&self, job: u64) -> u64 {
        let runner = self.world.github().job(job).and_then(|job| job.runner.clone());
        let (id, name) = runner.expect("a runner");
        self.world.task_of(id, &name).expect("a task")
    }

    /// Spot takes the job's runner back, and GitHub is told how the job ended.
    pub async fn interrupt(&self, job: u64, conclusion: &str) {
        let task = self.take_back(job);
        let now = self.world.now();
        self.world.github().complete(job, conclusion, now);
        self.tell_stopped(task).await;
    }

    /// GitHub has not noticed yet.
    fn take_back(&self, job: u64) -> u64 {
        let task = self.task_of(job);
        self.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", Some(143));
        task
    }

    async fn tell_stopped(&self, task: u64) -> usize {
        let batch = self.world.deliver_to(LIFECYCLE_QUEUE, &[self.world.state_change(task).to_string()]);
        self.world.acknowledge(LIFECYCLE_QUEUE, &batch, &self.fleet.reconcile(&batch).await)
    }

    /// The job fails, and its runner ends in order.
    fn fail(&self, job: u64) {
        let (task, now) = (self.task_of(job), self.world.now());
        self.end(job, "failure");
        let reason = "Essential container in task exited";
        self.world.ecs().stopped(task, "EssentialContainerExited", reason, Some(0), now);
    }

    fn end(&self, job: u64, conclusion: &str) {
        let now = self.world.now();
        self.world.github().complete(job, conclusion, now);
    }

    /// What is visible on the author's queue is worked off: how many messages come again, and what was counted.
    async fn look(&self) -> (usize, Metrics) {
        let batch = self.world.receive(AUTHOR_QUEUE, 10);
        let (answer, metrics) = self.fleet.tell_author(&batch).await;
        (self.world.acknowledge(AUTHOR_QUEUE, &batch, &answer), metrics)
    }

    /// Time passes until nothing is left on the author's queue.
    pub async fn rest(&self) {
        for _ in 0..20 {
            self.look().await;
            if self.world.letters(AUTHOR_QUEUE).is_empty() {
                return;
            }
            self.world.advance(Duration::minutes(15));
        }
        panic!("there are messages left: {:?}", self.world.letters(AUTHOR_QUEUE));
    }

    /// So many attempts at the run of that job.
    pub fn attempts(&self, job: u64) -> u32 {
        let github = self.world.github();
        let run = github.job(job).expect("a job").run;
        github.run(run).expect("a run").attempt
    }

    /// The jobs that were queued again.
    pub fn again(&self, job: u64) -> Vec<u64> {
        let github = self.world.github();
        let run = github.job(job).expect("a job").run;
        let run = github.run(run).expect("a run");
        let attempt = run.attempt;
        let jobs =
            run.jobs.into_iter().filter(|job| github.job(*job).is_some_and(|job| job.run_attempt == attempt));
        if attempt == 1 { Vec::new() } else { jobs.collect() }
    }

    fn asked(&self) -> usize {
        let calls = self.world.calls();
        calls.count(Op::RerunFailed) + calls.count(Op::RerunJob)
    }
}
