//! What every engine takes and gives alike: kinds of models, one fixed input, an answer of a sane size.

use super::seam::EngineError;
use n2n_protocol::{Element, Execution, Format, Model, Precision, limits};

/// Most numbers in one input: 4096 x 4096 RGB, far above any image classifier on a board.
const MAX_INPUT_LEN: usize = 3 * 4096 * 4096;

/// Whether a model of this kind runs in this way on an engine that can use so many threads.
///
/// # Errors
/// As [`super::Engine::accepts`].
pub(super) fn accepts(
    engine: &str,
    most_threads: u16,
    model: &Model,
    execution: &Execution,
) -> Result<(), EngineError> {
    let cannot =
        |can: String, asked: String| Err(EngineError::Execution { engine: engine.into(), can, asked });
    if !(1..=most_threads).contains(&execution.threads) {
        let can =
            if most_threads == 1 { "1 thread".into() } else { format!("1 to {most_threads} threads here") };
        return cannot(format!("runs on {can}"), format!("{} threads", execution.threads));
    }
    if execution.batch != 1 {
        return cannot("takes 1 input at a time".into(), format!("a batch of {}", execution.batch));
    }
    match (model.format, model.precision, model.input.element) {
        (Format::Onnx, Precision::F32, Element::F32 | Element::U8) => Ok(()),
        (Format::Onnx, precision, element) => Err(EngineError::Model(format!(
            "expected weights of 32-bit floats and inputs of such or of bytes, got weights of {precision:?} and inputs of \
             {element:?}"
        ))),
    }
}

/// The sizes of an input, its batch set to 1 where the file leaves it open; an open size is `None`.
///
/// # Errors
/// [`EngineError::Model`] for another open size, another batch, or an input that is too large.
pub(super) fn fixed(
    input: &str,
    sizes: impl IntoIterator<Item = Option<usize>>,
) -> Result<Vec<usize>, EngineError> {
    let wrong = |why: String| EngineError::Model(format!("input `{input}`{why}"));
    let mut shape = Vec::new();
    for (axis, size) in sizes.into_iter().enumerate() {
        let known = size.filter(|&size| size > 0).or((axis == 0).then_some(1));
        shape.push(known.ok_or_else(|| wrong(format!(": expected a fixed size at axis {axis}")))?);
    }
    let len = shape.iter().try_fold(1_usize, |len, &dim| len.checked_mul(dim));
    match len {
        Some(len) if shape.first() == Some(&1) && len <= MAX_INPUT_LEN => Ok(shape),
        _ => {
            Err(wrong(format!(" has shape {shape:?}: expected batch 1 and at most {MAX_INPUT_LEN} numbers")))
        }
    }
}

/// An answer, copied once its size is known to be one: an output may be as large as all memory, or nothing at all.
///
/// # Errors
/// [`EngineError::Run`] for another number of logits.
pub(super) fn copied(logits: &[f32]) -> Result<Vec<f32>, EngineError> {
    if (1..=limits::LOGITS).contains(&logits.len()) {
        return Ok(logits.to_vec());
    }
    Err(EngineError::Run(format!("expected 1 to {} logits, got {}", limits::LOGITS, logits.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_one_size() {
        assert_eq!(fixed("x", [None, Some(3), Some(8)]).unwrap(), [1, 3, 8]);
        let why = |sizes: &[Option<usize>]| fixed("x", sizes.iter().copied()).unwrap_err().to_string();
        assert!(why(&[Some(1), None]).contains("input `x`: expected a fixed size at axis 1"));
        assert!(why(&[Some(2), Some(3)]).contains("expected batch 1"));
        assert!(why(&[Some(1), Some(usize::MAX), Some(2)]).contains("at most"));
        assert!(why(&[]).contains("expected batch 1"));
    }
}
