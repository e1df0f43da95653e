//! The plug pulled at every step of every verb.

use super::*;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_crash_at_any_step_leaves_the_old_or_the_new_student() {
    let mut crashes = 0;
    for verb in ["stage", "activate", "confirm", "rollback"] {
        for steps in 0.. {
            let bench = Bench::new();
            let slots = bench.slots().await;
            bench.ship(&slots, "one").await;
            if verb != "stage" {
                bench.stage(&slots, "two").await.unwrap();
            }
            if verb == "confirm" || verb == "rollback" {
                bench.activate(&slots).await.unwrap();
            }
            let plug = Arc::clone(&slots.0.lock().disk().steps_left);
            let other = Arc::clone(&slots.0.disk.steps_left);
            for plug in [&plug, &other] {
                plug.store(steps, Ordering::Relaxed);
            }
            let result = match verb {
                "stage" => bench.stage(&slots, "two").await,
                "activate" => bench.activate(&slots).await,
                "confirm" => bench.confirm(&slots).await,
                _ => slots.rollback(None).await,
            };
            let done =
                result.is_ok() && plug.load(Ordering::Relaxed) > 0 && other.load(Ordering::Relaxed) > 0;
            drop(slots);

            let slots = bench.slots().await;
            let status = slots.status();
            let active =
                status.active.clone().unwrap_or_else(|| panic!("nothing runs after {verb}, step {steps}"));
            bench.runs(&slots, &active.name);
            assert!(active.verified_at > 0);
            assert_eq!(status.trial, None);
            if verb != "confirm" {
                assert_eq!(active.name, "one", "{verb}, step {steps}: unconfirmed");
            }
            if result.is_ok() {
                let expected = if verb == "confirm" { "two" } else { "one" };
                assert_eq!(active.name, expected, "{verb}, step {steps}");
            }
            // And the board is as usable as ever.
            bench.ship(&slots, "three").await;
            bench.runs(&slots, "three");
            if done {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 20, "only {crashes} crashes were tried");
}
