//! The durations that two parts of the protocol share: where each is from, and what it must be larger than.

use std::time::Duration;

use time::OffsetDateTime;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

// The functions, as template.yaml sets them; a test reads them there.

/// `Timeout` of dispatch.
pub const DISPATCH_TIMEOUT: Duration = seconds(30);
/// `Timeout` of reconcile.
pub const RECONCILE_TIMEOUT: Duration = seconds(120);
/// `Timeout` of the webhook. GitHub waits "10 seconds" for its answer ("Best practices for using webhooks").
pub const WEBHOOK_TIMEOUT: Duration = seconds(10);
/// `VisibilityTimeout` of the job queue: after a crash, a message comes again so much later.
pub const JOB_HIDDEN: Duration = seconds(180);
/// `MessageRetentionPeriod` of the queues that functions work off.
pub const KEPT: Duration = minutes(24 * 60);
/// Their `maxReceiveCount`: "Valid values: 1 to 1,000" (SQS, "Configure a dead-letter queue").
pub const MOST_RECEIVES: u32 = 1000;
/// How often reconcile sweeps.
pub const SWEEP_EVERY: Duration = minutes(5);

/// Before the end of its time a function gives up what it has not done, so that what it has done stays so.
pub const LAST_CALL: Duration = Duration::from_millis(1500);

// Calls

/// A call to GitHub, with all its tries.
pub const GITHUB_CALL: Duration = seconds(10);
/// A call to AWS of the functions behind a queue, with all its tries.
pub const AWS_CALL: Duration = seconds(9);
/// A call to AWS of the webhook, with all its tries; it may need two: the secret, the event bus.
pub const AWS_CALL_OF_WEBHOOK: Duration = seconds(4);
/// The read of the classes' document, which the webhook may need as well: then the one that it has read before is as good.
pub const S3_CALL: Duration = Duration::from_millis(1500);
/// Capacities that one RunTask may go through: Spot and on-demand.
const MOST_CAPACITIES: u32 = 2;

// Dispatch

/// Older than this, a job may have been cancelled or taken by another runner: one GET comes first.
pub const OLD: Duration = minutes(2);
/// As [`OLD`], where an attempt may be started on several capacities, each under a token of its own, so that RunTask
/// does not say that another one had it. No runner is up, and its name free again, sooner.
pub const OLD_FOR_SEVERAL: Duration = seconds(20);
/// How long a delivery waits for another one of the same job that may be at work, before it looks again.
pub const IN_FLIGHT: Duration = seconds(75);
/// How long a job is left to the idle runners of a warm pool, or a few seconds more. GitHub gives it to one within four
/// seconds in the simulator: after two, half as many jobs again start a runner of their own as after five, and from there on
/// little changes. The rest is for days on which GitHub is slower; those that find no runner wait so much longer.
pub const POOL_FIRST: Duration = seconds(8);
/// Older than this, a job's message is asked about like one that was received before.
pub const VERY_OLD: Duration = minutes(60);
/// How far GitHub's and ECS's answers are assumed to lag behind; nobody documents it.
pub const LAG: Duration = seconds(60);
/// So long what the tags of all tasks told is good enough for others who ask, where the containers mint: each reading is of an
/// hour's tasks.
pub const TOLD: Duration = minutes(5);
/// So long sweeps follow up a runner of which nobody else has, where the containers mint. ECS shows it for an hour, but the
/// runner that its job had instead may have ended half an hour before it.
pub const FOLLOWED_FOR: Duration = minutes(20);
/// When a runner has been over for so long, the one that its job had instead may be forgotten already, where the containers mint:
/// ECS shows tasks for an hour.
pub const LONG_OVER: Duration = minutes(40);
/// How long GitHub's event that a job was cancelled waits for the job's task, where the containers mint: the job's own message
/// may wait for capacity. A task may be started later still, and then ends by itself.
pub const LONGEST_WAIT_FOR_A_TASK: Duration = minutes(4 * 60);
/// So long after the end of a job's last runner the job is given up, where the containers mint: by then GitHub's event that it
/// is over has come, and whatever else follows that runner.
pub const LAST_WORD: Duration = minutes(20);
/// How long dispatch waits for ECS to show what was just done.
pub const UNTIL_SHOWN: Duration = seconds(75);

/// So long after a RunTask found no capacity, no other job of this process asks for it.
pub const DROUGHT: Duration = minutes(1);

/// While all runners die, one is started in this time to find out whether that is over.
pub const PROBE: Duration = minutes(1);
/// While all runners die, ECS is asked so often whether that is over.
pub const WATCH: Duration = seconds(20);
/// While all runners die, a job waits so long, or up to twice as long.
pub const OUTBREAK: Duration = minutes(4);

// Reconcile

