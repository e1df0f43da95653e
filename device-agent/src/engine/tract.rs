//! tract: pure Rust, light, with hand-written ARM kernels; the default engine.
//!
//! It is built without its multi-threading feature, so it runs on one thread and says so.

use super::form::{accepts, copied, fixed};
use super::seam::{Engine, EngineError, Session};
use n2n_protocol::{Element, EngineId, Execution, Model};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::{
    DatumExt, Framework, InferenceModelExt, IntoRunnable, Tensor, TractError, TypedFact, TypedOp, tvec,
};
use tract_onnx::tract_core::plan::SimpleState;

/// Version of the tract crates, as Cargo.lock pins it (a test compares).
const VERSION: &str = "0.23.9";
/// As plans and numbers name it.
const NAME: &str = "tract";

/// The engine. It has no state of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tract;

/// A plan of tract together with the buffers of its turns, which are reused from one inference to the next.
struct TractSession {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    shape: Vec<usize>,
    element: Element,
}

impl Engine for Tract {
    fn id(&self) -> EngineId {
        EngineId { name: NAME.into(), version: VERSION.into() }
    }

    fn accepts(&self, model: &Model, execution: &Execution) -> Result<(), EngineError> {
        accepts(NAME, 1, model, execution)
    }

    fn counts_its_memory(&self) -> bool {
        true
    }

    fn load(
        &self,
        file: Vec<u8>,
        model: &Model,
        execution: &Execution,
    ) -> Result<Box<dyn Session>, EngineError> {
        self.accepts(model, execution)?;
        let graph =
            ModelProto::decode(file.as_slice()).map_err(|error| EngineError::Model(error.to_string()))?;
        drop(file);
        let shape = input_shape(&graph)?;
        let mut inference = tract_onnx::onnx().model_for_proto_model(&graph).map_err(in_model)?;
        drop(graph);
        if inference.inputs.len() != 1 || inference.outputs.len() != 1 {
            return Err(EngineError::Model(format!(
                "expected one input and one output, got {} and {}",
                inference.inputs.len(),
                inference.outputs.len()
            )));
        }
        let element = model.input.element;
        let fact = if element == Element::U8 { u8::fact(&shape) } else { f32::fact(&shape) };
        inference.set_input_fact(0, fact.into()).map_err(in_model)?;
        let plan = inference.into_optimized().and_then(IntoRunnable::into_runnable).map_err(in_model)?;
        let state = plan.spawn().map_err(in_model)?;
        Ok(Box::new(TractSession { state, shape, element }))
    }
}

impl Session for TractSession {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }

    fn element(&self) -> Element {
        self.element
    }

    fn run(&mut self, input: &[u8]) -> Result<Vec<f32>, EngineError> {
        let zero = if self.element == Element::U8 { Tensor::zero::<u8> } else { Tensor::zero::<f32> };
        let mut tensor = zero(&self.shape).map_err(in_run)?;
        let mut view = tensor.try_as_plain_ram_mut().map_err(in_run)?;
        let bytes = view.as_bytes_mut();
        if bytes.len() != input.len() {
            return Err(EngineError::Input { expected: bytes.len(), got: input.len() });
        }
        bytes.copy_from_slice(input);
        let outputs = self.state.run(tvec!(tensor.into())).map_err(in_run)?;
        let logits = outputs.first().ok_or_else(|| EngineError::Run("no output".into()))?;
        let logits = logits.try_as_plain_ram().and_then(|view| view.as_slice::<f32>()).map_err(in_run)?;
        copied(logits)
    }
}

/// Shape of the one input, its batch set to 1 where the file leaves it open.
fn input_shape(model: &ModelProto) -> Result<Vec<usize>, EngineError> {
    let wrong = |why: String| EngineError::Model(why);
    let graph = model.graph.as_ref().ok_or_else(|| wrong("the file has no graph".into()))?;
    let input = only_input(graph)?;
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err(wrong(format!("input `{}` is not a tensor", input.name)));
    };
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    fixed(
        &input.name,
        dims.iter().map(|dim| match dim.value {
            Some(dimension::Value::DimValue(value)) => usize::try_from(value).ok(),
            Some(dimension::Value::DimParam(_)) | None => None,
        }),
    )
}

