//! All histories near a plan.
