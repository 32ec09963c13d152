//! Which webhook deliveries to ask GitHub for once more. GitHub does not repeat them by itself.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::{
    ports::{Delivery, is_success},
    protocol::timing,
};

/// So many of the newest deliveries tell how the webhook is.
const TELLING: usize = 10;
/// With fewer, it may be one odd event.
const FEWEST: usize = 3;

/// One in so many is more than what fails on an ordinary day.
const TROUBLED: usize = 6;

/// GitHub's list of an App's webhook deliveries, as far as it was read: from the newest on, and each time a little further
/// where there was no time for all of it. What is read of an event's deliveries are always the newest ones, so that
/// none is taken for failed that another made good.
#[derive(Debug, Default)]
pub struct Log {
    /// Events that are not delivered yet, by GUID.
    failed: BTreeMap<String, Event>,
    /// Those that failed once and were delivered since, and when: older deliveries of theirs may be read later.
    made_good: BTreeMap<String, OffsetDateTime>,
    /// What the newest were answered.
    newest: BTreeMap<(OffsetDateTime, u64), u16>,
    /// What of the list was read.
    read: Option<Stretch>,
}

#[derive(Debug)]
struct Event {
    last: OffsetDateTime,
    id: u64,
    tries: BTreeSet<u64>,
    waits: bool,
}

impl Event {
    /// When it is asked for again: 30 seconds after its last try, then after 1, 2, 4, 8, and every 16 minutes.
    fn due_at(&self) -> OffsetDateTime {
        let tries = u32::try_from(self.tries.len()).unwrap_or(u32::MAX);
        self.last + timing::REDELIVER_AFTER * (1 << tries.saturating_sub(1).min(timing::REDELIVER_DOUBLINGS))
    }
}

/// A part of the list, newest first.
#[derive(Debug, Clone)]
pub struct Stretch {
    began: OffsetDateTime,
    /// The newest delivery's: a list may be a little old.
    from: OffsetDateTime,
    until: OffsetDateTime,
    /// Where the list goes on; `None` before its first page.
    cursor: Option<String>,
    ended: bool,
    /// The oldest page where more than is ordinary had failed, or was sent again: there may be more behind.
    trouble: OffsetDateTime,
}

impl Stretch {
    /// Nothing yet: from the newest on.
    pub fn begin(now: OffsetDateTime) -> Self {
        Stretch { began: now, from: now, until: now, cursor: None, ended: false, trouble: now }
    }

    /// The next page's cursor, if there is more to read: as far back as that, and a good deal further than there is
    /// trouble, but not beyond a day.
    pub fn next(&self, back_to: OffsetDateTime) -> Option<Option<&str>> {
        let enough = back_to.min(self.trouble - timing::LOOK_BACK).max(self.began - timing::FORGOTTEN);
        (!self.ended && self.until >= enough).then_some(self.cursor.as_deref())
    }
}

impl Log {
    /// A page of the list, the next of that stretch.
    pub fn add(&mut self, stretch: &mut Stretch, page: &[Delivery], next: Option<String>) {
        if let (None, Some(newest)) = (&stretch.cursor, page.first()) {
            stretch.from = newest.delivered_at;
        }
        let mut troubles = 0;
        for delivery in page {
            if stretch.began - delivery.delivered_at >= timing::ANSWERED {
                self.newest.insert((delivery.delivered_at, delivery.id), delivery.status);
            }
            if delivery.event == "workflow_job" {
                troubles += usize::from(!delivery.is_delivered() || delivery.redelivered);
                self.see(delivery);
            }
        }
        while self.newest.len() > TELLING {
            self.newest.pop_first();
        }
        stretch.until = page.last().map_or(stretch.until, |last| last.delivered_at);
        if troubles * TROUBLED > page.len() {
            stretch.trouble = stretch.until;
        }
        (stretch.ended, stretch.cursor) = (next.is_none(), next);
    }

    fn see(&mut self, delivery: &Delivery) {
        let guid = &delivery.guid;
        if delivery.is_delivered() {
            if self.failed.remove(guid).is_some() || delivery.redelivered {
                self.made_good.insert(guid.clone(), delivery.delivered_at);
            }
        } else if !self.made_good.contains_key(guid) {
            let event = self.failed.entry(guid.clone()).or_insert_with(|| Event {
                last: delivery.delivered_at,
                id: delivery.id,
                tries: BTreeSet::new(),
                waits: delivery.action.as_deref() == Some("queued"),
            });
            event.tries.insert(delivery.id);
            if delivery.delivered_at > event.last {
                (event.last, event.id) = (delivery.delivered_at, delivery.id);
            }
        }
    }

