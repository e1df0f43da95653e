//! Layer removal: bypass whole units, and let what remains take over what a removed one did to shapes.
//!
//! Readers of a removed unit read its input instead. A convolution's stride moves to the convolutions after it. A block that
//! changes the shape leaves its projection behind, as the shortcut of the next block of its stage, whose main branch takes the
//! stride. Channel counts then follow from the operands; a tensor whose dimensions change by that has no source.

use super::{Infeasible, Inheritance, Source, Surgery, shape_change};
use crate::network::block::Block;
use crate::network::cost::Cost;
use crate::network::group::is_depthwise;
use crate::network::unit::{Part, UnitKind, parts};
use crate::network::{Layer, Network, Node, NodeId, Parameter, Role, Shape, shape};

/// Keeps the units with a true flag, in the order of [`Network::units`].
///
/// # Errors
/// The reason why the flags give no student, or one that costs more than `network`.
pub fn remove(network: &Network, keep: &[bool]) -> Result<Surgery, Infeasible> {
    let surgery = cut(network, &parts(network), keep)?;
    no_costlier(&network.cost(), &surgery.network.cost())?;
    Ok(surgery)
}

/// [`remove`] without the comparison of costs.
pub(in crate::network) fn cut(
    network: &Network,
    parts: &[Part],
    keep: &[bool],
) -> Result<Surgery, Infeasible> {
    if keep.len() != parts.len() {
        return Err(Infeasible::KeepFlags { expected: parts.len(), got: keep.len() });
    }
    let student = Network::new(Bypass::new(network, parts, keep).run()?)?;
    if student.nodes().iter().all(|node| node.layer.convolution().is_none()) {
        return Err(Infeasible::NoConvolution);
    }
    if student.classes() != network.classes() {
        return Err(Infeasible::Logits { expected: network.classes(), got: student.classes() });
    }
    let inheritance = inheritance(network, &student);
    Ok(Surgery { network: student, inheritance })
}

/// That neither MACs nor parameters rise.
pub(in crate::network) fn no_costlier(before: &Cost, after: &Cost) -> Result<(), Infeasible> {
    for (resource, before, after) in
        [("MACs", before.macs, after.macs), ("parameters", before.params, after.params)]
    {
        if after > before {
            return Err(Infeasible::Costlier { resource, before, after });
        }
    }
    Ok(())
}

