//! A student as its slot keeps it: `student.toml` beside the model file, the agent's own form, in plain words.
//!
//! The wire's types change with the protocol; this form changes with its own number, and what a newer agent added is
//! passed over. From it the bytes that were signed are rebuilt, so a student is verified for ever by the signature that it
//! came with. It must not decide whether a student is whole: that takes its bytes.

use super::signed::Form;
use n2n_protocol::{
    Artifact, BundleManifest, Digest, Element, Execution, Format, Golden, Input, Layout, Model, Precision,
    Range,
};
use serde::{Deserialize, Serialize};

/// Version of the form that is written here.
const VERSION: u32 = 2;
/// Largest file that is read, bytes: the largest bundle that a request can carry, its numbers written out.
pub(super) const MAX_BYTES: u64 = 32 << 20;
/// First line of the file.
const HEAD: &str = "# A student as it was shipped. Written once, by n2n-agent.\n";

/// A student and the facts that it was shipped with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Student {
    /// Given by this board; never given twice.
    pub(super) id: u64,
    /// Length of the model file, bytes.
    pub(super) bytes: u64,
    /// Seconds since 1970.
    pub(super) staged_at: u64,
    /// What its signature covers.
    pub(super) form: Form,
    /// The facts. Those that the form does not know have their defaults.
    pub(super) bundle: BundleManifest,
}

/// The little that is understood of a file which this agent cannot read as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sketch {
    /// What the model's bytes must be.
    pub(super) digest: Digest,
    /// Name of the student, where it can be read.
    pub(super) name: Option<String>,
    /// Its id, where it can be read.
    pub(super) id: Option<u64>,
    /// Why the rest is not understood.
    pub(super) why: String,
}

impl Student {
    /// SHA-256 of the model file.
    pub(super) fn digest(&self) -> Digest {
        self.bundle.artifact.model.digest
    }

    /// The bytes that its signature covers.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        self.form.signed_bytes(&self.bundle)
    }

    /// The text of its file.
    ///
    /// # Errors
    /// A number that the form cannot hold, in words.
    pub(super) fn write(&self) -> Result<String, String> {
        let file = File::of(self)?;
        let text = toml::to_string(&file).map_err(|error| error.to_string())?;
        let text = format!("{HEAD}{text}");
        if text.len() as u64 > MAX_BYTES {
            return Err(format!("its facts take {} bytes, at most {MAX_BYTES} are kept", text.len()));
        }
        Ok(text)
    }

    /// The student of a file's text.
    ///
    /// # Errors
    /// What can be told of one that is not understood as a whole; `None` in it when not even the digest can.
    pub(super) fn read(text: &str) -> Result<Self, Option<Sketch>> {
        let why = match toml::from_str::<File>(text) {
            Ok(file) => match file.into_student() {
                Ok(student) => return Ok(student),
                Err(why) => why,
            },
            Err(error) => error.message().to_owned(),
        };
        Err(Sketch::of(text, why))
    }
}

impl Sketch {
    /// Line by line: a damaged or unknown line hides no other.
    fn of(text: &str, why: String) -> Option<Self> {
        let value = |key: &str| {
            // What follows the first table's head belongs to that table.
            text.lines().take_while(|line| !line.starts_with('[')).find_map(|line| {
                let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
                toml::from_str::<One>(&format!("value = {value}")).ok()
            })
        };
        let digest = value("digest").and_then(|it| it.value.as_str()?.parse().ok())?;
        let name = value("name").and_then(|it| it.value.as_str().map(str::to_owned));
        let id = value("id").and_then(|it| it.value.as_integer()?.try_into().ok());
        Some(Self { digest, name, id, why })
    }
}

#[derive(Deserialize)]
struct One {
    value: toml::Value,
}

/// `student.toml`. Unknown keys are passed over: a newer agent may have written them.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    id: u64,
    name: String,
    digest: String,
    bytes: u64,
    staged_at: u64,
    #[serde(default)]
    number: u64,
    #[serde(default)]
    target: String,
    #[serde(default)]
    engine: String,
    threads: u16,
    batch: u16,
    pace_us: u32,
    format: FormatName,
    precision: PrecisionName,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_limit_ns: Option<u64>,
    /// Which signed form the signature covers.
    form: u8,
    signer: String,
    signature: String,
    input: InputFacts,
    golden: GoldenFacts,
}

