//! What is deployed names no version of the runner that GitHub refuses one day, and tells when it is refused.

use std::{fs, path::Path};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

/// What follows each of `before` in a text.
fn after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(before).map(move |(at, _)| &text[at + before.len()..])
}

#[test]
fn no_runner_has_an_expiry_date() {
    let (template, dockerfile) = (read("template.yaml"), read("image/Dockerfile"));
    let mut tags = 0;
    for rest in after(&template, "actions/actions-runner:").chain(after(&dockerfile, "ARG RUNNER_VERSION=")) {
        assert!(rest.starts_with("latest"), "{}", &rest[..20]);
        tags += 1;
    }
    assert!(tags >= 2, "the image is named in another way");
    assert!(dockerfile.contains("ARG RUNNER_IMAGE=ghcr.io/actions/actions-runner\n"));
    let runners: Vec<&str> =
        after(&dockerfile, "\nFROM ").filter(|image| !image.starts_with("rust:")).collect();
    assert!(
        runners.len() == 2 && runners.iter().all(|it| it.starts_with("${RUNNER_IMAGE}:${RUNNER_VERSION}"))
    );
}

#[test]
fn a_refused_version_has_an_exit_code() {
    const NAME: &str = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE";
    let template = read("template.yaml");
    // Once for the containers that mint their own configuration, once for those that are given one; the ARM64
    // definition has the same containers.
    assert_eq!(after(&template, NAME).filter(|rest| rest.starts_with(", Value: '1'")).count(), 1);
    assert_eq!(after(&template, "- &exit7 ").count() + after(&template, "- *exit7\n").count(), 2);
    assert_eq!(after(&template, "ContainerDefinitions: *containers").count(), 1);
    assert!(read("image/Dockerfile").contains(&format!("ENV {NAME}=1\n")));
}
