//! Teacher and student layer by layer, by name: surgery keeps the names of what it keeps.

use super::contents::LayerRow;
use crate::network::layer::Pool;
use crate::network::{Layer, Network, NodeId};

/// One row for each convolution and linear layer of the teacher.
pub(super) fn side_by_side(teacher: &Network, student: Option<&Network>) -> Vec<LayerRow> {
    let mut rows = Vec::new();
    for (id, node) in teacher.nodes().iter().enumerate() {
        let Some(teacher_width) = width(&node.layer) else { continue };
        let kept = student.and_then(|student| Some((student, student.find(&node.name)?)));
        rows.push(LayerRow {
            name: node.name.clone(),
            kind: geometry(&node.layer),
            teacher_width,
            student_width: kept.and_then(|(student, id)| width(&student.nodes()[id].layer)),
            teacher_params: trained_parameters(teacher, id),
            student_params: kept.map_or(0, |(student, id)| trained_parameters(student, id)),
        });
    }
    rows
}

/// Channels or features that a layer with a weight writes.
fn width(layer: &Layer) -> Option<usize> {
    match layer {
        Layer::Conv(conv) => Some(conv.out_channels),
        Layer::Linear(linear) => Some(linear.out_features),
        Layer::Input(_)
        | Layer::BatchNorm(_)
        | Layer::Activation(_)
        | Layer::MaxPool(_)
        | Layer::AveragePool(_)
        | Layer::GlobalAveragePool
        | Layer::Flatten
        | Layer::Add
        | Layer::Dropout(_)
        | Layer::Softmax => None,
    }
}

/// Values of a node that training changes.
pub(crate) fn trained_parameters(network: &Network, id: NodeId) -> u64 {
    let parameters = network.nodes()[id].parameters();
    parameters
        .iter()
        .filter(|it| it.role.is_trained())
        .map(|it| it.dims.iter().product::<usize>() as u64)
        .sum()
}

/// Kind and window in words: `conv 3x3 /2`.
pub(crate) fn geometry(layer: &Layer) -> String {
    let Some(Pool { kernel, stride, .. }) = layer.window() else { return layer.kind().into() };
    let stride = if stride > 1 { format!(" /{stride}") } else { String::new() };
    format!("{} {kernel}x{kernel}{stride}", layer.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::surgery::removal::remove;
    use crate::network::zoo::{Architecture, build};

    #[test]
    fn a_removed_layer_keeps_its_row_and_loses_its_width() {
        let input = Input { channels: 1, height: 28, width: 28 };
        let teacher = build(Architecture::Vgg11, input, 10, 0.125).unwrap();
        let units = teacher.units();
        let keep: Vec<bool> = units.iter().map(|unit| unit.name != "conv4_2").collect();
        let student = remove(&teacher, &keep).unwrap().network;
        let rows = side_by_side(&teacher, Some(&student));
        let removed: Vec<&str> =
            rows.iter().filter(|row| row.student_width.is_none()).map(|row| row.name.as_str()).collect();
        assert_eq!(removed, ["conv4_2"]);
        assert_eq!(rows.iter().find(|row| row.name == "conv4_2").unwrap().student_params, 0);
        assert!(side_by_side(&teacher, None).iter().all(|row| row.student_width.is_none()));
    }
}