#[derive(Serialize, Deserialize)]
struct InputFacts {
    element: ElementName,
    layout: LayoutName,
    #[serde(skip_serializing_if = "Option::is_none")]
    black: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    white: Option<f64>,
}

/// Numbers of 32 bits, written with 64: exactly, whatever a reader makes of decimals.
#[derive(Serialize, Deserialize)]
struct GoldenFacts {
    input_seed: u64,
    tolerance: f64,
    logits: Vec<f64>,
}

/// The names of a wire enum, as they stand in the file.
macro_rules! names {
    ($name:ident of $wire:ident: $($variant:ident),+) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum $name { $($variant),+ }

        impl From<$wire> for $name {
            fn from(it: $wire) -> Self {
                match it { $($wire::$variant => Self::$variant),+ }
            }
        }

        impl From<$name> for $wire {
            fn from(it: $name) -> Self {
                match it { $($name::$variant => Self::$variant),+ }
            }
        }
    };
}

names!(FormatName of Format: Onnx);
names!(PrecisionName of Precision: F32, F16, I8);
names!(ElementName of Element: F32, U8, I8, F16);
names!(LayoutName of Layout: Nchw, Nhwc);

impl File {
    fn of(student: &Student) -> Result<Self, String> {
        let Student { id, bytes, staged_at, form, bundle } = student;
        let BundleManifest { name, artifact, golden, latency_limit_ns, signer, signature } = bundle;
        let Artifact { model, execution, classes, target, number } = artifact;
        let range = model.input.range;
        for (what, value) in [
            ("number", *number),
            ("input seed", golden.input_seed),
            ("latency limit", latency_limit_ns.unwrap_or(0)),
        ] {
            // TOML's integers have a sign.
            if i64::try_from(value).is_err() {
                return Err(format!("a {what} of {value}: expected at most {}", i64::MAX));
            }
        }
        Ok(Self {
            version: VERSION,
            id: *id,
            name: name.clone(),
            digest: model.digest.to_string(),
            bytes: *bytes,
            staged_at: *staged_at,
            number: *number,
            target: target.clone(),
            engine: execution.engine.clone(),
            threads: execution.threads,
            batch: execution.batch,
            pace_us: execution.pace_us,
            format: model.format.into(),
            precision: model.precision.into(),
            classes: classes.clone(),
            latency_limit_ns: *latency_limit_ns,
            form: match form {
                Form::One => 1,
                Form::Two => 2,
            },
            signer: hex::encode(signer),
            signature: hex::encode(signature),
            input: InputFacts {
                element: model.input.element.into(),
                layout: model.input.layout.into(),
                black: range.map(|range| range.black.into()),
                white: range.map(|range| range.white.into()),
            },
            golden: GoldenFacts {
                input_seed: golden.input_seed,
                tolerance: golden.tolerance.into(),
                logits: golden.logits.iter().map(|logit| f64::from(*logit)).collect(),
            },
        })
    }

