//! What a task that has ended is billed for.

use time::{Duration, OffsetDateTime};

use crate::fargate::size::Size;

/// "A one-minute minimum" (AWS Fargate Pricing, Linux).
const LEAST: Duration = Duration::MINUTE;

/// What a task has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// "From the time you start to download your container image until the task terminates, rounded up to the nearest
    /// second" (AWS Fargate Pricing).
    pub seconds: u32,
    /// Its size.
    pub size: Size,
    /// Its capacity provider, or its launch type.
    pub capacity: String,
}

impl Usage {
    /// Of a task that began to pull its image, and has stopped.
    pub fn new(pulled_from: OffsetDateTime, until: OffsetDateTime, size: Size, capacity: String) -> Self {
        let time = (until - pulled_from).max(LEAST);
        let seconds = time.whole_seconds() + i64::from(time.subsec_nanoseconds() > 0);
        Usage { seconds: u32::try_from(seconds).unwrap_or(u32::MAX), size, capacity }
    }

    /// vCPUs × seconds.
    pub fn vcpu_seconds(&self) -> f64 {
        f64::from(self.seconds) * f64::from(self.size.cpu) / 1024.0
    }

    /// GiB of memory × seconds.
    pub fn gib_seconds(&self) -> f64 {
        f64::from(self.seconds) * f64::from(self.size.memory_mib) / 1024.0
    }
}

/// What a task is stopped for. StopTask deletes its tags, and keeps the reason: whose cost it is goes in there.
pub fn stop_reason(why: &str, repository: Option<&str>, class: Option<&str>) -> String {
    match (repository, class) {
        (Some(repository), Some(class)) => format!("{why} ({repository}, class {class})"),
        (Some(repository), None) => format!("{why} ({repository})"),
        (None, _) => why.to_owned(),
    }
}

/// Repository and class, out of such a reason.
pub fn whose(stop_reason: &str) -> Option<(&str, Option<&str>)> {
    let (_, whose) = stop_reason.strip_suffix(')')?.rsplit_once(" (")?;
    Some(match whose.split_once(", class ") {
        Some((repository, class)) => (repository, Some(class)),
        None => (whose, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_cost_it_is_outlives_the_tags() {
        for (repository, class) in [("acme/app", Some("big")), ("acme", Some("big")), ("acme/app", None)] {
            assert_eq!(
                whose(&stop_reason("idle (for long)", Some(repository), class)),
                Some((repository, class))
            );
        }
        assert_eq!(whose(&stop_reason("idle", None, None)), None);
    }

    #[test]
    fn seconds_are_rounded_up_and_a_minute_at_least() {
        let of = |milliseconds| {
            let from = OffsetDateTime::UNIX_EPOCH;
            let size = Size { cpu: 512, memory_mib: 3072 };
            Usage::new(from, from + Duration::milliseconds(milliseconds), size, "FARGATE_SPOT".to_owned())
        };
        let seconds = [-5, 0, 59_999, 60_000, 60_001, 90_500].map(|milliseconds| of(milliseconds).seconds);
        assert_eq!(seconds, [60, 60, 60, 60, 61, 91]);
        assert_eq!((of(100_000).vcpu_seconds(), of(100_000).gib_seconds()), (50.0, 300.0));
    }
}
