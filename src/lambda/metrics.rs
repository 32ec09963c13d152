//! CloudWatch metrics in the Embedded Metric Format: one line of JSON in the log, and CloudWatch counts.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::lambda::{
    metric::Metric,
    outcome::{Handled, Outcome, Reason, Used},
};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "GhaFargateRunners";

/// The metrics of one invocation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Counts, and ages in seconds.
    values: BTreeMap<Metric, u64>,
    dispatch_delays_ms: Vec<i64>,
    used: Vec<Used>,
}

impl Metrics {
    /// Counts one handled message.
    pub fn count(&mut self, handled: &Handled, now: OffsetDateTime) {
        self.add(Metric::Received, 1);
        match &handled.outcome {
            Outcome::Done(done) => {
                for (metric, count) in &done.counts {
                    self.add(*metric, *count);
                }
                self.used.extend(done.used.as_deref().cloned());
                if let Some(age) = done.oldest_waiting {
                    self.is_as_old_as(Metric::OldestWaitingJob, age);
                }
                if done.started.is_some()
                    && let Some(created_at) = handled.job.as_ref().and_then(|job| job.created_at)
                {
                    let delay = (now - created_at).whole_milliseconds();
                    self.dispatch_delays_ms.push(i64::try_from(delay).unwrap_or(i64::MAX).max(0));
                }
            }
            Outcome::Skipped(_) => self.add(Metric::Skipped, 1),
            Outcome::Rejected(_) => self.add(Metric::Rejected, 1),
            Outcome::Deferred(deferral) => {
                self.add(Metric::Deferred, 1);
                self.add(deferral.reason.metric(), 1);
                if deferral.reason == Reason::Panic {
                    self.add(Metric::NeedsOperator, 1);
                }
            }
        }
    }

    /// A message of this age is deferred.
    pub fn deferred(&mut self, reason: Reason, age: time::Duration) {
        if !matches!(reason, Reason::MaxRunners | Reason::Quota | Reason::Pool) {
            self.is_as_old_as(Metric::OldestDeferred, age);
        }
    }

    /// Of several ages, the oldest.
    fn is_as_old_as(&mut self, metric: Metric, age: time::Duration) {
        let known = self.values.entry(metric).or_default();
        *known = age.whole_seconds().max(0).unsigned_abs().max(*known);
    }

    /// Adds to one count.
    pub fn add(&mut self, metric: Metric, by: u64) {
        *self.values.entry(metric).or_default() += by;
    }

    /// One count, or one age in seconds.
    pub fn get(&self, metric: Metric) -> u64 {
        self.values.get(&metric).copied().unwrap_or_default()
    }

    /// Whether it was counted, zero times included.
    pub fn has(&self, metric: Metric) -> bool {
        self.values.contains_key(&metric)
    }

    /// The line for the log. Counts that alarms and graphs look at are there even when they are zero.
    pub fn line(&self, function: &str, now: OffsetDateTime, always: &[Metric]) -> String {
        let mut values = self.values.clone();
        for metric in always {
            values.entry(*metric).or_default();
        }
        let values = values.into_iter().map(|(metric, value)| (metric, value.into()));
        let delays = Some(&self.dispatch_delays_ms).filter(|delays| !delays.is_empty());
        let delays = delays.map(|delays| (Metric::DispatchDelay, json!(delays)));
        embed(Map::new(), values.chain(delays), function, now)
    }

    /// A line for each task that has ended: what it is billed for, and whose cost that is. Repository and job are no
    /// dimensions, for each value of those would be a metric that is paid for; Logs Insights sums them up.
    pub fn used(&self, function: &str, now: OffsetDateTime) -> impl Iterator<Item = String> {
        self.used.iter().map(move |used| {
            let fields = json!({
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
            let values = [
                (Metric::VcpuSeconds, used.usage.vcpu_seconds().into()),
                (Metric::GibSeconds, used.usage.gib_seconds().into()),
            ];
            embed(fields, values, function, now)
        })
    }
}

/// The fields and the values as a line that CloudWatch reads these metrics from.
fn embed(
    mut fields: Map<String, Value>,
    values: impl IntoIterator<Item = (Metric, Value)>,
    function: &str,
    now: OffsetDateTime,
) -> String {
    let mut definitions = Vec::new();
    for (metric, value) in values {
        definitions.push(json!({ "Name": metric.name(), "Unit": metric.unit() }));
        fields.insert(metric.name().to_owned(), value);
    }
    fields.insert("FunctionName".to_owned(), function.into());
    fields.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.unix_timestamp() * 1000 + i64::from(now.millisecond()),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["FunctionName"]],
                "Metrics": definitions,
            }],
        }),
    );
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::skip::SkipReason;

    #[test]
    fn one_line_that_cloudwatch_reads() {
        let mut metrics = Metrics::default();
        let handled = Handled::new(Outcome::skipped(SkipReason::Labels, "not offered"));
        metrics.count(&handled, OffsetDateTime::UNIX_EPOCH);
        let line = metrics.line("dispatch", OffsetDateTime::UNIX_EPOCH, &[Metric::Started]);
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
