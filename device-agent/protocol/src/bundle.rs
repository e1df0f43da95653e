//! The bytes that a bundle's signature covers.
//!
//! Written by hand and not by serde: what was signed once must verify for ever, whatever becomes of the wire's types.

use crate::model::{Artifact, Element, Format, Layout, Precision};
use crate::{BundleManifest, Golden};
use alloc::vec::Vec;

/// No signature made for another purpose, or another form, can be taken for a bundle's.
const PURPOSE: &[u8] = b"n2n bundle 2\0";

impl BundleManifest {
    /// Everything but the signature, in one canonical form: fixed order, little endian, every length in front. The model
    /// enters by its digest, which stands first.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::from(PURPOSE);
        let Artifact { model, execution, classes, target, number } = &self.artifact;
        bytes.extend(model.digest.0);
        bytes.push(match model.format {
            Format::Onnx => 0,
        });
        bytes.push(match model.precision {
            Precision::F32 => 0,
            Precision::F16 => 1,
            Precision::I8 => 2,
        });
        bytes.push(match model.input.element {
            Element::F32 => 0,
            Element::U8 => 1,
            Element::I8 => 2,
            Element::F16 => 3,
        });
        bytes.push(match model.input.layout {
            Layout::Nchw => 0,
            Layout::Nhwc => 1,
        });
        bytes.push(u8::from(model.input.range.is_some()));
        let range = model.input.range.map_or([0.0; 2], |range| [range.black, range.white]);
        push_floats(&mut bytes, &range);
        push_text(&mut bytes, &execution.engine);
        bytes.extend(execution.threads.to_le_bytes());
        bytes.extend(execution.batch.to_le_bytes());
        bytes.extend(execution.pace_us.to_le_bytes());
        bytes.extend((classes.len() as u64).to_le_bytes());
        for class in classes {
            push_text(&mut bytes, class);
        }
        push_text(&mut bytes, target);
        bytes.extend(number.to_le_bytes());
        push_text(&mut bytes, &self.name);
        let Golden { input_seed, logits, tolerance } = &self.golden;
        bytes.extend(input_seed.to_le_bytes());
        bytes.extend((logits.len() as u64).to_le_bytes());
        push_floats(&mut bytes, logits);
        push_floats(&mut bytes, &[*tolerance]);
        bytes.push(u8::from(self.latency_limit_ns.is_some()));
        bytes.extend(self.latency_limit_ns.unwrap_or(0).to_le_bytes());
        bytes.extend(self.signer);
        bytes
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Bit patterns: a NaN of another kind is another bundle.
fn push_floats(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Execution, Input, Model, Range};
    use crate::{Digest, Golden};
    use alloc::{string::String, vec};

    fn bundle() -> BundleManifest {
        let execution = Execution { engine: String::from("tract"), threads: 1, batch: 1, pace_us: 0 };
        BundleManifest {
            name: String::from("a"),
            artifact: Artifact {
                model: Model::onnx(Digest([1; 32])),
                execution,
                classes: vec![String::from("ok"), String::from("defect")],
                target: String::from("x86_64-linux"),
                number: 7,
            },
            golden: Golden { input_seed: 2, logits: vec![0.5], tolerance: 0.25 },
            latency_limit_ns: None,
            signer: [3; 32],
            signature: vec![],
        }
    }

    #[test]
    fn the_signed_form_is_pinned() {
        let signed = bundle().signed_bytes();
        assert_eq!(signed[..PURPOSE.len()], *PURPOSE);
        assert_eq!(signed[PURPOSE.len()..][..32], [1; 32], "the digest stands first");
        assert_eq!(Digest::of(&signed).0[..4], [0x2f, 0xb5, 0xe4, 0x30]);
    }

    #[test]
    fn every_field_but_the_signature_counts() {
        let signed = bundle().signed_bytes();
        assert_eq!(BundleManifest { signature: vec![1; 64], ..bundle() }.signed_bytes(), signed);
        let changes: &[fn(&mut BundleManifest)] = &[
            |it| it.name = String::from("b"),
            |it| it.artifact.model.digest = Digest([2; 32]),
            |it| it.artifact.model.precision = Precision::I8,
            |it| it.artifact.model.input = Input { element: Element::U8, ..it.artifact.model.input },
            |it| it.artifact.model.input.layout = Layout::Nhwc,
            |it| it.artifact.model.input.range = Some(Range { black: 0.0, white: 0.0 }),
            |it| it.artifact.execution.engine.push('x'),
            |it| it.artifact.execution.threads = 2,
            |it| it.artifact.execution.batch = 2,
            |it| it.artifact.execution.pace_us = 2,
            |it| it.artifact.classes.reverse(),
            |it| it.artifact.classes = vec![String::from("okd"), String::from("efect")],
            |it| it.artifact.target.clear(),
            |it| it.artifact.number = 8,
            |it| it.golden.input_seed = 3,
            |it| it.golden.logits.push(0.5),
            |it| it.golden.tolerance = 0.125,
            |it| it.latency_limit_ns = Some(0),
            |it| it.signer = [4; 32],
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = bundle();
            change(&mut other);
            assert_ne!(other.signed_bytes(), signed, "change {index}");
        }
    }
}
