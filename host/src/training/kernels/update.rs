//! One optimiser step of one variable, in place and in one pass on a CPU.

use std::cell::RefCell;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

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

/// What an optimiser remembers of one variable: momentum, or Adam's two moments.
#[derive(Clone, Debug)]
pub enum Memory {
    /// Plain values, for the CPU.
    Host {
        /// Momentum or first moment.
        first: Vec<f32>,
        /// Second moment; empty for momentum.
        second: Vec<f32>,
    },
    /// On the device.
    Device {
        /// Momentum or first moment.
        first: Tensor,
        /// Second moment.
        second: Tensor,
    },
}

impl Memory {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// Candle's.
    pub fn new(variable: &Var) -> Result<Self> {
        if variable.device().is_cpu() {
            let zeros = vec![0.0; variable.elem_count()];
            return Ok(Self::Host { first: zeros.clone(), second: zeros });
        }
        Ok(Self::Device { first: variable.zeros_like()?, second: variable.zeros_like()? })
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

/// Moves `variable` along `gradient`.
///
/// # Errors
/// Shapes that differ, a type that is not f32, candle's.
pub fn update(variable: &Var, gradient: &Tensor, memory: &mut Memory, rule: Rule) -> Result<()> {
    match memory {
        Memory::Host { first, second } => {
            let update = HostUpdate { rule, memory: RefCell::new((first, second)) };
            variable.as_tensor().inplace_op2(&gradient.contiguous()?, &update)
        }
        Memory::Device { first, second } => {
            let weight = variable.as_detached_tensor();
            let next = match rule {
                Rule::Momentum { rate, momentum, nesterov, decay } => {
                    let gradient = (gradient + (&weight * f64::from(decay))?)?;
                    *first = ((&*first * f64::from(momentum))? + &gradient)?;
                    let along =
                        if nesterov { (gradient + (&*first * f64::from(momentum))?)? } else { first.clone() };
                    (weight - (along * f64::from(rate))?)?
                }
                Rule::Adam(step) => {
                    let gradient = (gradient + (&weight * f64::from(step.decay))?)?;
                    let mixed = |old: &Tensor, new: &Tensor, shares: (f32, f32)| {
                        (old * f64::from(shares.0))? + (new * f64::from(shares.1))?
                    };
                    *first = mixed(first, &gradient, step.first)?;
                    *second = mixed(second, &gradient.sqr()?, step.second)?;
                    let root =
                        ((second.sqrt()? * f64::from(step.root_correction))? + f64::from(step.epsilon))?;
                    ((weight * f64::from(step.shrink))? - ((&*first / root)? * f64::from(step.rate))?)?
                }
            };
            variable.set(&next)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The in-place pass and the composed one must move a variable alike.
    fn both_agree(rule: Rule) {
        let start = Tensor::new(&[0.5f32, -1.0, 2.0], &Device::Cpu).unwrap();
        let (host, device) = (Var::from_tensor(&start).unwrap(), Var::from_tensor(&start).unwrap());
        let mut on_host = Memory::new(&host).unwrap();
        let mut on_device =
            Memory::Device { first: start.zeros_like().unwrap(), second: start.zeros_like().unwrap() };
        for step in 0..4 {
            let gradient = Tensor::new(&[1.0f32, 0.3 * step as f32, -2.0], &Device::Cpu).unwrap();
            update(&host, &gradient, &mut on_host, rule).unwrap();
            update(&device, &gradient, &mut on_device, rule).unwrap();
        }
        let (host, device) = (host.to_vec1::<f32>().unwrap(), device.to_vec1::<f32>().unwrap());
        for (a, b) in host.iter().zip(&device) {
            assert!((a - b).abs() < 1e-6, "{host:?} {device:?}");
        }
        assert_ne!(host, start.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn the_pass_in_place_moves_as_the_composed_operations_do() {
        for nesterov in [false, true] {
            both_agree(Rule::Momentum { rate: 0.1, momentum: 0.9, nesterov, decay: 0.01 });
        }
        both_agree(Rule::Adam(AdamStep {
            rate: 0.01,
            first: (0.9, 0.1),
            second: (0.999, 0.001),
            root_correction: 2.0,
            epsilon: 1e-8,
            decay: 0.01,
            shrink: 0.99,
        }));
    }
}
