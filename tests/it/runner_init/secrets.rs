//! The two secrets of one test, unlike those of any other: tests run side by side and read all of `/proc`.

use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone)]
pub struct Secrets {
    pub token: String,
    pub jit_config: String,
}

impl Secrets {
    pub fn new() -> Secrets {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}x{}x", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Secrets { token: format!("ghp_Token{unique}"), jit_config: format!("SklUQ29uZmln{unique}") }
    }
}
