//! Golden answers: an input that both sides make from a seed, and what the host's reference says to it.

use n2n_protocol::{Golden, generator};

use crate::model_io::Weights;
use crate::model_io::onnx::ModelInfo;
use crate::model_io::reference::{self, ReferenceError};
use crate::network::Network;

/// Largest difference that passes, relative to the largest logit: engines' rounding stays below a tenth of it (tested for
/// tract and ONNX Runtime), a wrong weight or layer is far above.
pub const TOLERANCE: f32 = 1e-3;

/// The answer of this network to the input of this seed, given as its file takes it. Takes as long as the slow reference
/// forward pass.
///
/// # Errors
/// When the weights are not the network's.
pub fn golden(
    network: &Network,
    weights: &Weights,
    info: &ModelInfo,
    input_seed: u64,
) -> Result<Golden, ReferenceError> {
    let (len, element) = (network.input_shape().elements(), info.wire_input().element);
    let mut input = generator::input_as(input_seed, len, element).unwrap_or_default();
    info.input.normalise(&mut input, &info.normalisation);
    let logits = reference::forward(network, weights, &input)?;
    Ok(Golden { input_seed, logits, tolerance: TOLERANCE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_io::filled;
    use crate::model_io::onnx::tests::residual;

    #[test]
    fn the_host_agrees_with_itself_and_not_with_others() {
        let network = residual();
        let weights = filled(&network, 1);
        let right = golden(&network, &weights, &ModelInfo::untrained(&network), 2).unwrap();
        assert_eq!(right.check(&right.logits), Ok(0.0));
        let other = golden(&network, &filled(&network, 3), &ModelInfo::untrained(&network), 2).unwrap();
        assert!(right.check(&other.logits).is_err());
    }
}
