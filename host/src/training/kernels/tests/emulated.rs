//! A GPU for the tests: a real one if `N2N_TEST_GPU` is set, which an emulated one is to the process that has it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::fewer_instructions::OUTER;
use crate::training::kernels::{Gpu, Precision};

/// Variable that makes the tests use the first GPU, and fail without.
const USE_GPU: &str = "N2N_TEST_GPU";

/// The GPU to test, if there is to be one.
pub(in crate::training) fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| std::env::var_os(USE_GPU).map(|_| Gpu::open(0, Precision::F32).unwrap())).as_ref()
}

/// EMULATED: what NVIDIA's libraries would do, done by the CPU (`tests/emulated/cuda`). It says that kernels and calls
/// are right; nothing about time, nor about how real hardware rounds or reorders.
#[test]
fn an_emulated_gpu_passes_every_training_test() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/emulated/cuda");
    let libraries = tempfile::tempdir().unwrap();
    let built = Command::new("bash").arg(source.join("build")).arg(libraries.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(std::env::current_exe().unwrap())
        // The emulated compiler stands in for NVIDIA's and cannot be asked in its place.
        .args(["training::", "--include-ignored", "--skip=nvidias_compiler", "--test-threads=2"])
        .args(OUTER)
        .env(USE_GPU, "1")
        .env("LD_LIBRARY_PATH", libraries.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("test result: ok"), "{text}");
    assert!(text.contains("a_gpu_trains_as_the_cpu_does ... ok"), "the GPU was not tested: {text}");
}