    /// Where that stretch ends, what was read before goes on: they are one.
    pub fn join(&mut self, stretch: &mut Stretch) {
        let meets = |before: &mut Stretch| !stretch.ended && stretch.until < before.from - timing::LAG;
        if let Some(before) = self.read.take_if(meets) {
            *stretch = Stretch { began: stretch.began, from: stretch.from, ..before };
        }
    }

    /// That stretch is read. One that ends before it meets what was read before is read again, unless that was so long ago
    /// that none may ever meet it.
    pub fn has_read(&mut self, stretch: Stretch, now: OffsetDateTime) {
        let is_kept = |before: &Stretch| stretch.until > before.from && now - before.from < timing::LOOK_BACK;
        if stretch.ended || !self.read.as_ref().is_some_and(is_kept) {
            self.read = Some(stretch);
        }
        let oldest = now - timing::FORGOTTEN;
        self.failed.retain(|_, event| event.last >= oldest);
        self.made_good.retain(|_, at| *at >= oldest);
    }

    /// Whether any event is known that is not delivered yet.
    pub fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Whether that one has failed by then, and nothing is known that made it good.
    pub fn is_open(&self, delivery: &Delivery, now: OffsetDateTime) -> bool {
        delivery.event == "workflow_job"
            && now - delivery.delivered_at >= timing::ANSWERED
            && !self.made_good.contains_key(&delivery.guid)
    }

    /// Whether that failed one lies in what was read, and nothing is known of it: a page was older than the one before it.
    pub fn has_missed(&self, delivery: &Delivery, now: OffsetDateTime) -> bool {
        let lies_in = |read: &Stretch| (read.until..read.from).contains(&delivery.delivered_at);
        self.read.as_ref().is_some_and(lies_in)
            && self.is_open(delivery, now)
            && !self.failed.contains_key(&delivery.guid)
    }

    /// From the newest on, all is read anew.
    pub fn read_anew(&mut self) {
        self.read = None;
    }

    /// The deliveries to ask GitHub for once more: failed ones that no other delivery of the same event made good,
    /// with growing pauses. Jobs that wait come first.
    pub fn due(&self, now: OffsetDateTime) -> Vec<(String, u64)> {
        let due = self.failed.iter().filter(|(_, event)| event.due_at() <= now);
        let mut due: Vec<(&String, &Event)> = due.collect();
        due.sort_by_key(|(_, event)| (!event.waits, event.last));
        due.into_iter().map(|(guid, event)| (guid.clone(), event.id)).collect()
    }

    /// GitHub will send that event again, or will not, ever.
    pub fn asked(&mut self, guid: &str, accepted: bool, now: OffsetDateTime) {
        match self.failed.get_mut(guid) {
            Some(event) if accepted => event.last = now,
            _ => {
                self.failed.remove(guid);
                self.made_good.insert(guid.to_owned(), now);
            }
        }
    }

    /// Whether none comes through: then more of them would only fail as well.
    pub fn is_down(&self) -> bool {
        self.newest.len() >= FEWEST && self.newest.values().all(|status| !is_success(*status))
    }

