//! GitHub's rate limits, off unless a story or the simulator turns them on. No I/O and no clock.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

/// How much is allowed; `None`: any amount. GitHub's own figures are in [`Limits::github`].
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Requests an hour (primary).
    pub requests_an_hour: Option<u32>,
    /// Points a minute (secondary): 1 for a GET, 5 for everything else.
    pub points_a_minute: Option<u32>,
    /// Runner registrations in five minutes, in each organisation, repository or enterprise.
    pub registrations_in_five_minutes: Option<u32>,
    windows: BTreeMap<String, (OffsetDateTime, u32)>,
}

/// Refused until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// 403 with `X-RateLimit-Remaining: 0` and `X-RateLimit-Reset`.
    Primary { reset: OffsetDateTime },
    /// 403 with `Retry-After`.
    Secondary { retry_after: Duration },
}

impl Limits {
    /// "Rate limits for the REST API" and "Actions limits", GitHub Docs: the least that an installation has.
    pub fn github() -> Self {
        Limits {
            requests_an_hour: Some(5000),
            points_a_minute: Some(900),
            registrations_in_five_minutes: Some(1500),
            windows: BTreeMap::new(),
        }
    }

    /// Counts one request for `who` (a credential), which registers a runner in `scope` or not.
    pub fn charge(
        &mut self,
        who: &str,
        points: u32,
        registers_in: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), Limited> {
        let requests =
            self.requests_an_hour.map(|most| (format!("requests {who}"), Duration::hours(1), 1, most));
        let points =
            self.points_a_minute.map(|most| (format!("points {who}"), Duration::minutes(1), points, most));
        let registrations = registers_in.zip(self.registrations_in_five_minutes);
        let registrations =
            registrations.map(|(scope, most)| (format!("runners {scope}"), Duration::minutes(5), 1, most));
        for (n, window) in [requests, points, registrations].into_iter().enumerate() {
            let Some((key, length, cost, most)) = window else { continue };
            let (end, used) =
                self.windows.get(&key).copied().filter(|(end, _)| *end > now).unwrap_or((now + length, 0));
            if used + cost > most {
                return Err(match n {
                    0 => Limited::Primary { reset: end },
                    _ => Limited::Secondary { retry_after: end - now },
                });
            }
            self.windows.insert(key, (end, used + cost));
        }
        Ok(())
    }
}
