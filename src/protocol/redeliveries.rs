//! Which webhook deliveries to ask GitHub for once more. GitHub does not repeat them by itself.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::{ports::Delivery, protocol::timing};

/// The deliveries to ask GitHub for once more: failed ones that no other delivery of the same event made good,
/// each again after 4 minutes, 8 minutes, and then every 16 minutes since its last try. Jobs that wait come first.
pub fn due(deliveries: &[Delivery], now: OffsetDateTime) -> Vec<u64> {
    struct Event {
        last: OffsetDateTime,
        id: u64,
        tries: u32,
        delivered: bool,
        waits: bool,
    }
    let mut events: BTreeMap<&str, Event> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.event == "workflow_job") {
        let event = events.entry(&delivery.guid).or_insert(Event {
            last: delivery.delivered_at,
            id: delivery.id,
            tries: 0,
            delivered: false,
            waits: delivery.action.as_deref() == Some("queued"),
        });
        event.tries += 1;
        event.delivered |= delivery.is_delivered();
        if delivery.delivered_at > event.last {
            (event.last, event.id) = (delivery.delivered_at, delivery.id);
        }
    }
    let mut due: Vec<Event> = events
        .into_values()
        .filter(|event| {
            let pause = timing::REDELIVER_AFTER
                * (1 << event.tries.saturating_sub(1).min(timing::REDELIVER_DOUBLINGS));
            !event.delivered && now - event.last >= pause
        })
        .collect();
    due.sort_by_key(|event| (!event.waits, event.last));
    due.into_iter().map(|event| event.id).collect()
}

/// So many of the newest deliveries tell how the webhook is set up.
const TELLING: usize = 10;
/// With fewer, it may be one odd event.
const FEWEST: usize = 3;

/// What the operator has to mend at GitHub before any delivery can succeed: all of the newest were answered that they
/// are not signed with our secret (401), or are no JSON (400).
pub fn refused(deliveries: &[Delivery]) -> Option<&'static str> {
    let mut newest: Vec<&Delivery> = deliveries.iter().collect();
    newest.sort_by_key(|delivery| std::cmp::Reverse(delivery.delivered_at));
    newest.truncate(TELLING);
    let is_refusal = |delivery: &&Delivery| matches!(delivery.status, 400 | 401);
    if newest.len() < FEWEST || !newest.iter().all(is_refusal) {
        return None;
    }
    Some(match newest[0].status {
        401 => {
            "401: the secret of the App's webhook at GitHub is not the one in WEBHOOK_SECRET_ARN: make them the same"
        }
        _ => "400: set the content type of the App's webhook at GitHub to application/json",
    })
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
            event: "workflow_job".into(),
            action: Some("in_progress".into()),
        }
    }

    #[test]
    fn what_is_wrong_with_all_of_them() {
        let answered = |statuses: &[u16]| -> Option<&'static str> {
            let deliveries = statuses.iter().zip(0..);
            let of = |(status, minutes): (&u16, i64)| Delivery {
                status: *status,
                ..delivery(1, "a", minutes, false)
            };
            refused(&deliveries.map(of).collect::<Vec<_>>())
        };
        // From the newest to the oldest.
        let nothing: [&[u16]; 5] =
            [&[], &[401, 401], &[401, 401, 401, 202], &[502, 401, 401, 401], &[202, 400, 400, 400, 400]];
        for statuses in nothing {
            assert_eq!(answered(statuses), None, "{statuses:?}");
        }
        let secret: [&[u16]; 3] =
            [&[401; 3], &[401, 400, 401], &[401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 202]];
        for statuses in secret {
            assert!(answered(statuses).is_some_and(|why| why.contains("WEBHOOK_SECRET_ARN")), "{statuses:?}");
        }
        assert!(answered(&[400; 4]).is_some_and(|why| why.contains("application/json")));
    }

    #[test]
    fn redeliveries() {
        let queued = |delivery| Delivery { action: Some("queued".into()), ..delivery };
        let table: [(&str, Vec<Delivery>, Vec<u64>); 8] = [
            ("failed", vec![delivery(1, "a", 5, false)], vec![1]),
            ("just failed", vec![delivery(1, "a", 3, false)], vec![]),
            ("made good", vec![delivery(2, "a", 5, true), delivery(1, "a", 9, false)], vec![]),
            ("failed again, too soon", vec![delivery(2, "a", 5, false), delivery(1, "a", 9, false)], vec![]),
            ("failed again", vec![delivery(2, "a", 8, false), delivery(1, "a", 12, false)], vec![2]),
            ("two events", vec![delivery(1, "a", 9, false), delivery(2, "b", 9, false)], vec![1, 2]),
            (
                "a job that waits",
                vec![delivery(1, "a", 9, false), queued(delivery(2, "b", 8, false))],
                vec![2, 1],
            ),
            ("another kind", vec![Delivery { event: "push".into(), ..delivery(1, "a", 9, false) }], vec![]),
        ];
        for (what, deliveries, want) in table {
            assert_eq!(due(&deliveries, NOW), want, "{what}");
        }
    }
}
