//! How somebody's program uses a student, as the documented JSON object: a part of what `compress`, `ship` and `export` print.

use serde::Serialize;

use crate::normalisation::InputForm;
use crate::usage::Usage;

/// Where the file is, what goes in and comes out, and two programs that feed it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Used {
    /// Of the model file, for a program on the machine that it is on.
    path: String,
    input: Input,
    output: Output,
    /// `squash`, `crop` or `letterbox`: what happens to pictures in other proportions.
    resize: &'static str,
    /// Names, in the order of the output.
    classes: Vec<String>,
    /// A whole program, with ONNX Runtime and Pillow.
    python: String,
    /// A whole program, with the crates `tract-onnx` and `image`.
    rust: String,
}

/// What the file takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Input {
    name: &'static str,
    /// Batch, channels, rows, columns.
    shape: [usize; 4],
    /// `plain`, `uint8` or `normalised`.
    form: &'static str,
    /// `float32` or `uint8`.
    element: &'static str,
    /// `L` for grey, else `RGB`.
    colours: &'static str,
    /// By channel, of pixels from 0 to 1: what is to be taken away, then divided by; `null` for a file that does so itself.
    mean: Option<Vec<f32>>,
    /// As `mean`.
    deviation: Option<Vec<f32>>,
}

/// What it gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Output {
    name: &'static str,
    /// Batch, classes.
    shape: [usize; 2],
}

impl Used {
    /// Of a file at `path`.
    pub(super) fn new(it: &Usage, path: &str) -> Self {
        let [channels, height, width] = it.shape;
        let by_hand = |numbers: &[f32]| (it.input == InputForm::Normalised).then(|| numbers.to_vec());
        Self {
            path: path.into(),
            input: Input {
                name: "input",
                shape: [1, channels, height, width],
                form: it.input.name(),
                element: if it.input == InputForm::Uint8 { "uint8" } else { "float32" },
                colours: if channels == 1 { "L" } else { "RGB" },
                mean: by_hand(&it.mean),
                deviation: by_hand(&it.deviation),
            },
            output: Output { name: "logits", shape: [1, it.classes.len()] },
            resize: it.fit.name(),
            classes: it.classes.clone(),
            python: it.python(path),
            rust: it.rust(path),
        }
    }
}