    /// What the operator has to mend at GitHub before any delivery can succeed: all of the newest were answered that
    /// they are not signed with our secret (401), or are no JSON (400).
    pub fn refused(&self) -> Option<&'static str> {
        let mut statuses = self.newest.values();
        if self.newest.len() < FEWEST || !statuses.all(|status| matches!(status, 400 | 401)) {
            return None;
        }
        Some(match self.newest.values().next_back() {
            Some(401) => {
                "401: the secret of the App's webhook at GitHub is not the one in WEBHOOK_SECRET_ARN: make them the same"
            }
            _ => "400: set the content type of the App's webhook at GitHub to application/json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn delivery(id: u64, guid: &str, minutes: i64, delivered: bool) -> Delivery {
        Delivery {
            id,
            guid: guid.into(),
            delivered_at: NOW - Duration::minutes(minutes),
            status: if delivered { 202 } else { 502 },
            redelivered: false,
            event: "workflow_job".into(),
            action: Some("in_progress".into()),
        }
    }

    /// The list, newest first, read page by page.
    fn read(pages: &[&[Delivery]]) -> Log {
        let (mut log, mut stretch) = (Log::default(), Stretch::begin(NOW));
        for (n, page) in pages.iter().enumerate() {
            let next = (n + 1 < pages.len()).then(|| n.to_string());
            log.add(&mut stretch, page, next);
        }
        log.has_read(stretch, NOW);
        log
    }

    fn due(log: &Log) -> Vec<u64> {
        log.due(NOW).into_iter().map(|(_, id)| id).collect()
    }

    #[test]
    fn what_is_wrong_with_all_of_them() {
        let answered = |statuses: &[u16]| {
            let of = |(status, n): (&u16, u64)| Delivery {
                status: *status,
                delivered_at: NOW - Duration::minutes(n as i64 + 1),
                ..delivery(n, "a", 0, false)
            };
            read(&[&statuses.iter().zip(0..).map(of).collect::<Vec<_>>()])
        };
        // From the newest to the oldest.
        let nothing: [(&[u16], bool); 5] = [
            (&[], false),
            (&[401, 401], false),
            (&[401, 401, 401, 202], false),
            (&[502, 401, 401, 401], true),
            (&[202, 400, 400, 400, 400], false),
        ];
        for (statuses, is_down) in nothing {
            let log = answered(statuses);
            assert_eq!((log.refused(), log.is_down()), (None, is_down), "{statuses:?}");
        }
        let secret: [&[u16]; 3] =
            [&[401; 3], &[401, 400, 401], &[401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 202]];
        for statuses in secret {
            let log = answered(statuses);
            assert!(log.refused().is_some_and(|why| why.contains("WEBHOOK_SECRET_ARN")), "{statuses:?}");
            assert!(log.is_down());
        }
        assert!(answered(&[400; 4]).refused().is_some_and(|why| why.contains("application/json")));
    }

    #[test]
    fn redeliveries() {
        let queued = |delivery| Delivery { action: Some("queued".into()), ..delivery };
        let again = |delivery| Delivery { redelivered: true, ..delivery };
        let table: [(&str, Vec<Delivery>, Vec<u64>); 10] = [
            ("failed", vec![delivery(1, "a", 1, false)], vec![1]),
            ("just failed", vec![delivery(1, "a", 0, false)], vec![]),
            ("made good", vec![again(delivery(2, "a", 5, true)), delivery(1, "a", 9, false)], vec![]),
            (
                "made good, and sent again",
                vec![again(delivery(2, "a", 5, false)), delivery(1, "a", 9, true)],
                vec![],
            ),
            (
                "failed twice, too soon",
                vec![again(delivery(2, "a", 0, false)), delivery(1, "a", 9, false)],
                vec![],
            ),
            ("failed twice", vec![again(delivery(2, "a", 1, false)), delivery(1, "a", 12, false)], vec![2]),
            ("two events", vec![delivery(2, "b", 9, false), delivery(1, "a", 9, false)], vec![1, 2]),
            (
                "a job that waits",
                vec![queued(delivery(2, "b", 8, false)), delivery(1, "a", 9, false)],
                vec![2, 1],
            ),
            ("another kind", vec![Delivery { event: "push".into(), ..delivery(1, "a", 9, false) }], vec![]),
            ("of a day ago", vec![queued(delivery(1, "a", 25 * 60, false))], vec![]),
        ];
        for (what, deliveries, want) in table {
            assert_eq!(due(&read(&[&deliveries])), want, "{what}");
        }
    }

    /// The second page is of a moment before the first, when the delivery between them was not in the list.
    #[test]
    fn what_was_missed_is_read_anew() {
        let missed = delivery(2, "b", 2, false);
        let pages = [vec![delivery(3, "c", 1, true)], vec![delivery(1, "a", 3, true)]];
        let mut log = read(&[&pages[0], &pages[1]]);
        assert!(log.has_missed(&missed, NOW));
        let of_another_event = Delivery { event: "push".into(), ..missed.clone() };
        for other in [delivery(4, "d", 4, false), delivery(5, "e", 0, false), of_another_event] {
            assert!(!log.has_missed(&other, NOW), "not read yet, or none of ours: {other:?}");
        }
        log.read_anew();
        let mut stretch = Stretch::begin(NOW);
        for page in [&pages[0], &vec![missed.clone()], &pages[1]] {
            log.add(&mut stretch, page, Some("more".into()));
            log.join(&mut stretch);
        }
        log.has_read(stretch, NOW);
        assert!(!log.has_missed(&missed, NOW));
        assert_eq!(due(&log), [2]);
    }

    #[test]
    fn pauses_grow() {
        let mut log = read(&[&[delivery(1, "a", 0, false)]]);
        let mut pauses = Vec::new();
        for id in 2..9 {
            let event = &log.failed["a"];
            let pause = event.due_at() - event.last;
            pauses.push(pause.whole_seconds());
            log.see(&delivery(id, "a", 0, false));
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 960]);
    }