    fn into_student(self) -> Result<Student, String> {
        let form = match self.form {
            1 => Form::One,
            2 => Form::Two,
            other => return Err(format!("its signature is of form {other}, this agent knows 1 and 2")),
        };
        let digest = self.digest.parse().map_err(|error| format!("digest: {error}"))?;
        let mut signer = [0; 32];
        hex::decode_to_slice(&self.signer, &mut signer).map_err(|error| format!("signer: {error}"))?;
        let signature = hex::decode(&self.signature).map_err(|error| format!("signature: {error}"))?;
        let range = match (self.input.black, self.input.white) {
            (Some(black), Some(white)) => Some(Range { black: black as f32, white: white as f32 }),
            _ => None,
        };
        let input = Input { element: self.input.element.into(), layout: self.input.layout.into(), range };
        let GoldenFacts { input_seed, tolerance, logits } = self.golden;
        let bundle = BundleManifest {
            name: self.name,
            artifact: Artifact {
                model: Model { digest, format: self.format.into(), precision: self.precision.into(), input },
                execution: Execution {
                    engine: self.engine,
                    threads: self.threads,
                    batch: self.batch,
                    pace_us: self.pace_us,
                },
                classes: self.classes,
                target: self.target,
                number: self.number,
            },
            golden: Golden {
                input_seed,
                logits: logits.into_iter().map(|logit| logit as f32).collect(),
                tolerance: tolerance as f32,
            },
            latency_limit_ns: self.latency_limit_ns,
            signer,
            signature,
        };
        Ok(Student { id: self.id, bytes: self.bytes, staged_at: self.staged_at, form, bundle })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn student() -> Student {
        Student {
            id: 7,
            bytes: 2900,
            staged_at: 1_795_802_478,
            form: Form::Two,
            bundle: BundleManifest {
                name: "a \"name\" with\\ all".into(),
                artifact: Artifact {
                    model: Model {
                        input: Input {
                            element: Element::U8,
                            layout: Layout::Nhwc,
                            range: Some(Range { black: 0.1, white: -3.0 }),
                        },
                        precision: Precision::I8,
                        ..Model::onnx(Digest([5; 32]))
                    },
                    execution: Execution { engine: "tract".into(), threads: 2, batch: 1, pace_us: 40 },
                    classes: vec!["ok".into(), "defect".into()],
                    target: "raspberrypi,4-model-b".into(),
                    number: 1_795_802_000,
                },
                golden: Golden { input_seed: 3, logits: vec![0.1, -0.0, 1e-30], tolerance: 1e-3 },
                latency_limit_ns: Some(5_000_000),
                signer: [9; 32],
                signature: vec![1; 64],
            },
        }
    }

    #[test]
    fn a_student_comes_back_whole() {
        let mut it = student();
        assert_eq!(Student::read(&it.write().unwrap()), Ok(it.clone()));
        it.form = Form::One;
        it.bundle.latency_limit_ns = None;
        it.bundle.artifact.model.input.range = None;
        it.bundle.artifact.classes.clear();
        assert_eq!(Student::read(&it.write().unwrap()), Ok(it));
    }

    #[test]
    fn what_a_newer_agent_added_is_passed_over() {
        let text = student().write().unwrap();
        let newer = text.replace("version = 2", "version = 3\nmood = \"good\"");
        assert_eq!(Student::read(&newer), Ok(student()));
    }

    #[test]
    fn of_a_file_that_is_not_understood_the_digest_is_kept() {
        let text = student().write().unwrap();
        let unknown = text.replace("form = 2", "form = 3").replace("\"i8\"", "\"i4\"");
        let sketch = Student::read(&unknown).unwrap_err().unwrap();
        assert_eq!((sketch.digest, sketch.id), (Digest([5; 32]), Some(7)));
        assert_eq!(sketch.name.as_deref(), Some("a \"name\" with\\ all"));
        assert!(!sketch.why.is_empty());
        let torn = &text[..text.len() / 2];
        assert_eq!(Student::read(torn).unwrap_err().unwrap().digest, Digest([5; 32]));
        assert_eq!(Student::read("digest = \"12\"\n"), Err(None));
        assert_eq!(Student::read(""), Err(None));
    }

    #[test]
    fn numbers_beyond_the_form_are_refused_in_words() {
        let mut it = student();
        it.bundle.artifact.number = u64::MAX;
        assert!(it.write().unwrap_err().contains("a number of 18446744073709551615"));
    }

    proptest! {
        #[test]
        fn every_logit_comes_back_to_the_bit(bits in any::<u32>()) {
            let logit = f32::from_bits(bits);
            prop_assume!(!logit.is_nan());
            let mut it = student();
            it.bundle.golden.logits = vec![logit];
            let back = Student::read(&it.write().unwrap()).unwrap();
            prop_assert_eq!(back.bundle.golden.logits[0].to_bits(), bits);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(version|id|digest|name|\\[golden\\])?[ =\"a-z0-9\n]{0,80}") {
            let _ = Student::read(&text);
        }
    }
}
