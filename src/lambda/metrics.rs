//! CloudWatch metrics in the Embedded Metric Format: one line of JSON in the log, and CloudWatch counts.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::lambda::outcome::{Handled, Outcome, Reason, Used};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "GhaFargateRunners";

/// The age in seconds of the oldest message that is deferred, whatever for, but not by `MAX_RUNNERS`, a quota or a pool. SQS's own
/// ApproximateAgeOfOldestMessage leaves out what was received more than three times.
const OLDEST_DEFERRED: &str = "OldestDeferred";

/// The age in seconds of the oldest task whose runner has not come.
const OLDEST_WAITING_JOB: &str = "OldestWaitingJob";

/// The metrics of one invocation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Metrics {
    counts: BTreeMap<&'static str, u64>,
    /// In seconds; of several, the oldest.
    ages: BTreeMap<&'static str, u64>,
    dispatch_delays_ms: Vec<i64>,
    used: Vec<Used>,
}

impl Metrics {
    /// Counts one handled message.
    pub fn count(&mut self, handled: &Handled, now: OffsetDateTime) {
        self.add("Received", 1);
        match &handled.outcome {
            Outcome::Done(done) => {
                for (metric, count) in &done.counts {
                    self.add(metric, *count);
                }
                self.used.extend(done.used.as_deref().cloned());
                if let Some(age) = done.oldest_waiting {
                    self.is_as_old_as(OLDEST_WAITING_JOB, age);
                }
                if done.started.is_some()
                    && let Some(created_at) = handled.job.as_ref().and_then(|job| job.created_at)
                {
                    let delay = (now - created_at).whole_milliseconds();
                    self.dispatch_delays_ms.push(i64::try_from(delay).unwrap_or(i64::MAX).max(0));
                }
            }
            Outcome::Skipped(_) => self.add("Skipped", 1),
            Outcome::Rejected(_) => self.add("Rejected", 1),
            Outcome::Deferred(deferral) => {
                self.add("Deferred", 1);
                self.add(deferral.reason.metric(), 1);
                if deferral.reason == Reason::Panic {
                    self.add(Reason::NeedsOperator.metric(), 1);
                }
            }
        }
    }

    /// A message of this age is deferred.
    pub fn deferred(&mut self, reason: Reason, age: time::Duration) {
        if !matches!(reason, Reason::MaxRunners | Reason::Quota | Reason::Pool) {
            self.is_as_old_as(OLDEST_DEFERRED, age);
        }
    }

    fn is_as_old_as(&mut self, metric: &'static str, age: time::Duration) {
        let known = self.ages.entry(metric).or_default();
        *known = age.whole_seconds().max(0).unsigned_abs().max(*known);
    }

    /// Adds to one count.
    pub fn add(&mut self, metric: &'static str, by: u64) {
        *self.counts.entry(metric).or_default() += by;
    }

    /// One count, or one age in seconds.
    pub fn get(&self, metric: &str) -> u64 {
        self.counts.get(metric).or_else(|| self.ages.get(metric)).copied().unwrap_or_default()
    }

    /// The line for the log. Counts that alarms and graphs look at are there even when they are zero.
    pub fn line(&self, function: &str, now: OffsetDateTime, always: &[&'static str]) -> String {
        let mut fields = Map::new();
        let mut definitions = Vec::new();
        let mut counts = self.counts.clone();
        for metric in always {
            counts.entry(metric).or_default();
        }
        let of = |values: BTreeMap<&'static str, u64>, unit: &'static str| {
            values.into_iter().map(move |(metric, value)| (metric, value, unit))
        };
        for (metric, value, unit) in of(counts, "Count").chain(of(self.ages.clone(), "Seconds")) {
            definitions.push(json!({ "Name": metric, "Unit": unit }));
            fields.insert(metric.to_owned(), value.into());
        }
        if !self.dispatch_delays_ms.is_empty() {
            definitions.push(json!({ "Name": "DispatchDelay", "Unit": "Milliseconds" }));
            fields.insert("DispatchDelay".to_owned(), self.dispatch_delays_ms.clone().into());
        }
        embed(fields, definitions, function, now)
    }

    /// A line for each task that has ended: what it is billed for, and whose cost that is. Repository and job are no
    /// dimensions, for each value of those would be a metric that is paid for; Logs Insights sums them up.
    pub fn used(&self, function: &str, now: OffsetDateTime) -> impl Iterator<Item = String> {
        self.used.iter().map(move |used| {
            let fields = json!({
                "VcpuSeconds": used.usage.vcpu_seconds(),
                "GibSeconds": used.usage.gib_seconds(),
                "seconds": used.usage.seconds,
                "cpu": used.usage.size.cpu,
                "memory": used.usage.size.memory_mib,
                "capacity": used.usage.capacity,
                "task": used.task.0,
                "repository": used.repository,
                "class": used.class,
                "job": used.job,
            });
            let Value::Object(fields) = fields else { return String::new() };
            let metrics = ["VcpuSeconds", "GibSeconds"].map(|name| json!({ "Name": name, "Unit": "None" }));
            embed(fields, metrics.into(), function, now)
        })
    }
}

/// The fields as a line that CloudWatch reads these metrics from.
fn embed(mut fields: Map<String, Value>, metrics: Vec<Value>, function: &str, now: OffsetDateTime) -> String {
    fields.insert("FunctionName".to_owned(), function.into());
    fields.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.unix_timestamp() * 1000 + i64::from(now.millisecond()),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["FunctionName"]],
                "Metrics": metrics,
            }],
        }),
    );
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::skip::{Skip, SkipReason};

    #[test]
    fn one_line_that_cloudwatch_reads() {
        let mut metrics = Metrics::default();
        let handled = Handled {
            job: None,
            outcome: Outcome::Skipped(Skip::new(SkipReason::Labels, "not offered")),
            notice: None,
        };
        metrics.count(&handled, OffsetDateTime::UNIX_EPOCH);
        let line = metrics.line("dispatch", OffsetDateTime::UNIX_EPOCH, &["Started"]);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["Received"], 1);
        assert_eq!(value["Skipped"], 1);
        assert_eq!(value["Started"], 0);
        let definitions =
            value["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("a list").clone();
        for definition in definitions {
            let name = definition["Name"].as_str().expect("a name");
            assert!(value.get(name).is_some(), "{name} is defined and not there");
        }
    }
}
