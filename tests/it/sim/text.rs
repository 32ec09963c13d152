//! The world's facts as texts: times, labels, ARNs, payloads.

use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    Ms,
    messages::{Action, Event},
    older::Older,
    plan::{self, LABELS, LEGACY},
    world::World,
};

const EPOCH: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// A time of the history, as the flows see it.
pub fn time(at: Ms) -> OffsetDateTime {
    EPOCH + Duration::milliseconds(at as i64)
}

/// When that is in the history.
pub fn moment(time: OffsetDateTime) -> Ms {
    (time - EPOCH).whole_milliseconds() as Ms
}

/// As GitHub and EventBridge write it.
pub fn rfc3339(at: Ms) -> String {
    let time = time(at);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// The labels of a job, as its workflow writes them.
pub fn labels(job: &plan::Job) -> Vec<String> {
    let mut labels: Vec<String> =
        LABELS[usize::from(job.labels)].iter().map(|label| (*label).to_owned()).collect();
    if job.unique {
        labels.push(format!("run={}", plan::origin(job.number)));
    }
    labels
}

/// The cluster of all tasks.
pub const CLUSTER: &str = "runners";
/// The family of all tasks.
pub const TASK_DEFINITION: &str = "runner";

/// The organisation that has all of them.
pub const ORGANIZATION: &str = "acme";

/// Those of its repositories that are served.
pub const REPOSITORIES: &str = "acme/app-0,acme/app-1,acme/app-2";

/// The repository of a job.
pub fn repository(job: &plan::Job) -> String {
    match job.repository {
        LEGACY => "legacy".to_owned(),
        number => format!("app-{number}"),
    }
}

/// GitHub's word for it.
pub fn action_name(action: Action) -> &'static str {
    match action {
        Action::Queued => "queued",
        Action::Waiting => "waiting",
        Action::InProgress => "in_progress",
        Action::Completed => "completed",
    }
}

/// GitHub's payload of an event.
pub fn payload(world: &World, event: &Event) -> String {
    let action = action_name(event.action);
    // The job's status has the same name, as a rule.
    let status = event.status_since.unwrap_or(action);
    let job = event.job;
    let plan = &world.books.job(job).expect("an event is about a job").plan;
    let labels = labels(plan).iter().map(|label| format!("\"{label}\"")).collect::<Vec<_>>().join(",");
    // Which the release before passes over.
    let id = match world.settings.older {
        Older::None => String::new(),
        _ => format!("\"id\":{},", plan.repository),
    };
    let (runner_id, runner) = match &event.runner {
        Some((id, name)) => (*id, format!("\"{name}\"")),
        None => (0, "null".to_owned()),
    };
    let run = world.run_of(job);
    format!(
        "{{\"action\":\"{action}\",\"workflow_job\":{{\"id\":{job},\"run_id\":{run},\"status\":\"{status}\",\
         \"labels\":[{labels}],\"name\":\"build\",\"workflow_name\":\"ci\",\"created_at\":\"{}\",\
         \"started_at\":\"{}\",\"runner_id\":{runner_id},\"runner_name\":{runner}}},\
         \"repository\":{{{id}\"name\":\"{}\",\"private\":true,\
         \"owner\":{{\"login\":\"{ORGANIZATION}\"}}}},\"installation\":{{\"id\":7}}}}",
        rfc3339(plan.at),
        rfc3339(event.started_at.unwrap_or(plan.at)),
        repository(plan),
    )
}
