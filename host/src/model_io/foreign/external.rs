//! Weights in other files, as PyTorch's exporter writes them today: read and put into the model.
//!
//! A location is a name in the model's own folder or below it, never a way out of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path};

use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, TensorProto};

use super::error::ForeignError;

/// Graphs inside graphs.
const MAX_DEPTH: usize = 16;

/// Puts all weights of `graph` in, at most `most` bytes of them; how many there were. The model file is `path`.
pub(super) fn put_in(graph: &mut GraphProto, path: &Path, most: u64) -> Result<u64, ForeignError> {
    let mut bytes = 0;
    visit(graph, MAX_DEPTH, &mut |tensor| {
        if tensor.data_location != Some(DataLocation::External as i32) && tensor.external_data.is_empty() {
            return Ok(());
        }
        let raw = read(tensor, path, most - bytes)?;
        bytes += raw.len() as u64;
        tensor.raw_data = raw;
        tensor.external_data.clear();
        tensor.data_location = None;
        Ok(())
    })?;
    Ok(bytes)
}

/// Every tensor: initialisers, constants of nodes, and those of graphs inside nodes.
fn visit(
    graph: &mut GraphProto,
    depth: usize,
    see: &mut dyn FnMut(&mut TensorProto) -> Result<(), ForeignError>,
) -> Result<(), ForeignError> {
    graph.initializer.iter_mut().try_for_each(&mut *see)?;
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *see)?;
        // Deeper ones are left as they are; no engine runs them.
        if depth > 0 {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                visit(inner, depth - 1, see)?;
            }
        }
    }
    Ok(())
}

fn read(tensor: &TensorProto, path: &Path, most: u64) -> Result<Vec<u8>, ForeignError> {
    let entry =
        |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|it| it.value.as_str());
    let location = entry("location").unwrap_or_default();
    let wrong = |reason: String| ForeignError::External {
        path: path.into(),
        tensor: tensor.name.clone(),
        location: location.into(),
        reason,
    };
    let plain =
        Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !plain {
        return Err(wrong("expected a file in the model's own folder".into()));
    }
    let number = |key: &str| {
        let text = entry(key);
        text.map(|text| {
            text.parse::<u64>().map_err(|_| wrong(format!("{key}: expected a number, got `{text}`")))
        })
        .transpose()
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let file = path.parent().unwrap_or(Path::new("")).join(location);
    let io = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return wrong("the file is not there".into());
        }
        ForeignError::Io { path: file.clone(), source }
    };
    // A link could lead out of the folder.
    let linked = std::fs::symlink_metadata(&file).map_err(io)?.is_symlink();
    if linked {
        return Err(wrong("expected a file, got a link".into()));
    }
    let opened = File::open(&file).map_err(io)?;
    let whole = opened.metadata().map_err(io)?.len();
    let length = length.unwrap_or_else(|| whole.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > whole) {
        return Err(wrong(format!(
            "bytes {offset} to {}: the file has {whole}",
            offset.saturating_add(length)
        )));
    }
    if length > most {
        return Err(ForeignError::TooLarge {
            path: path.into(),
            got: length,
            limit: most,
            why: "what is left for weights in other files".into(),
        });
    }
    let mut bytes = vec![0; length as usize];
    opened.read_exact_at(&mut bytes, offset).map_err(io)?;
    Ok(bytes)
}
