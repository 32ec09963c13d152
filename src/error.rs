//! What went wrong in a call, and when it may be tried again: the class is a type, never a text.

use std::time::Duration;

/// When, and whether, a failed call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It will pass (throttling, a server error, a broken connection), and the call certainly had no
    /// effect, or an effect that a repetition cannot double.
    Transient,
    /// As [`Class::Transient`], but nobody knows whether the call had its effect: the answer was lost.
    Unknown,
    /// GitHub's primary or secondary rate limit. Until then no call of the kind may be made.
    RateLimited {
        /// How long GitHub asked to wait.
        after: Duration,
    },
    /// This capacity provider has nothing to give at the moment; another one may.
    NoCapacity,
    /// The account's quota for this capacity provider is used up: another one may have some left, and somebody should
    /// ask for more.
    OverQuota,
    /// Somebody has to repair the installation: credentials, permissions, names. The message says what.
    NeedsOperator,
    /// The request itself can never succeed, however often it is repeated.
    Invalid,
}

/// A failed call to GitHub or AWS. The message is for the operator's log: it names the call, the answer's
/// code and the fix, and never holds a secret, a payload or a whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// Retry when, or never.
    pub class: Class,
    /// What happened, and how to mend it.
    pub message: String,
}

impl CallError {
    /// An error of the given class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        CallError { class, message: message.into() }
    }
}
