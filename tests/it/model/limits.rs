//! GitHub's rate limits, off unless a story or the simulator turns them on. No I/O and no clock.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

/// "Rate limits for the REST API", GitHub Docs: the least that an installation has.
pub const REQUESTS_AN_HOUR: u32 = 5000;
/// Of an App in an organisation on GitHub Enterprise Cloud (there, too).
pub const ENTERPRISE_REQUESTS_AN_HOUR: u32 = 15_000;
pub const POINTS_A_MINUTE: u32 = 900;
/// "Actions limits", GitHub Docs.
pub const REGISTRATIONS_IN_FIVE_MINUTES: u32 = 1500;

/// How much is allowed; `None`: any amount. GitHub's own figures are in [`Limits::github`].
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Requests an hour (primary).
    pub requests_an_hour: Option<u32>,
    /// Points a minute (secondary): 1 for a GET, 5 for everything else.
    pub points_a_minute: Option<u32>,
    /// Runner registrations in five minutes, in each organisation, repository or enterprise.
    pub registrations_in_five_minutes: Option<u32>,
    requests: Windows,
    points: Windows,
    registrations: Windows,
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
    pub fn github() -> Self {
        Limits {
            requests_an_hour: Some(REQUESTS_AN_HOUR),
            points_a_minute: Some(POINTS_A_MINUTE),
            registrations_in_five_minutes: Some(REGISTRATIONS_IN_FIVE_MINUTES),
            ..Limits::default()
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
        if let Some(most) = self.requests_an_hour {
            let charged = self.requests.charge(who, 1, most, Duration::hours(1), now);
            charged.map_err(|reset| Limited::Primary { reset })?;
        }
        let secondary = |end| Limited::Secondary { retry_after: end - now };
        if let Some(most) = self.points_a_minute {
            self.points.charge(who, points, most, Duration::minutes(1), now).map_err(secondary)?;
        }
        if let Some((scope, most)) = registers_in.zip(self.registrations_in_five_minutes) {
            self.registrations.charge(scope, 1, most, Duration::minutes(5), now).map_err(secondary)?;
        }
        Ok(())
    }

    /// The most requests, points and registrations that were counted in any of their windows.
    pub fn most_used(&self) -> [u32; 3] {
        [self.requests.most_used, self.points.most_used, self.registrations.most_used]
    }
}

/// The windows of one limit; each begins with the first request in it.
#[derive(Debug, Clone, Default)]
struct Windows {
    /// By credential or scope: when it ends, and what was used.
    open: BTreeMap<String, (OffsetDateTime, u32)>,
    most_used: u32,
}

impl Windows {
    /// `Err`: when the window that is used up ends.
    fn charge(
        &mut self,
        whose: &str,
        cost: u32,
        most: u32,
        length: Duration,
        now: OffsetDateTime,
    ) -> Result<(), OffsetDateTime> {
        if !self.open.contains_key(whose) {
            self.open.insert(whose.to_owned(), (now, 0));
        }
        let Some((end, used)) = self.open.get_mut(whose) else { return Ok(()) };
        if *end <= now {
            (*end, *used) = (now + length, 0);
        }
        if *used + cost > most {
            return Err(*end);
        }
        *used += cost;
        self.most_used = self.most_used.max(*used);
        Ok(())
    }
}
