//! Decisions. Each has a name: whose it is, at which point, and the how manieth of its kind. By seed, the name alone
//! decides; so a decision stays as it was when other jobs are taken out of the history, and a failing history can be
//! shrunk. By script, everything is as it should be but for what the script says.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use super::{HOUR, Ms};

/// A point at which the world has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Point {
    // Calls.
    Mint,
    FindRunner,
    GetRunner,
    ListRunners,
    DeleteRunner,
    GetJob,
    ListDeliveries,
    Redeliver,
    TasksStartedBy,
    Describe,
    RunTask,
    CountTasks,
    LiveTasks,
    EndedTasks,
    StopTask,
    TagTask,
    Defer,
    Reject,
    Announce,
    PutEvents,
    Wait,
    // The world.
    Webhook,
    Bus,
    Receive,
    Boot,
    ListLag,
    Supply,
    Assign,
    Acquire,
    Exit,
    StoppedEvent,
    Schedule,
    Taker,
    Silence,
    Status,
    Seems,
    Unlisted,
    Unheard,
    HeldBack,
    /// A call too, which is in no table.
    GetObject,
    // Calls about runs, and what becomes of those.
    GetRun,
    ListRunJobs,
    Rerun,
    Tell,
    Matrix,
    Failure,
    TakenBack,
    Person,
}

/// How many points there are.
pub const POINTS: u8 = Point::Person as u8 + 1;
/// As many counts have room for every call.
pub const CALLS: usize = POINTS as usize;

/// The name of a decision: the job that it is about (0 for none), the point, and the how manieth there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub job: u64,
    pub point: Point,
    pub nth: u16,
}

/// One thing that may happen instead of the default, and how often in 100,000 cases.
pub type Odds = (u8, u32);

/// A script: the decisions that are not the default.
pub type Script = BTreeMap<Key, u8>;

enum By {
    Seed,
    Script(Script),
}

/// Where decisions come from.
pub struct Chance {
    by: By,
    seed: u64,
    /// Whether latencies vary; without, all are the same.
    varied: bool,
    counts: HashMap<u64, [u16; POINTS as usize], BuildHasherDefault<Mix>>,
    /// When which job was over, the oldest first.
    over: VecDeque<(Ms, u64)>,
    /// The decisions so far that were not the default, if they are written down.
    taken: Option<Script>,
    /// The alternatives that there were, if they are written down.
    seen: Option<Vec<(Key, Vec<u8>)>>,
    /// No more surprises: the end of a history, in which everything is to be put in order.
    calm: bool,
}

impl Chance {
    /// Decides by seed.
    pub fn seeded(seed: u64) -> Self {
        Chance {
            by: By::Seed,
            seed,
            varied: true,
            counts: HashMap::default(),
            over: VecDeque::new(),
            taken: None,
            seen: None,
            calm: false,
        }
    }

    /// Decides by script; `seed` gives the latencies, if they vary at all.
    pub fn scripted(script: Script, seed: Option<u64>) -> Self {
        Chance {
            by: By::Script(script),
            seed: seed.unwrap_or_default(),
            varied: seed.is_some(),
            ..Chance::seeded(0)
        }
    }

    /// Writes down what is decided.
    pub fn write_down(&mut self) {
        self.taken = Some(Script::new());
    }

    /// Writes down what could have been decided.
    pub fn watch(&mut self) {
        self.seen = Some(Vec::new());
    }

    pub fn taken(&self) -> Option<&Script> {
        self.taken.as_ref()
    }

    pub fn seen(&mut self) -> Vec<(Key, Vec<u8>)> {
        self.seen.take().unwrap_or_default()
    }

    pub fn be_calm(&mut self) {
        self.calm = true;
    }

    pub fn is_calm(&self) -> bool {
        self.calm
    }

    pub fn is_scripted(&self) -> bool {
        matches!(self.by, By::Script(_))
    }

    /// One decision: 0 is the default.
    pub fn decide(&mut self, job: u64, point: Point, odds: &[Odds]) -> u8 {
        let nth = &mut self.counts.entry(job).or_insert([0; POINTS as usize])[point as usize];
        let key = Key { job, point, nth: *nth };
        *nth = nth.saturating_add(1);
        if self.calm {
            return 0;
        }
        if let Some(seen) = &mut self.seen {
            seen.push((key, odds.iter().map(|(choice, _)| *choice).collect()));
        }
        let choice = match &self.by {
            By::Script(script) => script.get(&key).copied().unwrap_or(0),
            By::Seed => {
                let mut draw = (hash(&[self.seed, key.job, u64::from(point as u8), u64::from(key.nth)])
                    % 100_000) as u32;
                let mut choice = 0;
                for &(alternative, odds) in odds {
                    if draw < odds {
                        choice = alternative;
                        break;
                    }
                    draw -= odds;
                }
                choice
            }
        };
        if choice != 0
            && let Some(taken) = &mut self.taken
        {
            taken.insert(key, choice);
        }
        choice
    }

    /// How long something takes: between `least` and `most`.
    pub fn takes(&self, least: u64, most: u64, of: &[u64]) -> u64 {
        if !self.varied || most <= least {
            return least;
        }
        least + hash_with(self.seed, of) % (most - least + 1)
    }

    /// The job is over. A day later nothing is decided for it any more, and its counts go: of a million jobs they take a
    /// gigabyte, and most of the time.
    pub fn over(&mut self, job: u64, now: Ms) {
        self.over.push_back((now, job));
        while let Some((_, job)) = self.over.pop_front_if(|(at, _)| *at + 24 * HOUR < now) {
            self.counts.remove(&job);
        }
    }
}

/// splitmix64's finish.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number that depends on all of `of`.
pub fn hash(of: &[u64]) -> u64 {
    hash_with(0, of)
}

fn hash_with(seed: u64, of: &[u64]) -> u64 {
    of.iter().fold(mix(seed ^ 0x9e37_79b9_7f4a_7c15), |hash, x| {
        mix(hash.rotate_left(5) ^ x.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    })
}

/// A hasher for the counts: nothing iterates over them, and nobody attacks them.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, x: u64) {
        self.0 = mix(self.0 ^ x);
    }
}

/// FNV-1a over everything that happens, 64 bits at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    pub fn new() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    pub fn add(&mut self, x: u64) {
        // Rotated, so that high bits come down again.
        self.0 = (self.0 ^ x).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }
}
