//! What other fleets have met, and how often the world does it to us. What is never on its own is off (0, or
//! [`Spells::Never`]) until the protocol can bear it; each can be switched on for one history.

use super::{HOUR, MINUTE, Ms};

/// In 100,000 cases, if nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Of reads: answered by a copy that lags behind.
    pub late_copy: u32,
    /// How far such a copy lags behind: a minute, or up to that.
    pub lag: Ms,
    /// Of assignments: the runner loses its job and polls for ever, and its registration stays.
    pub lost_assignment: u32,
    /// Of assignments: the same, and its registration is gone with it.
    pub consumed: u32,
    /// Of assignments: GitHub shows the runner as idle for 25 to 60 seconds, and takes a DELETE.
    pub late_busy: u32,
    /// Of assignments: the same for a minute in the middle of the job.
    pub seems_idle: u32,
    /// Of assignments: GitHub shows the runner as offline for a minute in the middle of the job.
    pub seems_offline: u32,
    /// Of connected runners: for a minute, some time in its first five, lists do not show it.
    pub unlisted: u32,
    /// Of jobs: at the same time comes one of a repository that is not served, with its labels, and its own fleet is
    /// slow; nothing of it is ever heard.
    pub unheard_taker: u32,
    /// The same, and its webhooks come; the policy does not let them in.
    pub excluded_taker: u32,
    /// Of jobs: a deployment protection rule holds it back, for up to 30 hours.
    pub held_back: u32,
    /// Of jobs: GitHub never says what it knows of it.
    pub silent_job: u32,
    /// Of jobs: while it waits, for a minute GitHub gives it a status that nobody knows.
    pub unknown_queued: u32,
    /// Of assignments: the same for the first minute with its runner.
    pub unknown_taken: u32,
    /// Of webhooks: three minutes late.
    pub late_webhook: u32,
    /// Of `queued` webhooks: neither sent nor written down.
    pub unheard: u32,
    /// Most webhooks are not delivered, but written down.
    pub webhooks_out: Spells,
    /// Most webhooks are neither delivered nor written down.
    pub webhooks_lost: Spells,
    /// The last of several Apps is suspended.
    pub suspended: Spells,
    /// GitHub refuses every runner that starts: it ends with code 7, and its registration stays offline.
    pub refused: Spells,
    /// Every runner ends before it takes a job, with code 0, and its registration stays offline.
    pub broken: Spells,
    /// The image cannot be pulled.
    pub registry_down: Spells,
    /// The subnets have no addresses left.
    pub no_addresses: Spells,
    /// Container-minted: the secret holds no token, and `runner-init` ends with code 80.
    pub bad_secret: Spells,
    /// Of calls of ECS that change something: throttled, and it looks like a mistake of ours.
    pub disguised_throttle: u32,
    /// Of jobs: they are the first of a matrix of two to four, half of those with fail-fast.
    pub matrix: u32,
    /// Of jobs: they fail by themselves.
    pub user_failure: u32,
    /// Of jobs that run on Spot: their runner is taken back.
    pub spot: u32,
    /// Of jobs that did not end well: a person has the run's failed jobs run again, within the hour.
    pub person: u32,
    /// How far the functions' clocks are ahead, in milliseconds: webhook, dispatch, reconcile.
    pub ahead: [i64; 3],
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            late_copy: 3_000,
            lag: MINUTE,
            lost_assignment: 20,
            consumed: 0,
            late_busy: 0,
            seems_idle: 0,
            seems_offline: 0,
            unlisted: 0,
            unheard_taker: 0,
            excluded_taker: 0,
            held_back: 0,
            silent_job: 0,
            unknown_queued: 0,
            unknown_taken: 0,
            late_webhook: 200,
            unheard: 0,
            webhooks_out: Spells::In { percent: 1, of: HOUR, lasts: 20 * MINUTE },
            webhooks_lost: Spells::Never,
            suspended: Spells::Never,
            refused: Spells::Never,
            broken: Spells::Never,
            registry_down: Spells::Never,
            no_addresses: Spells::Never,
            bad_secret: Spells::Never,
            disguised_throttle: 0,
            matrix: 0,
            user_failure: 0,
            spot: 0,
            person: 0,
            ahead: [0; 3],
        }
    }
}