/// Old files list their initialisers among the inputs: the real input is the one that is not initialised.
fn only_input(graph: &GraphProto) -> Result<&ValueInfoProto, EngineError> {
    let mut free =
        graph.input.iter().filter(|input| !graph.initializer.iter().any(|tensor| tensor.name == input.name));
    match (free.next(), free.next()) {
        (Some(input), None) => Ok(input),
        (first, _) => Err(EngineError::Model(format!(
            "expected one input, got {}",
            if first.is_none() { "none" } else { "several" }
        ))),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn in_model(error: TractError) -> EngineError {
    EngineError::Model(format!("{error:#}"))
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn in_run(error: TractError) -> EngineError {
    EngineError::Run(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::bytes_of;
    use crate::test_models::{self, Weights};
    use n2n_protocol::{Digest, Precision, limits};

    #[test]
    fn version_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let wanted = format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"");
        assert!(lock.contains(&wanted), "VERSION is not the tract-onnx of Cargo.lock");
    }

    #[test]
    fn it_initialises_itself() {
        Tract.initialise().unwrap();
    }

    fn execution() -> Execution {
        Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 }
    }

    fn load(graph: &ModelProto) -> Result<Box<dyn Session>, EngineError> {
        Tract.load(graph.encode_to_vec(), &Model::onnx(Digest([0; 32])), &execution())
    }

    fn refusal(loaded: Result<Box<dyn Session>, EngineError>) -> String {
        loaded.err().unwrap().to_string()
    }

    #[test]
    fn logits_equal_those_by_hand() {
        let mut session = load(&test_models::by_hand()).unwrap();
        assert_eq!((session.input_len(), session.element()), (4, Element::F32));
        // Runs twice: the reused state must not remember the first input.
        for input in [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]] {
            assert_eq!(session.run(&bytes_of(&input)).unwrap(), test_models::by_hand_logits(input));
        }
    }

    #[test]
    fn what_it_cannot_honour_is_refused_in_words() {
        let file = test_models::by_hand().encode_to_vec();
        let model = Model::onnx(Digest([0; 32]));
        let with = |execution: Execution| refusal(Tract.load(file.clone(), &model, &execution));
        assert_eq!(
            with(Execution { threads: 2, ..execution() }),
            "engine tract runs on 1 thread, the plan asks for 2 threads"
        );
        assert_eq!(
            with(Execution { batch: 8, ..execution() }),
            "engine tract takes 1 input at a time, the plan asks for a batch of 8"
        );
        let halves = Model { precision: Precision::F16, ..model };
        assert!(refusal(Tract.load(file.clone(), &halves, &execution())).contains("weights of F16"));
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        let mut session = load(&test_models::by_hand()).unwrap();
        let short = session.run(&bytes_of(&[1.0])).unwrap_err();
        assert_eq!(short.to_string(), "the model takes 16 bytes of input, got 4");

        let mut strange = test_models::by_hand();
        strange.graph.as_mut().unwrap().node[0].op_type = "Sorcery".into();
        assert!(refusal(load(&strange)).contains("Sorcery"));
        let garbage = Tract.load(vec![0xA5; 100], &Model::onnx(Digest([0; 32])), &execution());
        assert!(refusal(garbage).contains("cannot load"));
    }

    #[test]
    fn more_logits_than_anybody_takes_are_refused_before_they_are_copied() {
        let numbers = limits::LOGITS as i64 + 1;
        let mut session = load(&test_models::flood(numbers)).unwrap();
        let error = session.run(&bytes_of(&[1.0])).unwrap_err().to_string();
        assert!(error.contains(&format!("got {numbers}")), "{error}");
        assert_eq!(load(&test_models::flood(9)).unwrap().run(&bytes_of(&[1.5])).unwrap(), [1.5; 9]);
    }

    #[test]
    fn an_open_batch_is_one_and_other_open_sizes_are_refused() {
        let mut model = test_models::conv_net(3, 8, 4, &Weights::GeneratedFrom(1));
        let dims = test_models::input_dims(&mut model);
        dims[0].value = Some(dimension::Value::DimParam("N".into()));
        assert_eq!(load(&model).unwrap().input_len(), 3 * 8 * 8);
        test_models::input_dims(&mut model)[2].value = None;
        assert!(refusal(load(&model)).contains("axis 2"));
    }
}
