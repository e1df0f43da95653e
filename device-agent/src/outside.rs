//! Whether a model file would make an engine read other files: weights "outside", as the format allows. Such a name comes
//! from a stranger, so no engine sees it.

use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

/// The name of a tensor whose data lies in another file; `None` if there is none.
pub(crate) fn outside(model: &ModelProto) -> Option<&str> {
    let in_functions = || model.functions.iter().find_map(|function| in_nodes(&function.node));
    model.graph.as_ref().and_then(in_graph).or_else(in_functions)
}

fn in_graph(graph: &GraphProto) -> Option<&str> {
    in_tensors(&graph.initializer)
        .or_else(|| graph.sparse_initializer.iter().find_map(in_sparse))
        .or_else(|| in_nodes(&graph.node))
}

fn in_nodes(nodes: &[NodeProto]) -> Option<&str> {
    nodes.iter().flat_map(|node| &node.attribute).find_map(|attribute| {
        let sparse = || attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).find_map(in_sparse);
        let graphs = || attribute.g.iter().chain(&attribute.graphs).find_map(in_graph);
        in_tensors(attribute.t.iter().chain(&attribute.tensors)).or_else(sparse).or_else(graphs)
    })
}

fn in_sparse(sparse: &SparseTensorProto) -> Option<&str> {
    in_tensors(sparse.values.iter().chain(&sparse.indices))
}

fn in_tensors<'a>(tensors: impl IntoIterator<Item = &'a TensorProto>) -> Option<&'a str> {
    let is_outside = |tensor: &&TensorProto| {
        tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
    };
    tensors.into_iter().find(is_outside).map(|tensor| tensor.name.as_str())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{AttributeProto, FunctionProto, StringStringEntryProto};

    use super::*;

    fn stranger() -> TensorProto {
        let place = StringStringEntryProto { key: "location".into(), value: "/etc/passwd".into() };
        TensorProto {
            name: "stranger".into(),
            external_data: vec![place],
            data_location: Some(DataLocation::External as i32),
            ..TensorProto::default()
        }
    }

    fn found(graph: GraphProto) -> Option<String> {
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        outside(&model).map(str::to_owned)
    }

    fn with(attribute: AttributeProto) -> Vec<NodeProto> {
        vec![NodeProto { attribute: vec![attribute], ..NodeProto::default() }]
    }

    #[test]
    fn weights_that_lie_elsewhere_are_found_wherever_a_file_may_say_so() {
        let own = TensorProto { name: "own".into(), raw_data: vec![1; 64], ..TensorProto::default() };
        let inner = GraphProto { initializer: vec![stranger()], ..GraphProto::default() };
        let sparse = SparseTensorProto { values: Some(stranger()), ..SparseTensorProto::default() };
        let attribute = AttributeProto::default;
        let graph = GraphProto::default;
        assert_eq!(found(GraphProto { initializer: vec![own.clone()], ..graph() }), None);
        for graph in [
            GraphProto { initializer: vec![own, stranger()], ..graph() },
            GraphProto { sparse_initializer: vec![sparse.clone()], ..graph() },
            GraphProto { node: with(AttributeProto { t: Some(stranger()), ..attribute() }), ..graph() },
            GraphProto { node: with(AttributeProto { tensors: vec![stranger()], ..attribute() }), ..graph() },
            GraphProto { node: with(AttributeProto { g: Some(inner.clone()), ..attribute() }), ..graph() },
            GraphProto { node: with(AttributeProto { graphs: vec![inner], ..attribute() }), ..graph() },
        ] {
            assert_eq!(found(graph).as_deref(), Some("stranger"));
        }
        let node = with(AttributeProto { t: Some(stranger()), ..attribute() });
        let functions = vec![FunctionProto { node, ..FunctionProto::default() }];
        let model = ModelProto { functions, ..ModelProto::default() };
        assert_eq!(outside(&model), Some("stranger"));
    }
}
