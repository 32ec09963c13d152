//! What the author of a job reads: Markdown, with nothing from outside in it but as code.

use crate::{
    intake::notice::What,
    ports::{Page, State},
    protocol::rerun::matrix,
};

/// A check's name is one line.
const LONGEST_NAME: usize = 120;
/// Of a reason, a label or a job's name.
const LONGEST_TEXT: usize = 400;
/// Jobs that are listed.
const MOST_JOBS: usize = 100;
/// Labels that are listed.
const MOST_LABELS: usize = 30;

const LABELS: &str = "| label | meaning |\n| --- | --- |\n\
    | `cpu=2`, `ram=8`, `disk=50` | vCPU, GiB of memory, GiB of disk: rounded up to a size that Fargate has |\n\
    | `x64`, `arm64` | the processor |\n\
    | `spot`, `on-demand` | the capacity |\n\
    | `run=…`, `job=…` | anything: no other job gets this runner |\n";

/// The name of the check: one for a job, or for all jobs of a matrix that ask for the same.
pub(crate) fn name(job: &str, labels: &[String]) -> String {
    let job = matrix(job).unwrap_or(job);
    let name = format!("Runner for {job} ({})", labels.join(", "));
    name.chars().map(|c| if is_visible(c) { c } else { ' ' }).take(LONGEST_NAME).collect()
}

/// The page. `jobs` are those that it is about.
pub(crate) fn of(what: What, why: &str, labels: &[String], jobs: &[String], link: Option<String>) -> Page {
    let (state, title, lead, helps) = match what {
        What::Rejected => (
            State::Failed,
            "No runner can be started for it",
            "This fleet cannot give what is asked for, and nobody else is asked: the job waits in vain, until GitHub fails \
             it after a day. Cancel the run, and mend `runs-on:`.",
            true,
        ),
        What::GivenUp => (
            State::Failed,
            "No runner came up for it",
            "Those who run this fleet find the job among the dead letters, and can have it served once that is mended. Until \
             then it waits, and GitHub fails it after a day.",
            false,
        ),
        What::Slip => (
            State::Neutral,
            "No fleet may have such labels",
            "One of the labels reads like a slip of the pen. If so, the job waits in vain, until GitHub fails it after a \
             day: cancel the run, and mend `runs-on:`. If another fleet has that label, all is well.",
            true,
        ),
        What::Waiting => (
            State::Waits,
            "It waits for a runner",
            "The job is this fleet's, and starts by itself as soon as that is over. There is nothing for you to do.",
            false,
        ),
        What::Started => {
            (State::Well, "It has waited, and waits no more", "Nothing waits for a runner any more.", false)
        }
        What::Interrupted => (
            State::Neutral,
            "Its runner was taken back",
            "Fargate Spot took the runner back while the job ran: what failed there is no fault of the job's. A job with \
             the label `on-demand` is not interrupted.",
            false,
        ),
    };
    let mut summary = format!("{lead}\n");
    if !why.is_empty() {
        summary += &format!("\n**Why:** {}\n", code(why));
    }
    if !labels.is_empty() && what != What::Started {
        let shown: Vec<String> = labels.iter().take(MOST_LABELS).map(|label| code(label)).collect();
        summary += &format!("\n**Labels:** {}\n", shown.join(" "));
    }
    if !jobs.is_empty() {
        summary += &listed(jobs);
    }
    if helps {
        summary += &format!("\n{LABELS}");
    }
    Page { state, title: title.to_owned(), summary, link }
}

fn listed(jobs: &[String]) -> String {
    let mut list = format!("\n**Jobs:** {}\n\n", jobs.len());
    list.extend(jobs.iter().take(MOST_JOBS).map(|job| format!("- {}\n", code(job))));
    if jobs.len() > MOST_JOBS {
        list += &format!("- and {} more\n", jobs.len() - MOST_JOBS);
    }
    list
}

/// Text from outside, as code: GitHub makes no mention, link, emphasis, image or heading of what is in there, since
/// everything but letters of English and digits is written by its number.
fn code(text: &str) -> String {
    let mut shown = String::from("<code>");
    for c in text.chars().take(LONGEST_TEXT) {
        match c {
            c if c.is_ascii_alphanumeric() || c == ' ' => shown.push(c),
            c if is_visible(c) => shown += &format!("&#{};", u32::from(c)),
            _ => shown.push(' '),
        }
    }
    shown + "</code>"
}

/// Neither a control character nor one that turns text around or hides.
fn is_visible(c: char) -> bool {
    let is_format = matches!(u32::from(c),
        0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB
        | 0xE0000..=0xE007F);
    !c.is_control() && !is_format
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    const ALL: [What; 6] =
        [What::Rejected, What::GivenUp, What::Slip, What::Waiting, What::Started, What::Interrupted];

    /// What is left without the code.
    fn frame(text: &str) -> String {
        let mut left = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<code>") {
            let (inside, after) = after.split_once("</code>").expect("an end");
            let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
            for part in inside.split("&#") {
                let digits = part.split_once(';');
                let tail = digits.map_or(part, |(number, tail)| {
                    assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{inside}");
                    tail
                });
                assert!(is_plain(tail), "{inside}");
            }
            left += before;
            left += "<>";
            rest = after;
        }
        left + rest
    }

    proptest! {
        #[test]
        fn no_text_from_outside_is_markup(
            why in "\\PC{0,30}|.{0,30}|(?s).{0,500}|@octocat #1 \\[x\\]\\(https://evil.test\\) <img src=x> `</code>` \\| a",
            label in "(?s).{0,20}",
            jobs in prop::collection::vec("(?s).{0,20}", 0..130),
        ) {
            for what in ALL {
                let labels = [label.clone()];
                let plain: Vec<String> = jobs.iter().map(|_| "x".to_owned()).collect();
                let page = of(what, &why, &labels, &jobs, None);
                let why = if why.is_empty() { "" } else { "x" };
                let other = of(what, why, &["x".to_owned()], &plain, None);
                prop_assert_eq!(frame(&page.summary), frame(&other.summary));
                prop_assert_eq!(page.title, other.title);
                // "Maximum 65535 characters."
                prop_assert!(page.summary.chars().count() < 65_535);
                let name = name(&label, &labels);
                prop_assert!(name.chars().count() <= 120 && name.chars().all(is_visible), "{}", name);
            }
        }
    }

    #[test]
    fn a_page() {
        let labels = ["self-hosted".to_owned(), "cpu=64".to_owned()];
        let jobs = ["test (1)".to_owned(), "test (2, @octocat)".to_owned()];
        assert_eq!(name(&jobs[1], &labels), "Runner for test (self-hosted, cpu=64)");
        let page = of(What::Rejected, "Fargate has no size of 65536 CPU units", &labels, &jobs, None);
        expect![[r#"
            This fleet cannot give what is asked for, and nobody else is asked: the job waits in vain, until GitHub fails it after a day. Cancel the run, and mend `runs-on:`.

            **Why:** <code>Fargate has no size of 65536 CPU units</code>

            **Labels:** <code>self&#45;hosted</code> <code>cpu&#61;64</code>

            **Jobs:** 2

            - <code>test &#40;1&#41;</code>
            - <code>test &#40;2&#44; &#64;octocat&#41;</code>

            | label | meaning |
            | --- | --- |
            | `cpu=2`, `ram=8`, `disk=50` | vCPU, GiB of memory, GiB of disk: rounded up to a size that Fargate has |
            | `x64`, `arm64` | the processor |
            | `spot`, `on-demand` | the capacity |
            | `run=…`, `job=…` | anything: no other job gets this runner |
        "#]].assert_eq(&page.summary);
    }
}
