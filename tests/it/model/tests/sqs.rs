//! SQS: what becomes of a message.

use std::collections::{BTreeMap, BTreeSet};

use time::Duration;

use super::NOON;
use crate::model::sqs::Sqs;

fn queue() -> Sqs {
    let mut sqs = Sqs::default();
    sqs.create("dead");
    let queue = sqs.create("q");
    queue.visibility_timeout = Duration::seconds(180);
    queue.retention = Duration::hours(24);
    queue.redrive = Some(("dead".to_owned(), 3));
    sqs
}

fn send(sqs: &mut Sqs, delay: i64) -> u64 {
    sqs.send("q", "body", BTreeMap::new(), Duration::seconds(delay), NOON).unwrap()
}

#[test]
fn a_message_comes_again_until_it_is_deleted_or_dead() {
    let mut sqs = queue();
    send(&mut sqs, 0);
    let at = |seconds| NOON + Duration::seconds(seconds);
    let first = sqs.receive("q", 10, NOON).unwrap();
    assert_eq!(first[0].receive_count, 1);
    assert!(sqs.receive("q", 10, at(179)).unwrap().is_empty());
    let second = sqs.receive("q", 10, at(180)).unwrap();
    assert_eq!((second[0].id, second[0].receive_count), (first[0].id, 2));
    sqs.delete("q", first[0].receipt_handle.as_deref().unwrap(), at(180)).unwrap();
    assert_eq!(sqs.len("q"), 1, "the handle of an earlier receive deletes nothing");
    assert_eq!(sqs.receive("q", 10, at(360)).unwrap().len(), 1);
    assert!(sqs.receive("q", 10, at(540)).unwrap().is_empty(), "received three times: dead");
    assert_eq!((sqs.len("q"), sqs.len("dead")), (0, 1));
    let dead = sqs.receive("dead", 1, at(540)).unwrap();
    sqs.delete("dead", dead[0].receipt_handle.as_deref().unwrap(), at(540)).unwrap();
    sqs.delete("dead", dead[0].receipt_handle.as_deref().unwrap(), at(540)).unwrap();
    assert_eq!(sqs.len("dead"), 0);
}

#[test]
fn a_deleted_message_may_come_once_more() {
    let mut sqs = queue();
    let id = send(&mut sqs, 0);
    let received = sqs.receive("q", 1, NOON).unwrap();
    sqs.deliver_again("q", id);
    sqs.delete("q", received[0].receipt_handle.as_deref().unwrap(), NOON).unwrap();
    assert!(sqs.receive("q", 1, NOON + Duration::seconds(19)).unwrap().is_empty());
    let again = sqs.receive("q", 1, NOON + Duration::seconds(20)).unwrap();
    assert_eq!((again[0].id, again[0].receive_count), (id, 2));
    sqs.delete("q", again[0].receipt_handle.as_deref().unwrap(), NOON).unwrap();
    assert_eq!(sqs.len("q"), 0);
}

#[test]
fn visibility_is_changed_within_twelve_hours_and_only_in_flight() {
    let mut sqs = queue();
    send(&mut sqs, 5);
    assert!(sqs.receive("q", 1, NOON).unwrap().is_empty(), "delayed");
    let received = NOON + Duration::seconds(5);
    let handle = sqs.receive("q", 1, received).unwrap()[0].receipt_handle.clone().unwrap();
    let table = [
        (handle.as_str(), -1, "InvalidParameterValue"),
        (&handle, 43_201, "InvalidParameterValue"),
        ("AQEB", 0, "ReceiptHandleIsInvalid"),
        ("dead/1/1", 0, "ReceiptHandleIsInvalid"),
        ("q/9/1", 0, "InvalidParameterValue"),
        ("q/1/9", 0, "InvalidParameterValue"),
    ];
    for (handle, seconds, want) in table {
        let error = sqs.change_visibility("q", handle, Duration::seconds(seconds), received).unwrap_err();
        assert_eq!(error.code, want, "{handle} {seconds}");
    }
    let later = received + Duration::seconds(1);
    assert!(
        sqs.change_visibility("q", &handle, Duration::seconds(43_200), later).is_err(),
        "12 hours in all"
    );
    sqs.change_visibility("q", &handle, Duration::seconds(900), later).unwrap();
    assert_eq!(sqs.next_visible_at("q"), Some(later + Duration::seconds(900)));
    sqs.change_visibility("q", &handle, Duration::seconds(0), later).unwrap();
    assert_eq!(
        sqs.change_visibility("q", &handle, Duration::seconds(60), later).unwrap_err().code,
        "MessageNotInflight"
    );
    let visible: BTreeSet<u64> = sqs.visible("q", later).unwrap().collect();
    assert_eq!(visible, BTreeSet::from([1]));
    assert_eq!(sqs.visible("q", NOON + Duration::hours(24)).unwrap().count(), 0, "retention");
    assert_eq!(sqs.receive("x", 1, NOON).unwrap_err().code, "QueueDoesNotExist");
}
