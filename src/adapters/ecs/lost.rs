//! A try of RunTask of which nobody knows what became, though the SDK was told of a later one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::super::{aws::classify, http::NoReply};
use crate::error::{CallError, Class};

/// Sees each try of one call. The SDK asks it whether to try again, on which it has no opinion: under the same
/// `clientToken` ECS tells of the task that it has.
#[derive(Debug, Clone, Default)]
pub(super) struct LostTry(Arc<AtomicBool>);

impl LostTry {
    /// What the last try was refused for says nothing of one that was lost: it may have started the task.
    pub(super) fn judge(&self, error: CallError) -> CallError {
        if error.class == Class::Unknown || !self.0.load(Relaxed) {
            return error;
        }
        CallError::new(Class::Unknown, format!("{}; a try before that got no answer", error.message))
    }
}

impl ClassifyRetry for LostTry {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        if is_lost(context) {
            self.0.store(true, Relaxed);
        }
        RetryAction::NoActionIndicated
    }

    fn name(&self) -> &'static str {
        "lost tries"
    }
}

fn is_lost(context: &InterceptorContext) -> bool {
    let Some(Err(error)) = context.output_or_error() else { return false };
    if let Some(error) = error.as_connector_error() {
        return !NoReply::of(error).is_unsent();
    }
    match error.as_operation_error().and_then(|error| error.downcast_ref::<RunTaskError>()) {
        Some(error) => {
            let status = context.response().map(|response| response.status().as_u16()).unwrap_or_default();
            let (code, text) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            classify(code, text, status, Class::Unknown) == Class::Unknown
        }
        // A time-out, or an answer that cannot be read.
        None => true,
    }
}
