//! A document that somebody may change at any time.

use std::fmt;

use futures_util::future::LocalBoxFuture;

use crate::error::CallError;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The same as what was known.
    Same,
    /// This text, and the mark by which it is known again.
    New {
        /// The document.
        text: String,
        /// `ETag`.
        mark: Option<String>,
    },
}

/// Where a document lies. (Boxed: most stacks have none, and none of their calls are the larger for it.)
pub trait DocumentSource: fmt::Debug {
    /// GetObject, unless it is the one with that mark.
    fn fetch<'a>(&'a self, known: Option<&'a str>) -> LocalBoxFuture<'a, Result<Fetched, CallError>>;
}