/// A registration without a task goes back to the queue. A delivery that is only slow gets this long to start the task, and ECS
/// to show it.
pub const HAND_BACK: Duration = seconds(120);
/// As [`HAND_BACK`], where nobody knows the job's repository: the job's own message does, and comes again after a crash. By
/// now that has seen to it.
pub const HAND_BACK_UNPLACED: Duration = minutes(6);
/// Later than this, it was handed back again, by the sweeps since: of thousands of messages that wait, one is enough.
pub const HANDED_BACK: Duration = minutes(15);
/// The first replacement waits so long, each further one twice as long as the one before.
pub const REPLACEMENT: Duration = seconds(15);
/// How long a runner may take from RunTask until it is connected, whatever the idle time-out is: pulling a large
/// image takes minutes.
pub const BOOT: Duration = minutes(10);
/// As [`BOOT`], where an instance may have to start first: ECS keeps the task in PROVISIONING meanwhile, for minutes.
pub const BOOT_ON_INSTANCE: Duration = minutes(30);
/// A runner that was given a job shows as busy, and the event that says which is through its queue, in this time.
pub const SETTLED: Duration = minutes(2);
/// When a job has been over for so long, its task most likely is as well.
pub const ENDING: Duration = seconds(15);
/// So long a process remembers that GitHub's rate limit was met, or how long jobs wait.
pub const LATELY: Duration = minutes(10);
/// How long after its start a job that took another's runner is looked at again: by then its own message was heard,
/// if it ever is, and its own runner shows whether it found work.
pub const SECOND_LOOK: Duration = seconds(150);
/// As [`SECOND_LOOK`], where the job was queued about when the runner was started: its event may be late. (GitHub's own
/// deliveries take minutes on bad days.)
pub const LATE_LOOK: Duration = minutes(6);
/// ECS shows a task whose runner was given a job so long ago, if it has not forgotten it.
pub const SHOWN: Duration = minutes(10);
/// Up for longer than this, a runner is not kept for a doubt: it does not come from answers that are old.
pub const LONGEST_DOUBT: Duration = minutes(15);
/// "Jobs that are queued for more than 24 hours" are failed by GitHub
/// (<https://docs.github.com/en/actions/reference/limits>); half an hour more, for clocks that differ.
pub const FORGOTTEN: Duration = minutes(24 * 60 + 30);
/// "Valid values: 0 to 900" (SQS, `DelaySeconds`).
pub const LONGEST_DELAY: Duration = seconds(900);
/// A sweep that waited longer than this on its queue has been overtaken by the next one.
pub const STALE: Duration = minutes(10);
/// Whatever follows the end of a task has done so by now, if anybody told of it; ECS shows the task for as long again.
pub const ENDS_HEARD: Duration = minutes(25);
/// So often a sweep looks for ends that nobody told of.
pub const ENDS_EVERY: Duration = minutes(10);
/// Time that one step of a sweep may take: it begins none when less is left.
pub const ONE_STEP: Duration = seconds(20);
/// Of a repository that GitHub does not show any more, a runner that nobody has told of a job gets this long: by itself, it
/// would have gone when it was idle.
pub const GONE: Duration = minutes(60);
/// "Each job in a workflow can run for up to 5 days of execution time" on a self-hosted runner
/// (<https://docs.github.com/en/actions/reference/limits>), and one day more for luck.
pub const OLDEST_JOB: Duration = minutes(6 * 24 * 60);

// Webhook deliveries

/// Failed deliveries are looked for so often.
pub const REDELIVER_EVERY: Duration = minutes(1);
/// A failed delivery is asked for again after this, then after twice as long, and so on.
pub const REDELIVER_AFTER: Duration = seconds(30);
/// By then GitHub has written down how a delivery was answered, for which it waits 10 seconds
/// (<https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks>).
pub const ANSWERED: Duration = seconds(15);
/// How often that pause is doubled at most.
pub const REDELIVER_DOUBLINGS: u32 = 5;
/// How far back failed deliveries are looked for, at least.
pub const LOOK_BACK: Duration = minutes(40);
/// Every fifteenth time they are looked for so far back, for what was missed while nothing got through.
pub const LONG_LOOK_BACK: Duration = minutes(180);

/// As the crate `time` has it, where a duration may be negative.
pub const fn signed(duration: Duration) -> time::Duration {
    time::Duration::seconds(duration.as_secs().cast_signed())
}

/// How often that time has passed since 1970.
pub fn nth(every: Duration, now: OffsetDateTime) -> u64 {
    u64::try_from(now.unix_timestamp() / signed(every).whole_seconds()).unwrap_or_default()
}

/// `larger` is more than `smaller`.
const fn more(larger: Duration, smaller: Duration) -> bool {
    larger.as_millis() > smaller.as_millis()
}

const fn times(duration: Duration, count: u32) -> Duration {
    duration.saturating_mul(count)
}