/// When something is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spells {
    Never,
    /// In so many of a hundred stretches of that length, once, for so long.
    In {
        percent: u64,
        of: Ms,
        lasts: Ms,
    },
    /// Then.
    During {
        from: Ms,
        until: Ms,
    },
}

impl Rates {
    /// All that other fleets have met, and oftener than they tell of.
    pub fn harder() -> Self {
        let once = |minutes| Spells::In { percent: 2, of: HOUR, lasts: minutes * MINUTE };
        Rates {
            late_copy: 10_000,
            lag: 5 * MINUTE,
            consumed: 20,
            late_busy: 200,
            seems_idle: 200,
            seems_offline: 1_000,
            unlisted: 1_000,
            unheard_taker: 200,
            excluded_taker: 200,
            held_back: 200,
            silent_job: 200,
            unknown_queued: 200,
            unknown_taken: 200,
            late_webhook: 5_000,
            unheard: 20,
            webhooks_out: Spells::In { percent: 2, of: HOUR, lasts: 50 * MINUTE },
            webhooks_lost: once(10),
            refused: once(30),
            broken: once(30),
            registry_down: once(30),
            no_addresses: once(30),
            disguised_throttle: 200,
            ..Rates::default()
        }
    }

    /// Changes the one of that name: `consumed=20` (in 100,000 cases), `lag=300` (seconds), `dispatch_ahead=300`
    /// (seconds), `refused=360-1080` (from that minute to that one).
    pub fn set(&mut self, setting: &str) -> Option<()> {
        let (name, value) = setting.split_once('=')?;
        let number = |text: &str| text.parse::<i64>().ok();
        let spell = || {
            let (from, until) = value.split_once('-')?;
            let minute = |text| Some(number(text)?.unsigned_abs() * MINUTE);
            Some(Spells::During { from: minute(from)?, until: minute(until)? })
        };
        let milliseconds = || Some(number(value)? * 1_000);
        match name {
            "lag" => self.lag = milliseconds()?.unsigned_abs(),
            "webhook_ahead" => self.ahead[0] = milliseconds()?,
            "dispatch_ahead" => self.ahead[1] = milliseconds()?,
            "reconcile_ahead" => self.ahead[2] = milliseconds()?,
            "webhooks_out" => self.webhooks_out = spell()?,
            "webhooks_lost" => self.webhooks_lost = spell()?,
            "suspended" => self.suspended = spell()?,
            "refused" => self.refused = spell()?,
            "broken" => self.broken = spell()?,
            "registry_down" => self.registry_down = spell()?,
            "no_addresses" => self.no_addresses = spell()?,
            "bad_secret" => self.bad_secret = spell()?,
            name => *self.rate(name)? = value.parse().ok()?,
        }
        Some(())
    }

    fn rate(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "late_copy" => &mut self.late_copy,
            "lost_assignment" => &mut self.lost_assignment,
            "consumed" => &mut self.consumed,
            "late_busy" => &mut self.late_busy,
            "seems_idle" => &mut self.seems_idle,
            "seems_offline" => &mut self.seems_offline,
            "unlisted" => &mut self.unlisted,
            "unheard_taker" => &mut self.unheard_taker,
            "excluded_taker" => &mut self.excluded_taker,
            "held_back" => &mut self.held_back,
            "silent_job" => &mut self.silent_job,
            "unknown_queued" => &mut self.unknown_queued,
            "unknown_taken" => &mut self.unknown_taken,
            "late_webhook" => &mut self.late_webhook,
            "unheard" => &mut self.unheard,
            "disguised_throttle" => &mut self.disguised_throttle,
            "matrix" => &mut self.matrix,
            "user_failure" => &mut self.user_failure,
            "spot" => &mut self.spot,
            "person" => &mut self.person,
            _ => return None,
        })
    }
}
