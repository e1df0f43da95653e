//! Weights out of a seed: what a board fills into a model file without weights, on the host's side.
//!
//! Only for measuring and its golden answers. Initial weights for training come from the trainer.

use n2n_protocol::generator;

use super::Weights;
use crate::network::Network;

/// The weights that an agent gives this network for this seed, bit for bit.
pub fn filled(network: &Network, seed: u64) -> Weights {
    let mut weights = Weights::default();
    for parameter in network.parameters() {
        let mut values = vec![0.0; parameter.dims.iter().product()];
        generator::fill(seed, &parameter.name, &parameter.dims, &mut values);
        weights.insert(parameter.name, parameter.dims, values);
    }
    weights
}
