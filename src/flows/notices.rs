//! Which of a message's outcomes the author of the job is told, and in which words.

use time::{Duration, OffsetDateTime};

use crate::{
    intake::{
        labels::Offered,
        notice::{What, Word},
        payload::Job,
        skip::SkipReason,
        slip,
    },
    lambda::outcome::{Outcome, Reason},
};

/// A job that waits for less is none of anybody's business.
const LONG: Duration = Duration::minutes(10);

/// The message for the author's queue, if there is anything to tell.
pub(crate) fn of(job: &Job, outcome: &Outcome, offered: &Offered, now: OffsetDateTime) -> Option<String> {
    let waits_long = job.asked_at.is_some_and(|asked_at| now - asked_at > LONG);
    let word = match outcome {
        Outcome::Rejected(rejection) => Word::new(What::Rejected, &rejection.reason, job),
        // Of jobs that are not served, those of public repositories are told nothing: that is another reason.
        Outcome::Skipped(skip) if skip.reason == SkipReason::Labels => {
            let slip = slip::find(&job.labels, offered)?;
            let why = format!("nobody offers the label {}; {} is one", slip.label, slip.meant);
            Word::new(What::Slip, why, job)
        }
        Outcome::Deferred(deferral) if waits_long => {
            Word::new(What::Waiting, waits_for(deferral.reason)?, job)
        }
        // Its runner comes, or it was cancelled, or taken.
        Outcome::Done(done) if waits_long && done.started.is_some() => Word::new(What::Started, "", job),
        Outcome::Skipped(_) if waits_long => Word::new(What::Started, "", job),
        _ => None,
    };
    word.map(|word| word.to_body())
}

/// For authors: what the log says is for operators.
fn waits_for(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoCapacity => Some("Fargate has no capacity of this kind at the moment"),
        Reason::MaxRunners => Some("as many runners as are allowed are at work"),
        Reason::Quota => {
            Some("as many runners as this repository, or this kind of runner, may have are at work")
        }
        Reason::NeedsOperator | Reason::Panic => {
            Some("something has to be mended by those who run this fleet")
        }
        Reason::Unavailable => Some("GitHub or AWS does not answer as it should"),
        // To tell of it takes what there is none of.
        Reason::RateLimit => None,
        Reason::Pool | Reason::InFlight | Reason::TooEarly => None,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{
        ids::{Attempt, JobId},
        intake::payload::Replacement,
        lambda::outcome::{Done, Wait},
        ports::{Target, TaskArn},
    };

    const NOON: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

    fn job(labels: &[&str], waited: i64) -> Job {
        let place = Target { owner: "acme".into(), repository: Some("app".into()), ..Target::default() };
        Job {
            run_id: Some(crate::ids::RunId(1)),
            run_attempt: Some(1),
            name: Some("test".into()),
            head_sha: Some("0".repeat(40)),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            asked_at: Some(NOON - Duration::minutes(waited)),
            ..Replacement::new(JobId(7), Attempt::FIRST, place).into_job()
        }
    }

    #[test]
    fn what_is_told() {
        let offered = Offered::new(["self-hosted", "fargate"]);
        let deferred = |reason| Outcome::deferred(reason, Wait::Backoff, "arn:aws:…");
        let skip = |reason| Outcome::skipped(reason, "not offered");
        let started = || Outcome::from(Done::started("x", TaskArn("arn".into()).into()));
        let table: [(&[&str], i64, Outcome, Option<What>); 12] = [
            (&["fargate"], 0, Outcome::rejected("no such size"), Some(What::Rejected)),
            (&["fargate", "cpus=2"], 0, skip(SkipReason::Labels), Some(What::Slip)),
            (&["fargate", "gpu"], 0, skip(SkipReason::Labels), None),
            // Refused for another reason, whatever its labels.
            (&["fargate", "cpus=2"], 0, skip(SkipReason::Public), None),
            (&["fargate"], 9, deferred(Reason::NoCapacity), None),
            (&["fargate"], 11, deferred(Reason::NoCapacity), Some(What::Waiting)),
            (&["fargate"], 11, deferred(Reason::NeedsOperator), Some(What::Waiting)),
            (&["fargate"], 11, deferred(Reason::InFlight), None),
            (&["fargate"], 11, started(), Some(What::Started)),
            (&["fargate"], 1, started(), None),
            (&["fargate"], 11, skip(SkipReason::NotQueued), Some(What::Started)),
            (&["fargate"], 11, Done::nothing("").into(), None),
        ];
        for (index, (labels, waited, outcome, want)) in table.into_iter().enumerate() {
            let told = of(&job(labels, waited), &outcome, &offered, NOON);
            let what = told.as_deref().map(|body| match crate::intake::notice::read(body) {
                Ok(crate::intake::notice::Notice::Word(word)) => word.what,
                other => panic!("{other:?}"),
            });
            assert_eq!(what, want, "row {index}");
            assert!(!told.unwrap_or_default().contains("arn:aws"), "the log's words are for operators");
        }
        let nowhere = Job { target: Target::default(), ..job(&["fargate"], 11) };
        assert_eq!(of(&nowhere, &deferred(Reason::NoCapacity), &offered, NOON), None);
    }
}
