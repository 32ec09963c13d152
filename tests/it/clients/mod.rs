//! The adapters: as whom they ask, how often, whom they trust, and what they make of what is answered.

mod answers;
mod aws;
mod connections;
mod corpus;
mod credentials;
mod endings;
mod github;
mod limits;
mod openapi;
mod outside;
mod server;
mod tls;
