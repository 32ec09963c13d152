//! `runner-init` as real processes, against a small GitHub and scripts in the runner's place.

mod container;
mod ends;
mod github;
mod image;
mod runners;
mod secrecy;
mod secrets;
