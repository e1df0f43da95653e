//! The suite again for processors that have less than this one.

use crate::training::kernels::channels_last::FEWER_INSTRUCTIONS;
use crate::training::kernels::{Instructions, instructions};

/// Tests that run tests: left out of the runs that they start.
pub(super) const OUTER: [&str; 2] = [
    "--skip=code_for_fewer_instructions_passes_the_same_suite",
    "--skip=an_emulated_gpu_passes_every_training_test",
];

#[test]
fn code_for_fewer_instructions_passes_the_same_suite() {
    let all = [
        ("portable", Instructions::Portable),
        #[cfg(target_arch = "x86_64")]
        ("avx2", Instructions::Avx2),
    ];
    for (name, _) in all.into_iter().filter(|&(_, fewer)| fewer < instructions()) {
        // A process of its own: the choice is made once, and other tests compare bits meanwhile.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["training::kernels::tests", "--test-threads=2"])
            .args(OUTER)
            .env(FEWER_INSTRUCTIONS, name)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("test result: ok"), "{name}: {text}");
        assert!(!text.contains(" 0 passed"), "{name}: nothing ran: {text}");
    }
}
