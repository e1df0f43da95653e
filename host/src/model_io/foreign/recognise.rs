//! What a file is that people take for an ONNX file, by its first bytes.

/// What it is, and what mends it.
pub(in crate::model_io) type Other = (&'static str, &'static str);

/// The first thing that PyTorch's old format pickles: its magic number.
const OLD_PYTORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// Bytes of a ZIP archive in which PyTorch's first names stand.
const NAMES: usize = 4096;

/// `None` for what may be ONNX.
pub(in crate::model_io) fn recognise(bytes: &[u8]) -> Option<Other> {
    let text = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    let text = text.trim_ascii_start().to_ascii_lowercase();
    let names = &bytes[..bytes.len().min(NAMES)];
    let holds = |name: &[u8]| names.windows(name.len()).any(|window| window == name);
    Some(match bytes {
        [] => ("an empty file", "write or download it again"),
        _ if text.starts_with(b"version https://git-lfs") => {
            ("a git-lfs pointer, which only names the file", "run `git lfs pull` in its repository")
        }
        _ if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") => (
            "an HTML page",
            "download it again: the address gave a page about the file; take the address of its download or raw link",
        ),
        _ if text.starts_with(b"<?xml") && holds(b"<net") => {
            ("an OpenVINO model", "give the ONNX file that it was converted from")
        }
        _ if bytes.starts_with(b"PK\x03\x04") && (holds(b"data.pkl") || holds(b"data/0")) => PYTORCH,
        _ if bytes.starts_with(OLD_PYTORCH)
            || bytes.starts_with(b"\x80\x02")
            || bytes.starts_with(b"\x80\x04") =>
        {
            PYTORCH
        }
        _ if bytes.starts_with(b"PK\x03\x04") && (holds(b"config.json") || holds(b"model.weights")) => KERAS,
        _ if bytes.starts_with(b"PK\x03\x04") => ("a ZIP archive", "unpack it and give the .onnx file in it"),
        _ if bytes.starts_with(b"\x1f\x8b") => ("a gzip archive", "unpack it and give the .onnx file in it"),
        _ if bytes.starts_with(b"\x89HDF") => KERAS,
        _ if bytes.get(4..8) == Some(b"TFL3") => (
            "a TensorFlow Lite model",
            "export the network that it came from to ONNX (python -m tf2onnx.convert --tflite FILE --output m.onnx)",
        ),
        _ if is_safetensors(bytes) => (
            "safetensors weights without a network",
            "export the whole network: torch.onnx.export(model, example, 'model.onnx')",
        ),
        _ => return None,
    })
}

const PYTORCH: Other = (
    "a PyTorch file (a state dict or a pickled model)",
    "load it in PyTorch and write it as ONNX: torch.onnx.export(model, torch.zeros(1, 3, 224, 224), 'model.onnx')",
);
const KERAS: Other =
    ("a Keras model", "write it as ONNX: python -m tf2onnx.convert --keras FILE --output model.onnx");

/// Eight bytes of length, then JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    length > 1 && length <= rest.len() as u64 && rest.starts_with(b"{\"")
}
