//! The simulator: the project's own flows, over their ports, in a simulated world of GitHub, EventBridge, SQS, ECS
//! and Lambda with a virtual clock. Everything that can go wrong is a decision with a name ([`chance::Key`]); a
//! history is a plan of jobs and the decisions that were not the default, and the same of both gives the same
//! history to the byte. GitHub, ECS and SQS are the [`model`](crate::model) that the stories over HTTP have.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`chance`] | decisions: by seed, by script, and written down |
//! | [`plan`] | which jobs come, and when |
//! | [`rates`] | what other fleets have met, and how often it comes |
//! | [`books`] | what is known of jobs, registrations and tasks besides what the model knows |
//! | [`world`] | the clock, the events to come, and what is done about each |
//! | [`jobs`], [`tasks`], [`messages`] | what jobs, tasks and messages do |
//! | [`classes`] | runner classes: their document, their instances, and what is measured of them |
//! | [`runs`], [`wrong_reruns`] | runs of several jobs, jobs that run again, and faults planted in that |
//! | [`containers`] | container-minted: what the containers do, by the decisions of `runner-init` |
//! | [`text`] | facts as texts: times, labels, ARNs, payloads |
//! | [`calls`] | what a call of a port does to the world, and what it answers |
//! | [`forms`] | facts in the library's own types |
//! | [`ports`] | the library's ports, each call a point where the process can die or the answer be lost |
//! | [`lambda`] | the functions, their invocations, and the loop |
//! | [`check`], [`letters`] | what must hold at every step, and at the end |
//! | [`older`] | functions of the release before beside this one's |
//! | [`planted`], [`faults`] | faults planted on purpose, each of which the checks must catch |
//! | [`scenes`] | what classes promise, tried in long histories |
//! | [`scenarios`], [`explore`] | small plans, and all histories near them |
//! | [`shrink`] | the shortest history that still fails, as a story |
//! | [`report`] | the table, the plot and the costs |
pub mod books;
pub mod calls;
pub mod chance;
pub mod check;
pub mod classes;
pub mod containers;
pub mod explore;
pub mod faults;
pub mod forms;
pub mod jobs;
pub mod lambda;
pub mod letters;
pub mod messages;
pub mod older;
pub mod plan;
pub mod planted;
pub mod ports;
pub mod rates;
pub mod report;
pub mod requests;
pub mod runs;
pub mod scenarios;
pub mod scenes;
pub mod shrink;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod text;
pub mod world;
pub mod wrong_reruns;

/// Milliseconds since the history began.
pub type Ms = u64;

/// Milliseconds of a second.
pub const SECOND: Ms = 1_000;
/// Milliseconds of a minute.
pub const MINUTE: Ms = 60 * SECOND;
/// Milliseconds of an hour.
pub const HOUR: Ms = 60 * MINUTE;
