//! The promise, tried: every history near a few small plans, with everything that can go wrong in it.
#![forbid(unsafe_code)]

mod sim;

use sim::{explore, scenarios};

#[test]
fn nothing_that_goes_wrong_breaks_the_promise() {
    let mut histories = 0;
    for scenario in scenarios::all(false) {
        let (tried, failing) = explore::shortest(&scenario);
        histories += tried;
        if let Some(failing) = failing {
            panic!("{}:\n{}", scenario.name, failing.story());
        }
    }
    println!("{histories} histories");
    assert!(histories > 10_000, "only {histories} histories were tried");
}
