//! What a network costs, exactly and without running it: the static half of every limit.
//!
//! Sums saturate instead of overflowing: an absurd model then breaks every limit, and nothing panics.

use super::layer::Layer;
use super::{Network, Parameter};

/// Bytes of one value: weights and activations are f32.
const VALUE_BYTES: u64 = 4;

/// Static costs of one inference at batch 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Values that gradient descent changes, batch-norm scale and shift included, running statistics not.
    pub params: u64,
    /// Multiply-accumulates of convolutions and linear layers; biases and element-wise work do not count.
    pub macs: u64,
    /// All tensors as f32, running statistics included.
    pub weight_bytes: u64,
    /// Largest sum of activations that must exist at one time (f32), the image included, when nodes run in order,
    /// a value is freed after its last reader, and batch norm, activation, dropout and flatten overwrite their operand
    /// if they are its only reader. Scratch space of an engine (im2col) is not in it.
    pub peak_activation_bytes: u64,
}

impl Network {
    /// Static costs of one inference.
    pub fn cost(&self) -> Cost {
        let parameters = self.parameters();
        let values = |parameter: &Parameter| saturating_product(&parameter.dims);
        let sum = |total: u64, next: u64| total.saturating_add(next);
        Cost {
            params: parameters.iter().filter(|p| p.role.is_trained()).map(values).fold(0, sum),
            macs: self.node_macs().into_iter().fold(0, sum),
            weight_bytes: parameters.iter().map(values).fold(0, sum).saturating_mul(VALUE_BYTES),
            peak_activation_bytes: self.peak_activation_values().saturating_mul(VALUE_BYTES),
        }
    }

    /// Multiply-accumulates of each node.
    pub fn node_macs(&self) -> Vec<u64> {
        let macs = |(id, node): (usize, &super::Node)| match &node.layer {
            Layer::Conv(conv) => {
                let per_position = [conv.in_channels / conv.groups, conv.kernel, conv.kernel];
                saturating_product(&per_position).saturating_mul(self.shapes()[id].elements() as u64)
            }
            Layer::Linear(linear) => saturating_product(&[linear.in_features, linear.out_features]),
            Layer::Input(_)
            | Layer::BatchNorm(_)
            | Layer::Activation(_)
            | Layer::MaxPool(_)
            | Layer::AveragePool(_)
            | Layer::GlobalAveragePool
            | Layer::Flatten
            | Layer::Add
            | Layer::Dropout(_)
            | Layer::Softmax => 0,
        };
        self.nodes().iter().enumerate().map(macs).collect()
    }

    fn peak_activation_values(&self) -> u64 {
        let consumers = self.consumers();
        let nodes = self.nodes();
        // The node whose buffer each node writes to, and the last step at which that buffer is needed.
        let mut buffer: Vec<usize> = (0..nodes.len()).collect();
        let mut last_use: Vec<usize> = (0..nodes.len()).collect();
        for (id, node) in nodes.iter().enumerate() {
            if node.layer.nature().in_place && consumers[node.inputs[0]].len() == 1 {
                buffer[id] = buffer[node.inputs[0]];
            }
            let last_reader = consumers[id].iter().copied().max().unwrap_or(id);
            last_use[buffer[id]] = last_use[buffer[id]].max(last_reader);
        }
        let mut freed_after: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for id in (0..nodes.len()).filter(|&id| buffer[id] == id) {
            freed_after[last_use[id]].push(id);
        }
        let size = |id: usize| self.shapes()[id].elements() as u64;
        let (mut live, mut peak) = (0_u64, 0);
        for id in 0..nodes.len() {
            if buffer[id] == id {
                live = live.saturating_add(size(id));
            }
            peak = peak.max(live);
            for &dead in &freed_after[id] {
                live = live.saturating_sub(size(dead));
            }
        }
        peak
    }
}

fn saturating_product(factors: &[usize]) -> u64 {
    factors.iter().fold(1_u64, |product, &factor| product.saturating_mul(factor as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::Input;

    fn residual() -> Network {
        let mut b = Builder::new(Input { channels: 3, height: 8, width: 8 }).unwrap();
        let conv3 = |out_channels| ConvChoice { out_channels, kernel: 3, stride: 1, padding: 1, bias: false };
        let stem = b.conv("stem", 0, conv3(4)).unwrap();
        let conv = b.conv("conv", stem, conv3(4)).unwrap();
        let norm = b.batch_norm("norm", conv).unwrap();
        let relu = b.relu("relu", norm).unwrap();
        let add = b.push("add", Layer::Add, &[relu, stem]).unwrap();
        let pool = b.push("pool", Layer::GlobalAveragePool, &[add]).unwrap();
        b.linear("fc", pool, 10).unwrap();
        b.finish().unwrap()
    }

    #[test]
    fn macs_count_convolutions_and_linear_layers() {
        let macs = residual().node_macs();
        assert_eq!(macs, [0, 64 * 4 * 27, 64 * 4 * 36, 0, 0, 0, 0, 40]);
    }

    #[test]
    fn params_leave_running_statistics_out_and_bytes_take_them_in() {
        let cost = residual().cost();
        let convs = 3 * 4 * 9 + 4 * 4 * 9;
        assert_eq!(cost.params, convs + 8 + 50);
        assert_eq!(cost.weight_bytes, 4 * (convs + 16 + 50));
    }

    #[test]
    fn the_peak_is_at_the_add_which_holds_both_operands_and_its_result() {
        // stem (256) stays for the add; conv, norm and relu share one buffer (256); the add writes a third (256).
        assert_eq!(residual().cost().peak_activation_bytes, 4 * 3 * 256);
    }

    #[test]
    fn a_chain_holds_operand_and_result() {
        let mut b = Builder::new(Input { channels: 1, height: 8, width: 8 }).unwrap();
        let conv = ConvChoice { out_channels: 6, kernel: 3, stride: 1, padding: 1, bias: true };
        let conv = b.conv("conv", 0, conv).unwrap();
        let relu = b.relu("relu", conv).unwrap();
        let pool = b.max_pool("pool", relu, 2).unwrap();
        let flat = b.push("flat", Layer::Flatten, &[pool]).unwrap();
        b.linear("fc", flat, 2).unwrap();
        let cost = b.finish().unwrap().cost();
        assert_eq!(cost.peak_activation_bytes, 4 * (6 * 64 + 6 * 16));
    }
}