    #[test]
    fn what_github_was_asked_for_waits_for_its_pause_or_is_given_up() {
        let mut log = read(&[&[delivery(2, "b", 9, false), delivery(1, "a", 9, false)]]);
        log.asked("a", true, NOW);
        log.asked("b", false, NOW);
        assert_eq!(due(&log), [0; 0]);
        let later: Vec<u64> = log.due(NOW + Duration::HOUR).into_iter().map(|(_, id)| id).collect();
        assert_eq!(later, [1]);
    }

    /// How far a reader goes, by what it finds: the page of minute n holds one delivery.
    fn reads(minutes: i64, page: impl Fn(i64) -> Delivery) -> i64 {
        let (mut log, mut stretch, back_to) =
            (Log::default(), Stretch::begin(NOW), NOW - Duration::minutes(minutes));
        let mut pages = 0;
        while stretch.next(back_to).is_some() {
            log.add(&mut stretch, &[page(pages)], Some(pages.to_string()));
            pages += 1;
        }
        pages
    }

    #[test]
    fn the_look_back_goes_as_far_as_there_is_trouble_and_not_beyond_a_day() {
        let good = |minute: i64| delivery(minute as u64, &minute.to_string(), minute, true);
        let failed = |minute: i64| delivery(minute as u64, &minute.to_string(), minute, false);
        assert_eq!(reads(40, good), 42);
        // An outage of five hours that ended an hour ago, and has been made good since.
        let again = |minute: i64| Delivery { redelivered: true, ..good(minute) };
        let outage = |minute: i64| match minute {
            ..60 => again(minute),
            60..360 => failed(minute),
            _ => good(minute),
        };
        assert_eq!(reads(40, outage), 360 + 41);
        // A minute in which nothing was asked for does not end it.
        assert_eq!(
            reads(40, |minute| if minute % 30 == 7 { good(minute) } else { outage(minute) }),
            360 + 41
        );
        assert_eq!(reads(40, failed), 24 * 60 + 32);
    }

    #[test]
    fn what_was_read_before_is_not_read_again() {
        let page = |minutes: i64| delivery(minutes as u64, "good", minutes, true);
        let (mut log, mut stretch) = (Log::default(), Stretch::begin(NOW - Duration::minutes(10)));
        log.add(&mut stretch, &[page(11), page(30)], Some("after 30".into()));
        log.has_read(stretch, NOW);
        // Not far enough: it would miss what lies between.
        let mut stretch = Stretch::begin(NOW);
        log.add(&mut stretch, &[page(1), page(5)], Some("after 5".into()));
        log.join(&mut stretch);
        assert_eq!(stretch.cursor.as_deref(), Some("after 5"));
        log.has_read(stretch.clone(), NOW);
        log.add(&mut stretch, &[page(13)], Some("after 13".into()));
        log.join(&mut stretch);
        let minutes = |at: OffsetDateTime| (NOW - at).whole_minutes();
        assert_eq!((minutes(stretch.from), minutes(stretch.until)), (1, 30));
        // It goes on where the first one ended.
        assert_eq!(stretch.cursor.as_deref(), Some("after 30"));
        log.add(&mut stretch, &[page(40)], Some("after 40".into()));
        log.join(&mut stretch);
        assert_eq!(stretch.cursor.as_deref(), Some("after 40"));
    }

    #[test]
    fn whoever_looked_last_long_ago_catches_up() {
        let page = |minutes: i64| delivery(minutes as u64, "good", minutes, true);
        let (mut log, mut stretch) = (Log::default(), Stretch::begin(NOW - Duration::minutes(120)));
        log.add(&mut stretch, &[page(121)], Some("after 121".into()));
        log.has_read(stretch, NOW - Duration::minutes(120));
        // More has happened since than is read in one look, and again.
        let mut looked = Stretch::begin(NOW);
        log.add(&mut looked, &[page(1), page(20)], Some("after 20".into()));
        log.join(&mut looked);
        log.has_read(looked, NOW);
        let mut next = Stretch::begin(NOW + Duration::minutes(1));
        log.add(&mut next, &[page(0), page(3)], Some("after 3".into()));
        log.join(&mut next);
        assert_eq!(next.cursor.as_deref(), Some("after 20"), "it goes on where the look before ended");
    }
}
