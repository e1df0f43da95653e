//! Vectors of f32, and the choice at run time between AVX-512, AVX2 and portable code.
//!
//! A kernel is written once over [`Lanes`]; another instruction set (NEON by hand) is one more implementation here. No
//! kernel names an intrinsic.
#![allow(unsafe_code)] // Intrinsics and raw loads: the point of this file.

use std::sync::OnceLock;

/// Instructions that kernels are compiled for, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instructions {
    /// What the target has at the least: NEON on 64-bit ARM, SSE2 on x86-64.
    Portable,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 as all processors since Skylake-X and Zen 4 have it.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl std::fmt::Display for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Portable => std::env::consts::ARCH,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
        })
    }
}

/// The best that this processor has.
#[inline]
pub(crate) fn instructions() -> Instructions {
    static BEST: OnceLock<Instructions> = OnceLock::new();
    *BEST.get_or_init(|| {
        let best = detected();
        #[cfg(test)]
        let best = best.min(most_allowed());
        best
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Instructions {
    Instructions::Portable
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Instructions {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma")) {
        Instructions::Portable
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
        Instructions::Avx512
    } else {
        Instructions::Avx2
    }
}

/// Variable that makes a test process do with fewer instructions: `portable` or `avx2`.
#[cfg(test)]
pub(crate) const FEWER_INSTRUCTIONS: &str = "N2N_TEST_INSTRUCTIONS";

#[cfg(test)]
fn most_allowed() -> Instructions {
    match std::env::var(FEWER_INSTRUCTIONS).as_deref() {
        Ok("portable") => Instructions::Portable,
        #[cfg(target_arch = "x86_64")]
        Ok("avx2") => Instructions::Avx2,
        Ok(other) => panic!("{FEWER_INSTRUCTIONS}: expected portable or avx2, got {other}"),
        Err(_) => detected(),
    }
}

/// Values in one vector of this processor's [`instructions`]: [`Lanes::COUNT`] of what [`by_processor`] chooses.
#[inline]
pub(super) fn lanes() -> usize {
    match instructions() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => x86::Avx512::COUNT,
        _ => Portable::COUNT,
    }
}

/// A vector of f32.
///
/// # Safety
/// Every method is unsafe for one reason: the caller must run where the implementation's instructions exist, and the
/// pointers of loads and stores must cover the values that they name.
pub(super) trait Lanes: Copy {
    /// Output channels in a vector: 8 or 16.
    const COUNT: usize;
    /// Vectors that the processor holds in registers.
    const REGISTERS: usize;
    /// Steps of a sum of products that one multiplication takes: 2 in [`Lanes::Pairs`].
    const STEPS: usize = 1;
    /// Vectors of half as many channels, for each of which two lanes take turns at the steps of its sum; the same as
    /// `Self` where there is nothing to gain.
    type Pairs: Lanes;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// A vector from `from`, unaligned.
    unsafe fn load(from: *const f32) -> Self;
    /// A vector to `to`, unaligned.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn minus(self, other: Self) -> Self;
    /// `self + a * b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// Clips to `low..=high`; not-a-number stays what it is, so that a divergence is seen.
    unsafe fn clip(self, low: Self, high: Self) -> Self;
    /// For every channel, the next [`Lanes::STEPS`] values from `from`.
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(*from) }
    }
    /// For every channel, its weights of [`Lanes::STEPS`] steps.
    #[inline(always)]
    unsafe fn load_weights(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(from) }
    }
    /// A vector from `from`, for each of [`Lanes::STEPS`] steps the same.
    #[inline(always)]
    unsafe fn load_for_steps(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(from) }
    }
    /// What was computed for one of [`Lanes::STEPS`] steps, as a vector to store.
    #[inline(always)]
    unsafe fn of_step(self, _step: usize) -> Self {
        self
    }
    /// Sums over the steps that were taken apart.
    #[inline(always)]
    unsafe fn summed(self) -> Self {
        self
    }
    /// The first `count < COUNT` values from `from`, the rest zero.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// The first `count < COUNT` values to `to`.
    unsafe fn store_first(self, to: *mut f32, count: usize);
}

