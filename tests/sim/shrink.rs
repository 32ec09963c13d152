//! The shortest history that still fails.