/// What happens to a node of the source network.
#[derive(Clone, Copy)]
enum Fate<'a> {
    /// It stays; with its block, if that stays too.
    Stays(Option<&'a Block>),
    /// It goes, within its unit.
    Goes,
    /// It goes and was its unit's output.
    Ends(&'a Part),
}

/// One pass over the source in execution order.
struct Bypass<'a> {
    source: &'a Network,
    fates: Vec<Fate<'a>>,
    /// By source node: the node of the student that gives its value. Meaningless for nodes that go.
    stands_for: Vec<NodeId>,
    /// By source node: the stride that its readers must take over.
    owed_stride: Vec<usize>,
    /// By source node: the removed block whose change of shape its reader must take over.
    owed_shape: Vec<Option<&'a Part>>,
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

impl<'a> Bypass<'a> {
    fn new(source: &'a Network, parts: &'a [Part], keep: &[bool]) -> Self {
        let count = source.nodes().len();
        let mut fates = vec![Fate::Stays(None); count];
        for (part, &keep) in parts.iter().zip(keep) {
            for &id in &part.unit.nodes {
                fates[id] = match &part.block {
                    _ if keep => Fate::Stays(part.block.as_ref()),
                    _ if id == part.output => Fate::Ends(part),
                    Some(block) if block.changes_shape(source) && block.shortcut.contains(&id) => {
                        Fate::Stays(None)
                    }
                    _ => Fate::Goes,
                };
            }
        }
        Self {
            source,
            fates,
            stands_for: vec![0; count],
            owed_stride: vec![1; count],
            owed_shape: vec![None; count],
            nodes: Vec::with_capacity(count),
            shapes: Vec::with_capacity(count),
        }
    }

    fn run(mut self) -> Result<Vec<Node>, Infeasible> {
        for id in 0..self.source.nodes().len() {
            match self.fates[id] {
                Fate::Stays(block) => self.stay(id, block)?,
                Fate::Goes => {}
                Fate::Ends(part) => self.end(part)?,
            }
        }
        Ok(self.nodes)
    }

    /// Points the readers of a removed unit to its input, with what they owe.
    fn end(&mut self, part: &'a Part) -> Result<(), Infeasible> {
        let (input, output) = (part.input, part.output);
        self.stands_for[output] = self.stands_for[input];
        // A pool's stride is not owed: without it the map stays larger, and the costs decide.
        let stride = if part.unit.kind == UnitKind::Conv { part.unit.stride } else { 1 };
        self.owed_stride[output] = self.owed_stride[input].saturating_mul(stride);
        self.owed_shape[output] = self.owed_shape[input];
        if part.block.as_ref().is_some_and(|block| block.changes_shape(self.source)) {
            if let Some(earlier) = self.owed_shape[input] {
                return Err(self.lost_shape(earlier, &part.unit.name));
            }
            self.owed_shape[output] = Some(part);
        }
        Ok(())
    }

    /// Copies a node, rewired and with what its operands owe.
    fn stay(&mut self, id: NodeId, block: Option<&Block>) -> Result<(), Infeasible> {
        let node = &self.source.nodes()[id];
        let mut layer = node.layer.clone();
        if let (Some(block), Some(conv)) = (block, layer.convolution_mut())
            && block.carrier(self.source) == id
            && let Some(removed) = self.owed_shape[block.fork]
        {
            conv.stride = conv.stride.saturating_mul(removed.unit.stride);
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let operand = match self.owed_shape[input] {
                Some(removed) => self.take_over(id, input, removed, block)?,
                None => input,
            };
            self.pay_stride(id, &mut layer, self.owed_stride[operand])?;
            inputs.push(self.stands_for[operand]);
        }
        if let ([left, right], [was_left, was_right]) = (&inputs[..], &node.inputs[..])
            && left == right
            && was_left != was_right
        {
            return Err(Infeasible::SameOperands(node.name.clone()));
        }
        let operands: Vec<Shape> = inputs.iter().map(|&input| self.shapes[input]).collect();
        if let Some(&operand) = operands.first() {
            follow(&mut layer, operand, &node.name)?;
        }
        self.shapes.push(shape::infer(&node.name, &layer, &operands)?);
        self.stands_for[id] = self.nodes.len();
        self.nodes.push(Node { name: node.name.clone(), layer, inputs });
        Ok(())
    }

    /// The operand (a source node) that node `id` reads instead of `input`, where `removed` changed the shape: the next block's
    /// add reads the projection left behind, its main branch what the removed block read.
    fn take_over(
        &self,
        id: NodeId,
        input: NodeId,
        removed: &Part,
        block: Option<&Block>,
    ) -> Result<NodeId, Infeasible> {
        let projection = removed.block.as_ref().and_then(|block| block.shortcut.last());
        match (block, projection) {
            (Some(block), Some(&projection)) if block.fork == input && block.shortcut.is_empty() => {
                Ok(if id == block.add { projection } else { input })
            }
            _ => Err(self.lost_shape(removed, &self.source.nodes()[id].name)),
        }
    }

    /// Gives an owed stride to a convolution, or passes it on through an element-wise layer.
    fn pay_stride(&mut self, id: NodeId, layer: &mut Layer, owed: usize) -> Result<(), Infeasible> {
        if let Some(conv) = layer.convolution_mut() {
            conv.stride = conv.stride.saturating_mul(owed);
        } else if layer.nature().element_wise {
            self.owed_stride[id] = owed;
        } else if owed != 1 {
            let reader = self.source.nodes()[id].name.clone();
            return Err(Infeasible::Stride { reader, stride: owed });
        }
        Ok(())
    }

    fn lost_shape(&self, removed: &Part, reader: &str) -> Infeasible {
        let shapes = self.source.shapes();
        shape_change(&removed.unit.name, reader, shapes[removed.input], shapes[removed.output])
    }
}

/// Lets a layer read `operand`.
fn follow(layer: &mut Layer, operand: Shape, name: &str) -> Result<(), Infeasible> {
    let channels = operand.channels();
    match layer {
        Layer::Conv(conv) if conv.in_channels == channels => {}
        Layer::Conv(conv) if is_depthwise(conv) => {
            (conv.in_channels, conv.out_channels, conv.groups) = (channels, channels, channels);
        }
        Layer::Conv(conv) if conv.groups > 1 => {
            return Err(Infeasible::Grouped {
                node: name.to_owned(),
                expected: conv.in_channels,
                got: channels,
            });
        }
        Layer::Conv(conv) => conv.in_channels = channels,
        Layer::BatchNorm(norm) => norm.channels = channels,
        Layer::Linear(linear) => linear.in_features = channels,
        // Their hyper-parameters say nothing about channels.
        Layer::Input(_)
        | Layer::Activation(_)
        | Layer::MaxPool(_)
        | Layer::AveragePool(_)
        | Layer::GlobalAveragePool
        | Layer::Flatten
        | Layer::Add
        | Layer::Dropout(_)
        | Layer::Softmax => {}
    }
    Ok(())
}

/// Every tensor whole where its dimensions and the meaning of its input axis are the teacher's, else fresh.
fn inheritance(teacher: &Network, student: &Network) -> Inheritance {
    let ids: std::collections::HashMap<&str, NodeId> =
        teacher.nodes().iter().enumerate().map(|(id, node)| (node.name.as_str(), id)).collect();
    let mut sources = Vec::new();
    for (id, node) in student.nodes().iter().enumerate() {
        let origin = ids.get(node.name.as_str()).copied();
        let theirs = origin.map_or_else(Vec::new, |id| teacher.nodes()[id].parameters());
        for parameter in node.parameters() {
            let same_dims = |their: &Parameter| their.name == parameter.name && their.dims == parameter.dims;
            // As many features can be other ones: fewer channels of a larger map.
            let same_input = parameter.role != Role::Weight
                || origin.is_some_and(|origin| flattened(teacher, origin) == flattened(student, id));
            let source = if theirs.iter().any(same_dims) && same_input {
                Source::whole(&parameter.name, parameter.dims.len())
            } else {
                Source::Fresh
            };
            sources.push((parameter.name, source));
        }
    }
    Inheritance::new(sources)
}

/// The map whose flattening a linear layer reads.
fn flattened(network: &Network, linear: NodeId) -> Option<Shape> {
    let mut id = *network.nodes()[linear].inputs.first()?;
    loop {
        let node = &network.nodes()[id];
        let input = *node.inputs.first()?;
        match &node.layer {
            Layer::Flatten => return Some(network.shapes()[input]),
            Layer::Activation(_) | Layer::Dropout(_) => id = input,
            Layer::Input(_)
            | Layer::Conv(_)
            | Layer::BatchNorm(_)
            | Layer::MaxPool(_)
            | Layer::AveragePool(_)
            | Layer::GlobalAveragePool
            | Layer::Linear(_)
            | Layer::Add
            | Layer::Softmax => return None,
        }
    }
}

#[cfg(test)]
mod tests;
