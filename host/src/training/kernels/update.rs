//! One optimiser step: the rules, and on a CPU the passes that follow them, in place and in one pass a variable.

use std::cell::RefCell;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use super::vectorised;

/// How a variable moves; all rates already have schedule and bias correction in them.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Momentum `v = momentum * v + g`; the step is along `v`, or with Nesterov along `g + momentum * v`.
    Momentum {
        /// Learning rate.
        rate: f32,
        /// Share of the old direction that stays.
        momentum: f32,
        /// Look ahead.
        nesterov: bool,
        /// Times the weight, added to the gradient.
        decay: f32,
    },
    /// Adam with its moments.
    Adam(AdamStep),
}

/// One Adam step. Shares come in pairs, since `1 - 0.999` in f32 is off in the fifth digit.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate over the first moment's bias correction.
    pub rate: f32,
    /// Share of the old first moment, and of the gradient.
    pub first: (f32, f32),
    /// Share of the old second moment, and of the gradient's square.
    pub second: (f32, f32),
    /// One over the root of the second moment's bias correction.
    pub root_correction: f32,
    /// Added to the root.
    pub epsilon: f32,
    /// Times the weight, added to the gradient (Adam).
    pub decay: f32,
    /// What the weight is multiplied by first (AdamW); 1 for none.
    pub shrink: f32,
}

impl Rule {
    /// The rule for a variable that weight decay does not apply to.
    #[must_use]
    pub fn without_decay(self) -> Self {
        match self {
            Self::Momentum { rate, momentum, nesterov, .. } => {
                Self::Momentum { rate, momentum, nesterov, decay: 0.0 }
            }
            Self::Adam(step) => Self::Adam(AdamStep { decay: 0.0, shrink: 1.0, ..step }),
        }
    }
}

/// What an optimiser remembers of one variable on a CPU.
#[derive(Clone, Debug)]
pub struct HostMemory {
    /// Momentum or first moment.
    first: Vec<f32>,
    /// Second moment; unused by momentum.
    second: Vec<f32>,
}

impl HostMemory {
    pub(super) fn new(values: usize) -> Self {
        Self { first: vec![0.0; values], second: vec![0.0; values] }
    }

    /// Both moments of as many values.
    pub(super) fn of(first: Vec<f32>, second: Vec<f32>) -> Self {
        Self { first, second }
    }

    pub(super) fn moments(&self) -> [&[f32]; 2] {
        [&self.first, &self.second]
    }
}

vectorised! {
    fn momentum_pass(
        weight: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
        rate: f32,
        momentum: f32,
        nesterov: bool,
        decay: f32,
    ) {
        for ((weight, gradient), velocity) in weight.iter_mut().zip(gradient).zip(velocity) {
            let gradient = gradient + decay * *weight;
            *velocity = momentum * *velocity + gradient;
            let along = if nesterov { gradient + momentum * *velocity } else { *velocity };
            *weight -= rate * along;
        }
    }
}

vectorised! {
    fn adam_pass(weight: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], rule: &AdamStep) {
        let moments = first.iter_mut().zip(second);
        for ((weight, gradient), (first, second)) in weight.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient + rule.decay * *weight;
            *first = rule.first.0 * *first + rule.first.1 * gradient;
            *second = rule.second.0 * *second + rule.second.1 * gradient * gradient;
            let root = second.sqrt() * rule.root_correction + rule.epsilon;
            *weight = *weight * rule.shrink - rule.rate * *first / root;
        }
    }
}

/// The in-place operation: candle lends the variable's storage to change.
struct HostUpdate<'a> {
    rule: Rule,
    memory: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp2 for HostUpdate<'_> {
    fn name(&self) -> &'static str {
        "optimiser-update"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        at: &Layout,
        gradient: &CpuStorage,
        from: &Layout,
    ) -> Result<()> {
        let (Some((start, end)), Some((from_start, from_end))) =
            (at.contiguous_offsets(), from.contiguous_offsets())
        else {
            bail!("optimiser: expected a contiguous variable and gradient");
        };
        let (CpuStorage::F32(weight), CpuStorage::F32(gradient)) = (&mut *weight, gradient) else {
            bail!("optimiser: expected f32, got {:?} and {:?}", weight.dtype(), gradient.dtype());
        };
        let (weight, gradient) = (&mut weight[start..end], &gradient[from_start..from_end]);
        if weight.len() != gradient.len() {
            bail!("optimiser: expected a gradient of {} values, got {}", weight.len(), gradient.len());
        }
        let mut memory = self.memory.borrow_mut();
        match self.rule {
            Rule::Momentum { rate, momentum, nesterov, decay } => {
                momentum_pass(weight, gradient, memory.0, rate, momentum, nesterov, decay);
            }
            Rule::Adam(step) => {
                let (first, second) = &mut *memory;
                adam_pass(weight, gradient, first, second, &step);
            }
        }
        Ok(())
    }
}

/// Moves `variable` along `gradient`, in place.
///
/// # Errors
/// Shapes that differ, a type that is not f32, candle's.
pub(super) fn update(
    variable: &Tensor,
    gradient: &Tensor,
    memory: &mut HostMemory,
    rule: Rule,
) -> Result<()> {
    let update = HostUpdate { rule, memory: RefCell::new((&mut memory.first, &mut memory.second)) };
    variable.inplace_op2(&gradient.contiguous()?, &update)
}