/// Vectors of eight have no masks: the first few go through memory.
macro_rules! eight_by_copies {
    () => {
        const COUNT: usize = 8;
        const REGISTERS: usize = 16;
        type Pairs = Self;
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            let mut whole = [0.0f32; Self::COUNT];
            // SAFETY: the caller says that `from` covers `count` values, and `count` is below eight.
            unsafe {
                copy_few(from, whole.as_mut_ptr(), count);
                Self::load(whole.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            let mut whole = [0.0f32; Self::COUNT];
            // SAFETY: the caller says that `to` covers `count` values, and `count` is below eight.
            unsafe {
                self.store(whole.as_mut_ptr());
                copy_few(whole.as_ptr(), to, count);
            }
        }
    };
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
pub(super) struct Portable([f32; 8]);

impl Lanes for Portable {
    eight_by_copies!();
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller says that `from` covers eight values.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller says that `to` covers eight values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
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
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
        _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_castpd_ps,
        _mm512_castps256_ps512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_compress_ps, _mm512_maskz_expand_ps, _mm512_maskz_loadu_ps, _mm512_max_ps,
        _mm512_min_ps, _mm512_permute_ps, _mm512_permutexvar_ps, _mm512_set1_pd, _mm512_set1_ps,
        _mm512_setr_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::{Lanes, copy_few};

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    // SAFETY of every block below: the caller runs inside a function with the features avx2 and fma (see `Lanes`).
    impl Lanes for Avx2 {
        eight_by_copies!();
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

    /// What is the same in sixteen lanes, whatever they stand for.
    macro_rules! sixteen_lanes {
        () => {
            const REGISTERS: usize = 32;
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                Self(unsafe { _mm512_set1_ps(value) })
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                Self(unsafe { _mm512_add_ps(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn minus(self, other: Self) -> Self {
                Self(unsafe { _mm512_sub_ps(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
            }
            #[inline(always)]
            unsafe fn clip(self, low: Self, high: Self) -> Self {
                // As AVX2's.
                Self(unsafe { _mm512_min_ps(high.0, _mm512_max_ps(low.0, self.0)) })
            }
        };
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY of every block below: the caller runs inside a function with the feature avx512f (see `Lanes`); a masked
    // load or store touches only the lanes of its mask.
    impl Lanes for Avx512 {
        sixteen_lanes!();
        const COUNT: usize = 16;
        type Pairs = Avx512Pairs;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, from) })
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, (1 << count) - 1, self.0) }
        }
    }

    /// Eight channels in AVX-512: a channel's value is in its even lane, or is the sum of its two.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512Pairs(__m512);

    /// The even lanes.
    const EVEN: u16 = 0x5555;

    // SAFETY of every block below: as for Avx512.
    impl Lanes for Avx512Pairs {
        sixteen_lanes!();
        const COUNT: usize = 8;
        const STEPS: usize = 2;
        type Pairs = Self;
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self::load_first(from, 8) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { self.store_first(to, 8) }
        }
        #[inline(always)]
        unsafe fn broadcast(from: *const f32) -> Self {
            Self(unsafe { _mm512_castpd_ps(_mm512_set1_pd(from.cast::<f64>().read_unaligned())) })
        }
        #[inline(always)]
        unsafe fn load_weights(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_for_steps(from: *const f32) -> Self {
            let twice = unsafe { _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7) };
            Self(unsafe { _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(from))) })
        }
        #[inline(always)]
        unsafe fn of_step(self, step: usize) -> Self {
            // Of the second step, the odd lanes' values in the even ones.
            Self(unsafe { if step == 0 { self.0 } else { _mm512_permute_ps::<0b10_11_00_01>(self.0) } })
        }
        #[inline(always)]
        unsafe fn summed(self) -> Self {
            unsafe { self.plus(self.of_step(1)) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            unsafe {
                let values = _mm512_maskz_loadu_ps((1 << count) - 1, from);
                Self(_mm512_maskz_expand_ps(EVEN, values))
            }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            unsafe {
                let values = _mm512_maskz_compress_ps(EVEN, self.0);
                _mm512_mask_storeu_ps(to, (1 << count) - 1, values);
            }
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// Compiles a plain loop for each of [`Instructions`], and picks at run time.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::inline_always)]
        $vis fn $name($($arg: $kind),*) {
            #[inline(always)]
            fn body($($arg: $kind),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::training::kernels::{Instructions, instructions};
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $kind),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn widest($($arg: $kind),*) {
                    body($($arg),*);
                }
                match instructions() {
                    // SAFETY: the features that each needs were detected.
                    Instructions::Avx512 => return unsafe { widest($($arg),*) },
                    // SAFETY: as above.
                    Instructions::Avx2 => return unsafe { wide($($arg),*) },
                    Instructions::Portable => {}
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
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                unsafe fn widest($($arg: $kind),*) {
                    // SAFETY: as above.
                    unsafe { $kernel::<super::simd::Avx512>($($arg),*) }
                }
                match super::simd::instructions() {
                    // SAFETY: the features were detected; the rest is the caller's promise.
                    super::simd::Instructions::Avx512 => return unsafe { widest($($arg),*) },
                    // SAFETY: as above.
                    super::simd::Instructions::Avx2 => return unsafe { wide($($arg),*) },
                    super::simd::Instructions::Portable => {}
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
