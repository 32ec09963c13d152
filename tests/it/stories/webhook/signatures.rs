//! The signature and its secret.

use crate::http::{Op, WEBHOOK_SECRET, WEBHOOK_SECRET_NAME, World};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use time::Duration;

use super::{QUEUED, SIGNED, details, front_door, post, request, signed, status};

/// `openssl dgst -sha256 -hmac rotated events/queued.json`
const SIGNED_ROTATED: &str = "sha256=7e4cc489399167b0678d3e4e609d25b36ae617eba2f760a5dae86f9750385e99";

#[tokio::test]
async fn what_openssl_signed_is_accepted_and_passed_on_to_the_byte() {
    let world = World::start();
    let door = front_door(&world);
    assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 202);
    {
        let bus = world.bus();
        let event = bus.events.last().expect("an event");
        assert_eq!((event.source.as_str(), event.detail_type.as_str()), ("github.com", "workflow_job"));
        assert_eq!(event.detail, QUEUED);
    }
    let mut encoded = post("workflow_job", SIGNED, &STANDARD.encode(QUEUED));
    encoded.is_base64 = true;
    assert_eq!(status(&door, &encoded).await, 202);
    let shouted = json!({ "X-GITHUB-EVENT": "workflow_job", "X-Hub-Signature-256": SIGNED });
    assert_eq!(status(&door, &request("POST", shouted, QUEUED)).await, 202);
    assert_eq!(details(&world), [QUEUED; 3]);
    world.finish();
}

#[tokio::test]
async fn one_bit_or_anything_else_wrong_with_the_signature_is_401() {
    let world = World::start();
    let door = front_door(&world);
    let digits = &SIGNED["sha256=".len()..];
    let wrong = [
        String::new(),
        "sha256=".to_owned(),
        SIGNED[..SIGNED.len() - 1].to_owned(),
        format!("{SIGNED}0"),
        format!("sha1={digits}"),
        digits.to_owned(),
        SIGNED.replace('7', "g"),
        SIGNED.replacen('7', "6", 1),
        SIGNED_ROTATED.to_owned(),
    ];
    for signature in wrong {
        let answer = door.answer(&post("workflow_job", &signature, QUEUED)).await;
        assert_eq!(answer.status, 401, "{signature}");
    }
    let changed = QUEUED.replacen("queued", "queuee", 1);
    assert_eq!(status(&door, &post("workflow_job", SIGNED, &changed)).await, 401);
    let unsigned = request("POST", json!({ "x-github-event": "workflow_job" }), QUEUED);
    assert_eq!(status(&door, &unsigned).await, 401);
    assert_eq!(details(&world), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn every_bit_of_the_signature_counts_and_every_byte_of_the_body() {
    let world = World::start();
    let door = front_door(&world);
    let digits = &SIGNED.as_bytes()["sha256=".len()..];
    for bit in 0..256 {
        let mut changed = digits.to_vec();
        let digit = char::from(changed[bit / 4]).to_digit(16).expect("a digit") ^ (1 << (bit % 4));
        changed[bit / 4] = b"0123456789abcdef"[digit as usize];
        let signature = format!("sha256={}", String::from_utf8(changed).expect("digits"));
        assert_eq!(status(&door, &post("workflow_job", &signature, QUEUED)).await, 401, "bit {bit}");
    }
    for byte in (0..QUEUED.len()).step_by(31) {
        let mut changed = QUEUED.as_bytes().to_vec();
        changed[byte] ^= 1 << (byte % 8);
        let mut request = post("workflow_job", SIGNED, &STANDARD.encode(changed));
        request.is_base64 = true;
        assert_eq!(status(&door, &request).await, 401, "byte {byte}");
    }
    assert_eq!(details(&world), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn a_secret_that_was_taken_out_ends_within_minutes() {
    let world = World::start();
    let door = front_door(&world);
    let (old, new) = (post("workflow_job", SIGNED, QUEUED), post("workflow_job", SIGNED_ROTATED, QUEUED));
    let both = json!({ "current": "rotated", "previous": WEBHOOK_SECRET }).to_string();
    world.secrets().set(WEBHOOK_SECRET_NAME, &both);
    assert_eq!(status(&door, &old).await, 202);
    world.secrets().set(WEBHOOK_SECRET_NAME, "rotated");
    world.advance(Duration::seconds(299));
    assert_eq!(status(&door, &old).await, 202);
    // While Secrets Manager is away, what is known counts; not for longer.
    world.advance(Duration::seconds(2));
    world.fail(Op::GetSecretValue).once().before().status(500);
    assert_eq!(status(&door, &old).await, 202);
    let reads = world.calls().count(Op::GetSecretValue);
    world.advance(Duration::seconds(59));
    assert_eq!(status(&door, &old).await, 202);
    assert_eq!(
        world.calls().count(Op::GetSecretValue),
        reads,
        "a read may take long, and deliveries wait for it"
    );
    world.advance(Duration::seconds(2));
    assert_eq!(status(&door, &old).await, 401);
    assert_eq!(world.calls().count(Op::GetSecretValue), reads + 1, "read once, not twice");
    assert_eq!(status(&door, &new).await, 202);
    assert_eq!(status(&door, &old).await, 401);
    world.finish();
}

#[tokio::test]
async fn a_rotation_needs_no_restart() {
    let world = World::start();
    let door = front_door(&world);
    let (old, new) = (post("workflow_job", SIGNED, QUEUED), post("workflow_job", SIGNED_ROTATED, QUEUED));
    assert_eq!((status(&door, &old).await, status(&door, &new).await), (202, 401));

    let both = json!({ "current": "rotated", "previous": WEBHOOK_SECRET }).to_string();
    world.secrets().set(WEBHOOK_SECRET_NAME, &both);
    world.advance(Duration::seconds(61));
    assert_eq!((status(&door, &new).await, status(&door, &old).await), (202, 202));

    world.secrets().set(WEBHOOK_SECRET_NAME, "rotated");
    world.advance(Duration::seconds(61));
    // Only a signature that fits nothing has the secret read again.
    assert_eq!(status(&door, &signed("ping", "{}")).await, 200, "the removed secret is still known");
    assert_eq!(status(&door, &post("ping", "sha256=", "{}")).await, 401);
    assert_eq!((status(&door, &old).await, status(&door, &new).await), (401, 202));
    world.finish();
}

#[tokio::test]
async fn nobody_can_make_it_hammer_secrets_manager() {
    let world = World::start();
    let door = front_door(&world);
    for _ in 0..50 {
        assert_eq!(status(&door, &post("workflow_job", SIGNED_ROTATED, QUEUED)).await, 401);
        world.advance(Duration::seconds(1));
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1);

    let world = World::start();
    let door = front_door(&world);
    world.secrets().set(WEBHOOK_SECRET_NAME, "{}");
    for _ in 0..20 {
        assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 503);
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1, "not even while there is no secret");
    world.secrets().set(WEBHOOK_SECRET_NAME, WEBHOOK_SECRET);
    world.advance(Duration::seconds(3));
    assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 202);
    world.finish();
}