// One slow call does not keep a job from its runner.
const MINT_TO_TASK: Duration = GITHUB_CALL.saturating_add(times(AWS_CALL, MOST_CAPACITIES));
const _: () = assert!(more(DISPATCH_TIMEOUT, MINT_TO_TASK.saturating_add(LAST_CALL)));
const _: () = assert!(more(WEBHOOK_TIMEOUT, times(AWS_CALL_OF_WEBHOOK, 2).saturating_add(S3_CALL)));
// Nobody takes over from a delivery that is still at work.
const _: () = assert!(more(IN_FLIGHT, times(AWS_CALL, MOST_CAPACITIES)) && more(IN_FLIGHT, LAG));
const _: () = assert!(more(HAND_BACK, DISPATCH_TIMEOUT.saturating_add(LAG)));
const _: () =
    assert!(more(HAND_BACK_UNPLACED, JOB_HIDDEN.saturating_add(HAND_BACK).saturating_add(DISPATCH_TIMEOUT)));
const _: () = assert!(more(HANDED_BACK, HAND_BACK_UNPLACED) && more(LONGEST_DELAY, HAND_BACK_UNPLACED));
const _: () = assert!(
    more(UNTIL_SHOWN, LAG)
        && more(SETTLED, LAG)
        && more(SECOND_LOOK, SETTLED)
        && more(LATE_LOOK, SECOND_LOOK)
        // What a crash between mint and RunTask has held up.
        && more(LATE_LOOK, JOB_HIDDEN.saturating_add(HAND_BACK))
);
const _: () = assert!(more(LONG_OVER, FOLLOWED_FOR.saturating_add(LONGEST_DELAY)));
const _: () = assert!(more(FOLLOWED_FOR, times(SWEEP_EVERY, 3)));
const _: () = assert!(more(LAST_WORD, LONGEST_DELAY.saturating_add(UNTIL_SHOWN)));
// The next sweep comes before a message of the one before is given up, and no two are at work for long.
const _: () = assert!(more(SWEEP_EVERY, RECONCILE_TIMEOUT) && more(STALE, SWEEP_EVERY));
const _: () = assert!(more(RECONCILE_TIMEOUT, ONE_STEP) && more(ONE_STEP, GITHUB_CALL));
// Late events of a task's end come before, and its end is looked at before ECS forgets it, after an hour.
const _: () = assert!(more(ENDS_HEARD, LONGEST_DELAY));
const _: () = assert!(more(minutes(55), ENDS_HEARD.saturating_add(times(ENDS_EVERY, 2))));
// The first look after a failure sees to it, and none that waits for its next try falls out of sight.
const _: () = assert!(more(REDELIVER_EVERY, REDELIVER_AFTER));
const _: () = assert!(more(LOOK_BACK, times(REDELIVER_AFTER, 1 << REDELIVER_DOUBLINGS)));
const _: () = assert!(more(LONG_LOOK_BACK, times(LOOK_BACK, 3)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_same() {
        let template = include_str!("../../template.yaml");
        let resource = |name: &str| {
            let rest =
                template.split_once(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("no {name}")).1;
            let end = rest.find("\n\n").unwrap_or(rest.len());
            rest[..end].to_owned()
        };
        let timeout = |name: &str| -> u64 {
            let text = resource(name);
            let line = text.lines().find_map(|line| line.trim().strip_prefix("Timeout: ").map(str::to_owned));
            line.and_then(|number| number.parse().ok())
                .unwrap_or_else(|| panic!("no Timeout of {name}: {text}"))
        };
        assert_eq!(timeout("WebhookFunction"), WEBHOOK_TIMEOUT.as_secs());
        assert_eq!(timeout("DispatchFunction"), DISPATCH_TIMEOUT.as_secs());
        assert_eq!(timeout("ReconcileFunction"), RECONCILE_TIMEOUT.as_secs());
        for queue in ["JobQueue", "LifecycleQueue"] {
            let text = resource(queue);
            assert!(text.contains(&format!("maxReceiveCount: {MOST_RECEIVES}")), "{text}");
            assert!(text.contains(&format!("MessageRetentionPeriod: {}\n", KEPT.as_secs())), "{text}");
        }
        assert!(resource("JobQueue").contains(&format!("VisibilityTimeout: {}\n", JOB_HIDDEN.as_secs())));
        for (every, rate) in [(SWEEP_EVERY, "rate(5 minutes)"), (REDELIVER_EVERY, "rate(1 minute)")] {
            let unit = if every == minutes(1) { "minute" } else { "minutes" };
            assert_eq!(rate, format!("rate({} {unit})", every.as_secs() / 60));
            assert!(template.contains(&format!("ScheduleExpression: {rate}")), "{rate}");
        }
    }
}
