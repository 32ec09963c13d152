//! How many idle runners are kept ready, and when.

use time::{OffsetDateTime, Time, Weekday};

/// The stack's own pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackPool {
    /// `WARM_POOL_SIZE`; 0 where only classes have pools.
    pub size: u32,
    /// `RUNNER_LABELS`, as far as one runner can have them.
    pub labels: Vec<String>,
}

/// Idle runners that a class keeps ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolPlan {
    /// How many, when no shift is on.
    pub size: u32,
    /// Other numbers at other hours; the first that is on counts.
    pub schedule: Vec<Shift>,
}

/// Hours of some days of the week, in UTC. One that ends before it begins goes on to the next morning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// On which it begins.
    pub days: Vec<Weekday>,
    /// The first minute.
    pub from: Time,
    /// The first minute after it.
    pub to: Time,
    /// How many are kept ready.
    pub size: u32,
}

impl PoolPlan {
    /// How many at that moment.
    pub fn size_at(&self, now: OffsetDateTime) -> u32 {
        let now = now.to_offset(time::UtcOffset::UTC);
        self.schedule.iter().find(|shift| shift.is_on(now)).map_or(self.size, |shift| shift.size)
    }
}

impl Shift {
    fn is_on(&self, now: OffsetDateTime) -> bool {
        let (day, hour) = (now.weekday(), now.time());
        let begins = |day: Weekday| self.days.contains(&day);
        match self.from < self.to {
            true => begins(day) && (self.from..self.to).contains(&hour),
            false => (begins(day) && hour >= self.from) || (begins(day.previous()) && hour < self.to),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, time};

    use super::*;

    #[test]
    fn the_first_shift_that_is_on_counts() {
        let working = |from, to, size| Shift { days: vec![Weekday::Monday, Weekday::Friday], from, to, size };
        let plan = PoolPlan {
            size: 1,
            schedule: vec![working(time!(7:00), time!(18:00), 9), working(time!(16:00), time!(02:00), 4)],
        };
        // 23 November 2026 is a Monday.
        let table = [
            (datetime!(2026-11-23 06:59:59 UTC), 1),
            (datetime!(2026-11-23 07:00 UTC), 9),
            (datetime!(2026-11-23 17:59:59 UTC), 9),
            (datetime!(2026-11-23 18:00 UTC), 4),
            (datetime!(2026-11-24 01:59 UTC), 4),
            (datetime!(2026-11-24 02:00 UTC), 1),
            (datetime!(2026-11-24 12:00 UTC), 1),
            (datetime!(2026-11-27 12:00 +7), 1),
            (datetime!(2026-11-27 14:00 +7), 9),
        ];
        for (now, want) in table {
            assert_eq!(plan.size_at(now), want, "{now}");
        }
    }
}
