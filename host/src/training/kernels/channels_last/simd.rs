//! Vectors of eight f32, and the choice at run time between AVX2 code and portable code.
//!
//! A kernel is written once over [`Lanes`]; another instruction set (AVX-512, NEON by hand) is one more
//! implementation here. No kernel names an intrinsic.
#![allow(unsafe_code)] // Intrinsics and raw loads: the point of this file.

/// Values in one vector.
pub(super) const LANES: usize = 8;

/// A vector of [`LANES`] f32.
///
/// # Safety
/// Every method is unsafe for one reason: the caller must run where the implementation's instructions exist, and the
/// pointers of loads and stores must cover the values that they name.
pub(super) trait Lanes: Copy {
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Eight values from `from`, unaligned.
    unsafe fn load(from: *const f32) -> Self;
    /// Eight values to `to`, unaligned.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn minus(self, other: Self) -> Self;
    /// `self + a * b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// Clips to `low..=high`; not-a-number stays what it is, so that a divergence is seen.
    unsafe fn clip(self, low: Self, high: Self) -> Self;
    /// The first `count < LANES` values from `from`, the rest zero.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut whole = [0.0f32; LANES];
        // SAFETY: the caller says that `from` covers `count` values, and `count` is below LANES.
        unsafe {
            copy_few(from, whole.as_mut_ptr(), count);
            Self::load(whole.as_ptr())
        }
    }
    /// The first `count < LANES` values to `to`.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mut whole = [0.0f32; LANES];
        // SAFETY: the caller says that `to` covers `count` values, and `count` is below LANES.
        unsafe {
            self.store(whole.as_mut_ptr());
            copy_few(whole.as_ptr(), to, count);
        }
    }
}

/// Copies fewer than eight values in pieces of 4, 2 and 1: a call to memcpy would spill every vector register.
///
/// # Safety
/// Both pointers cover `count` values.
#[inline(always)]
unsafe fn copy_few(from: *const f32, to: *mut f32, count: usize) {
    let mut done = 0;
    // SAFETY: the pieces add up to `count`.
    unsafe {
        if count & 4 != 0 {
            to.cast::<[f32; 4]>().write_unaligned(from.cast::<[f32; 4]>().read_unaligned());
            done = 4;
        }
        if count & 2 != 0 {
            to.add(done)
                .cast::<[f32; 2]>()
                .write_unaligned(from.add(done).cast::<[f32; 2]>().read_unaligned());
            done += 2;
        }
        if count & 1 != 0 {
            to.add(done).write(from.add(done).read());
        }
    }
}

/// Plain code; LLVM makes NEON of it on aarch64 and SSE2 on old x86-64.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller says that `from` covers LANES values.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller says that `to` covers LANES values.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }
    #[inline(always)]
    unsafe fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            // Where the instruction set has no fused multiply-add, `mul_add` is a slow library call.
            if cfg!(target_arch = "aarch64") {
                a.0[lane].mul_add(b.0[lane], self.0[lane])
            } else {
                self.0[lane] + a.0[lane] * b.0[lane]
            }
        }))
    }
    #[inline(always)]
    unsafe fn clip(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|lane| clip(self.0[lane], low.0[lane], high.0[lane])))
    }
}

/// Clips to `low..=high`; not-a-number stays what it is.
#[inline(always)]
pub(super) fn clip(value: f32, low: f32, high: f32) -> f32 {
    let value = if low > value { low } else { value };
    if high < value { high } else { value }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
        _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps,
    };

    use super::Lanes;

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    // SAFETY of every block below: the caller runs inside a function with the features avx2 and fma (see `Lanes`).
    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn minus(self, other: Self) -> Self {
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }
        #[inline(always)]
        unsafe fn clip(self, low: Self, high: Self) -> Self {
            // Both instructions give their second operand when one is not a number.
            Self(unsafe { _mm256_min_ps(high.0, _mm256_max_ps(low.0, self.0)) })
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

/// Whether this processor runs the AVX2 code.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> bool {
    #[cfg(test)]
    if portable_is_forced() {
        return false;
    }
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Variable that makes a test process run the portable code.
#[cfg(test)]
pub(crate) const FORCE_PORTABLE: &str = "N2N_TEST_PORTABLE";

#[cfg(all(test, target_arch = "x86_64"))]
fn portable_is_forced() -> bool {
    static FORCED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FORCED.get_or_init(|| std::env::var_os(FORCE_PORTABLE).is_some())
}

/// Compiles a plain loop twice, for the baseline and for AVX2, and picks at run time.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::inline_always)]
        $vis fn $name($($arg: $kind),*) {
            #[inline(always)]
            fn body($($arg: $kind),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $kind),*) {
                    body($($arg),*);
                }
                if $crate::training::kernels::simd_available() {
                    // SAFETY: the features that `wide` needs were just detected.
                    return unsafe { wide($($arg),*) };
                }
            }
            #[allow(unreachable_code)]
            body($($arg),*);
        }
    };
}
pub(crate) use vectorised;

/// Defines an unsafe function that runs a kernel over the [`Lanes`] of this processor, chosen at run time.
macro_rules! by_processor {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $kind:ty),* $(,)?) => $kernel:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                unsafe fn wide($($arg: $kind),*) {
                    // SAFETY: the caller's promise; the features are this function's.
                    unsafe { $kernel::<super::simd::Avx2>($($arg),*) }
                }
                if super::simd::available() {
                    // SAFETY: the features were just detected; the rest is the caller's promise.
                    return unsafe { wide($($arg),*) };
                }
            }
            #[allow(unreachable_code)]
            // SAFETY: the caller's promise.
            unsafe {
                $kernel::<super::simd::Portable>($($arg),*);
            }
        }
    };
}
pub(super) use by_processor;
