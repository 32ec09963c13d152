//! All tests that use the library from outside, in one binary, so that the world is compiled once.
//!
//! | folder | what is in it |
//! | --- | --- |
//! | [`model`] | GitHub, ECS, SQS and EventBridge as machines: no I/O, no clock |
//! | [`http`] | the model behind the real clients: one server, with faults |
//! | [`sim`] | the simulator: the flows over their ports, a virtual clock, chance and checks |
//! | [`stories`] | the flows, told over real HTTP |
//! | [`clients`] | the adapters, and whatever may be answered to them |
//! | [`house`] | the rules of the house: layers, and functions that fit on a screen |
//! | [`intake`] | what comes from outside, changed at random |
//! | [`runner_init`] | the container's program, as processes |
//! | [`runner_labels`] | the linter of workflow files, as a process |
//! | [`settings`] | the documented variables, what is read, and what template.yaml sets |
//! | [`cold_start`] | the functions' programs: instructions and size |
#![forbid(unsafe_code)]

mod changes;
mod clients;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cold_start;
mod fleet;
mod house;
mod http;
mod intake;
mod log;
mod model;
mod runner_init;
mod runner_labels;
mod settings;
#[allow(dead_code, reason = "the program of `make sim` uses the rest")]
mod sim;
mod stories;
