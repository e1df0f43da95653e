//! The suite again for processors that have less than this one.

use super::gpu;
use crate::training::kernels::channels_last::FEWER_INSTRUCTIONS;
use crate::training::kernels::{Instructions, instructions};

/// Whether this process was told to do with fewer instructions than there are.
pub(super) fn told() -> bool {
    std::env::var_os(FEWER_INSTRUCTIONS).is_some()
}

#[test]
fn code_for_fewer_instructions_passes_the_same_suite() {
    if told() || gpu().is_some() {
        return; // This is an inner run.
    }
    let all = [
        ("portable", Instructions::Portable),
        #[cfg(target_arch = "x86_64")]
        ("avx2", Instructions::Avx2),
    ];
    for (name, _) in all.into_iter().filter(|&(_, fewer)| fewer < instructions()) {
        // A process of its own: the choice is made once, and other tests compare bits meanwhile.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["training::kernels::tests", "--test-threads=2"])
            .env(FEWER_INSTRUCTIONS, name)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("test result: ok"), "{name}: {text}");
        assert!(!text.contains(" 0 passed"), "{name}: nothing ran: {text}");
    }
}
