//! A model as a board gets it, with the answer that proves that it runs there rightly: n2n's own, or another program's as it is.

use n2n_protocol::{
    Execution, FreeMemory, Golden, InferPlan, Input, Layout, Model as WireModel, Place, generator,
};

use super::Context;
use super::model::{self, ModelRef};
use super::target_board::{self, Connected};
use crate::board::{Address, BoardError, Client};
use crate::engine_choice::EngineChoice;
use crate::exit::{Failure, ResultExt as _};
use crate::model_io::foreign::{self, Whole};
use crate::model_io::onnx::{self, Model};
use crate::shipping::TOLERANCE;
use crate::{units, wording};

/// Seed of the input that several engines are asked about.
const SEED: u64 = 0;

/// A model, read.
pub(super) enum Sendable {
    /// Written by n2n, or of its zoo.
    Ours(Model),
    /// Another program's.
    Foreign(Whole),
}

/// A file to send, what it takes, and its right answer.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The ONNX file, weights inside.
    pub bytes: Vec<u8>,
    /// What it takes.
    pub input: Input,
    /// Values of one input.
    pub input_len: usize,
    /// Names, in the order of the answer.
    pub classes: Vec<String>,
    /// The right answer, by `judge`.
    pub golden: Golden,
    pub judge: Judge,
    /// The board's engine that runs it.
    pub engine: String,
}

/// Who says what the right answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// The host's own reference forward pass.
    Host,
    /// The engine of this machine's agent, for a board that is another machine.
    LocalAgent,
    /// Another engine of the same board.
    OtherEngine,
    /// Only the board's own engine.
    BoardAlone,
}

impl Judge {
    /// For scripts; `None` where nobody else checked.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Host => Some("host"),
            Self::LocalAgent => Some("local agent"),
            Self::OtherEngine => Some("another engine"),
            Self::BoardAlone => None,
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Host => "by the host's reference",
            Self::LocalAgent => "by this machine's engine, a second process",
            Self::OtherEngine => "by the board's other engine",
            Self::BoardAlone => wording::UNVERIFIED,
        }
    }
}

/// Reads what a text names; `sizes` are those of one input, as in `3x96x96`, where a file leaves them open.
///
/// # Errors
/// No such model, or a file that cannot be sent.
pub(super) fn read(text: &str, sizes: Option<&str>) -> Result<Sendable, Failure> {
    let sizes = sizes.map(parsed).transpose()?;
    let ModelRef::File(path) = ModelRef::parse(text).map_err(Failure::usage)? else {
        return Ok(Sendable::Ours(model::load(text)?));
    };
    if foreign::is_ours(&path) && sizes.is_none() {
        match onnx::load(&path) {
            Ok(model) => return Ok(Sendable::Ours(model)),
            // Saved again by another program: still a model, if not one that can be compressed.
            Err(error) => {
                return foreign::load(&path, None).map(Sendable::Foreign).map_err(|_| error.into());
            }
        }
    }
    Ok(Sendable::Foreign(foreign::load(&path, sizes.as_deref())?))
}

fn parsed(text: &str) -> Result<Vec<usize>, Failure> {
    let sizes: Option<Vec<usize>> =
        text.split('x').map(|size| size.parse().ok().filter(|&it| it > 0)).collect();
    sizes
        .ok_or_else(|| Failure::usage(format!("input `{text}`: expected sizes above 0")))
        .hint("write the sizes of one input without the batch, as in --input 3x96x96")
}

