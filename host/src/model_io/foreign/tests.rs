//! Files of all kinds, written here byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

use n2n_protocol::Element;
use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, type_proto};

use super::*;
use crate::exit::Diagnostic as _;
use crate::model_io::filled;
use crate::model_io::onnx::tests::residual;
use crate::model_io::onnx::{Filling, ModelInfo, write};

/// A network of ours under another program's name.
fn model() -> ModelProto {
    let network = residual();
    let bytes =
        write(&network, Filling::Weights(&filled(&network, 1)), &ModelInfo::untrained(&network)).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    model.producer_name = "pytorch".into();
    model
}

fn save(folder: &Path, model: &ModelProto) -> PathBuf {
    let path = folder.join("m.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// The sizes of the input.
fn dims(model: &mut ModelProto) -> &mut Vec<tract_onnx::pb::tensor_shape_proto::Dimension> {
    let input = &mut model.graph.as_mut().unwrap().input[0];
    match input.r#type.as_mut().unwrap().value.as_mut().unwrap() {
        type_proto::Value::TensorType(tensor) => &mut tensor.shape.as_mut().unwrap().dim,
    }
}

fn told(error: &ForeignError) -> String {
    format!("{error}\n{}", error.next_step().unwrap_or_default())
}

#[test]
fn what_a_file_is_instead_is_said_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let zip = |name: &str| [b"PK\x03\x04".as_slice(), &[0; 26], name.as_bytes()].concat();
    let whole = model().encode_to_vec();
    let cases: [(Vec<u8>, &str, &str); 10] = [
        (Vec::new(), "an empty file", "again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n".to_vec(),
            "git-lfs pointer",
            "git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>".to_vec(), "an HTML page", "download it again"),
        (zip("archive/data.pkl"), "a PyTorch file", "torch.onnx.export"),
        (
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
            "a PyTorch file",
            "torch.onnx.export",
        ),
        (zip("config.json"), "a Keras model", "tf2onnx"),
        (b"\x1c\0\0\0TFL3....".to_vec(), "TensorFlow Lite", "tf2onnx"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}}".to_vec(), "safetensors", "torch.onnx.export"),
        (whole[..whole.len() / 2].to_vec(), "cut-off", "download it or export it again"),
        (b"\x12\x01x".to_vec(), "without a graph", "again"),
    ];
    for (bytes, what, mend) in cases {
        fs::write(&path, &bytes).unwrap();
        let error = told(&load(&path, None).unwrap_err());
        assert!(error.contains(what) && error.contains(mend), "{what}: {error}");
    }
}

#[test]
fn a_file_of_fixed_sizes_is_sent_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = model();
    dims(&mut model)[0].value = Some(Value::DimValue(1));
    let path = save(folder.path(), &model);
    let whole = load(&path, None).unwrap();
    assert_eq!(whole.bytes, fs::read(&path).unwrap());
    assert_eq!((whole.input.len(), whole.element, whole.producer.as_str()), (3, Element::F32, "pytorch"));
    assert!(!is_ours(&path));
    model.producer_name = "n2n".into();
    assert!(is_ours(&save(folder.path(), &model)));
}

#[test]
fn a_batch_of_any_name_becomes_one_and_other_open_sizes_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = load(&save(folder.path(), &model()), None).unwrap().input;
    for open in [
        Some(Value::DimParam("batch".into())),
        Some(Value::DimValue(-1)),
        Some(Value::DimValue(0)),
        None,
        Some(Value::DimValue(4)),
    ] {
        let mut model = model();
        dims(&mut model)[0].value = open;
        let whole = load(&save(folder.path(), &model), None).unwrap();
        let mut read = ModelProto::decode(whole.bytes.as_slice()).unwrap();
        assert_eq!(dims(&mut read)[0].value, Some(Value::DimValue(1)));
        assert_eq!(whole.input, fixed);
    }
    let mut model = model();
    dims(&mut model)[2].value = Some(Value::DimParam("height".into()));
    let path = save(folder.path(), &model);
    let error = told(&load(&path, None).unwrap_err());
    assert!(error.contains("`height`") && error.contains("--input 3x96x96"), "{error}");
    assert_eq!(load(&path, Some(&fixed)).unwrap().input, fixed);
    let error = told(&load(&path, Some(&[fixed[0] + 1, 8, 8])).unwrap_err());
    assert!(error.contains("cannot be changed"), "{error}");
    let error = told(&load(&path, Some(&[fixed[0], 8])).unwrap_err());
    assert!(error.contains("one size for each axis") || error.contains("fixed size"), "{error}");
}

#[test]
fn weights_in_another_file_are_put_in_and_no_way_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model")).unwrap();
    let inside = folder.path().join("model");
    let whole = load(&save(&inside, &model()), None).unwrap();
    let split = |location: &str, offset: u64| {
        let mut model = model();
        let mut data = vec![0xAA; offset as usize];
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.external_data = vec![
                entry("location", location.into()),
                entry("offset", data.len().to_string()),
                entry("length", tensor.raw_data.len().to_string()),
            ];
            tensor.data_location = Some(DataLocation::External as i32);
            data.append(&mut tensor.raw_data);
        }
        (save(&inside, &model), data)
    };
    let (path, data) = split("m.onnx.data", 64);
    let error = told(&load(&path, None).unwrap_err());
    assert!(error.contains("not there") && error.contains("one folder"), "{error}");
    fs::write(inside.join("m.onnx.data"), &data).unwrap();
    assert_eq!(load(&path, None).unwrap().bytes, whole.bytes);
    fs::write(inside.join("m.onnx.data"), &data[..data.len() - 1]).unwrap();
    assert!(told(&load(&path, None).unwrap_err()).contains("the file has"));

    fs::write(folder.path().join("secret"), &data).unwrap();
    let absolute = folder.path().join("secret");
    for location in ["../secret", absolute.to_str().unwrap(), ""] {
        let error = told(&load(&split(location, 64).0, None).unwrap_err());
        assert!(error.contains("own folder"), "{location}: {error}");
    }
    std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("link")).unwrap();
    assert!(told(&load(&split("link", 64).0, None).unwrap_err()).contains("got a link"));
}

#[test]
fn several_inputs_or_outputs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    let mut boxes = graph.output[0].clone();
    boxes.name = "boxes".into();
    graph.output.push(boxes);
    let error = told(&load(&save(folder.path(), &model), None).unwrap_err());
    assert!(error.contains("boxes") && error.contains("detector"), "{error}");
    let graph = model.graph.as_mut().unwrap();
    graph.output.pop();
    let mut mask = graph.input[0].clone();
    mask.name = "mask".into();
    graph.input.push(mask);
    let error = told(&load(&save(folder.path(), &model), None).unwrap_err());
    assert!(error.contains("2: input, mask"), "{error}");
}