/// The file and its right answer. That of another program's is what this machine's agent says; where that is the board, or
/// cannot say, what another engine of the board says, and else what the very engine says that runs it.
///
/// # Errors
/// The model cannot be written, the board lacks the engine, or no engine runs it.
pub(super) fn prepare(
    it: Sendable,
    board: &mut Connected,
    engine: &EngineChoice,
    context: &Context,
) -> Result<Prepared, Failure> {
    let engine = engine.on(&board.client.welcome().board)?.name.clone();
    let whole = match it {
        Sendable::Ours(model) => return ours(&model, engine),
        Sendable::Foreign(whole) => whole,
    };
    tracing::info!("as it is, written by `{}`: layers are not looked at", whole.producer);
    if let Some(memory) = board.client.memory()?
        && let Some(why) = too_large(whole.bytes.len() as u64, memory, &board.place())
    {
        let mend = if memory.scarce {
            "end what else takes memory there, or take a smaller model"
        } else {
            "take a smaller model, or a board with more memory"
        };
        return Err(Failure::failed(why)).hint(mend);
    }
    let input = Input { element: whole.element, layout: Layout::Nchw, range: None };
    let second = if board.this_machine { None } else { local(&whole, input, context) };
    let second = second.map(|row| (row, Judge::LocalAgent));
    let (row, judge) = match second.or_else(|| by_another(board, &engine, &whole, input)) {
        Some(judged) => judged,
        None => (answer(&mut board.client, &engine, &whole, input)?, Judge::BoardAlone),
    };
    Ok(Prepared {
        input,
        input_len: whole.input.iter().product(),
        classes: (0..row.len()).map(|class| class.to_string()).collect(),
        golden: Golden { input_seed: SEED, logits: row, tolerance: TOLERANCE },
        judge,
        bytes: whole.bytes,
        engine,
    })
}

/// Why a file cannot run on a board that lets a model take so much memory: no engine needs less than its weights.
fn too_large(file: u64, FreeMemory { bytes, scarce }: FreeMemory, place: &str) -> Option<String> {
    let most = bytes.filter(|most| file > *most)?;
    let now = if scarce { " now, since others have the rest" } else { "" };
    Some(format!(
        "the model is not sent: it has {} with its weights, and {place} gives a model at most {} of memory{now}",
        units::bytes(file),
        units::bytes(most)
    ))
}

fn ours(model: &Model, engine: String) -> Result<Prepared, Failure> {
    let file = model::measurable(model)?;
    Ok(Prepared {
        bytes: file.bytes,
        input: model.info.wire_input(),
        input_len: model.network.input_shape().elements(),
        classes: model.info.classes.clone(),
        golden: file.golden,
        judge: Judge::Host,
        engine,
    })
}

/// What this machine's agent answers; `None`, with a word, if it cannot.
fn local(whole: &Whole, input: Input, context: &Context) -> Option<Vec<f32>> {
    let asked = target_board::connect(&Address::Local, context).and_then(|mut it| {
        let engine = EngineChoice::Auto.on(&it.client.welcome().board)?.name.clone();
        Ok(answer(&mut it.client, &engine, whole, input)?)
    });
    match asked {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::warn!("this machine's engine gives no answer to compare with: {error}");
            None
        }
    }
}

/// What another engine of the board answers; `None` if it has no other, or that one cannot run the file.
fn by_another(board: &mut Connected, engine: &str, whole: &Whole, input: Input) -> Option<(Vec<f32>, Judge)> {
    let engines = &board.client.welcome().board.engines;
    let other = engines.iter().find(|other| other.name != engine)?.name.clone();
    let row = answer(&mut board.client, &other, whole, input).ok()?;
    Some((row, Judge::OtherEngine))
}

fn answer(client: &mut Client, engine: &str, whole: &Whole, input: Input) -> Result<Vec<f32>, BoardError> {
    let len = whole.input.iter().product();
    let digest = client.put(&whole.bytes, &mut |_, _| {})?;
    let plan = InferPlan {
        model: WireModel { input, ..WireModel::onnx(digest) },
        place: Place::Store,
        execution: Execution { engine: engine.to_owned(), threads: 1, batch: 1, pace_us: 0 },
        // As much as the board has and its agent can spare: the agent knows.
        max_memory_bytes: u64::MAX,
        inputs: Vec::new(),
    };
    let values = generator::input_as(SEED, len, input.element).unwrap_or_default();
    let rows = client.infer(&plan, &[values])?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_above_nothing() {
        assert_eq!(parsed("3x96x96").unwrap(), [3, 96, 96]);
        for wrong in ["", "3x", "0x3", "axb"] {
            assert!(parsed(wrong).unwrap_err().render().contains("--input 3x96x96"), "{wrong}");
        }
    }
}
