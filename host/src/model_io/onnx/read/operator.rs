//! One ONNX node to one layer: every attribute and every tensor that `write` gives it, and no other.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::error::{ReadError, wrong};
use super::limits::bounded;
use super::tensors::{RELU6_BOUNDS, Tensors};
use crate::model_io::onnx::write::read_back;
use crate::network::Layer;
use crate::network::layer::{Activation, BatchNorm, Conv, Linear, Pool};

/// One ONNX node on its way to a layer.
pub(super) struct Operator<'a> {
    pub(super) proto: &'a NodeProto,
    pub(super) tensors: &'a Tensors<'a>,
}

impl<'a> Operator<'a> {
    fn place(&self) -> String {
        format!("node `{}` ({})", self.proto.name, self.proto.op_type)
    }

    pub(super) fn wrong(&self, expected: &str, got: &str) -> ReadError {
        wrong(self.place(), expected, got)
    }

    pub(super) fn output(&self) -> Result<&'a str, ReadError> {
        match &self.proto.output[..] {
            [output] => Ok(output),
            outputs => Err(self.wrong("one output", &outputs.len().to_string())),
        }
    }

    /// A pool over the whole map leaves a map of one pixel: `write` puts a Flatten behind it.
    pub(super) fn is_followed_by_flatten(&self) -> bool {
        self.proto.op_type == "GlobalAveragePool"
    }

    pub(super) fn layer(&self) -> Result<Layer, ReadError> {
        let layer = match self.proto.op_type.as_str() {
            "Conv" => self.conv()?,
            "BatchNormalization" => {
                let [channels] = self.tensors.dims(&self.tensor_name("weight"))?;
                self.tensor_inputs(1, &["weight", "bias", "running_mean", "running_var"])?;
                let [epsilon] = self.attributes(["epsilon"])?;
                let epsilon =
                    read_back(epsilon.f).filter(|_| epsilon.r#type == i32::from(AttributeType::Float));
                let epsilon = epsilon.filter(|epsilon| epsilon.is_finite() && *epsilon >= 0.0);
                let epsilon = epsilon.ok_or_else(|| self.wrong("a positive epsilon", "another value"))?;
                Layer::BatchNorm(BatchNorm { channels, epsilon })
            }
            "Relu" => self.plain(Layer::Activation(Activation::Relu))?,
            "Clip" => {
                self.tensor_inputs(1, &RELU6_BOUNDS.map(|(suffix, _)| suffix))?;
                for (suffix, bound) in RELU6_BOUNDS {
                    if !self.tensors.is_scalar(&self.tensor_name(suffix), bound) {
                        return Err(self.wrong("bounds 0 and 6", "others"));
                    }
                }
                let [] = self.attributes([])?;
                Layer::Activation(Activation::Relu6)
            }
            "MaxPool" => {
                self.tensor_inputs(1, &[])?;
                let [kernel, pads, strides] = self.attributes(["kernel_shape", "pads", "strides"])?;
                Layer::MaxPool(self.pool(kernel, pads, strides)?)
            }
            "AveragePool" => {
                self.tensor_inputs(1, &[])?;
                let [kernel, pads, strides, include] =
                    self.attributes(["kernel_shape", "pads", "strides", "count_include_pad"])?;
                self.int(include, 0)?;
                Layer::AveragePool(self.pool(kernel, pads, strides)?)
            }
            "GlobalAveragePool" => self.plain(Layer::GlobalAveragePool)?,
            "Flatten" => self.with_axis(Layer::Flatten)?,
            "Gemm" => {
                let [out_features, in_features] = self.tensors.dims(&self.tensor_name("weight"))?;
                let bias = self.weight_and_bias()?;
                let [trans_b] = self.attributes(["transB"])?;
                self.int(trans_b, 1)?;
                Layer::Linear(Linear { in_features, out_features, bias })
            }
            "Add" => {
                self.tensor_inputs(2, &[])?;
                let [] = self.attributes([])?;
                Layer::Add
            }
            "Softmax" => self.with_axis(Layer::Softmax)?,
            other => return Err(self.wrong("an operator that n2n writes", other)),
        };
        if self.proto.domain.is_empty() {
            Ok(layer)
        } else {
            Err(self.wrong("the standard domain", &self.proto.domain))
        }
    }

    fn conv(&self) -> Result<Layer, ReadError> {
        let [out_channels, group_inputs, rows, columns] = self.tensors.dims(&self.tensor_name("weight"))?;
        let bias = self.weight_and_bias()?;
        let [dilations, group, kernel, pads, strides] =
            self.attributes(["dilations", "group", "kernel_shape", "pads", "strides"])?;
        if self.all_equal::<2>(dilations)? != 1 {
            return Err(self.wrong("dilations of 1", &format!("{:?}", dilations.ints)));
        }
        let Pool { kernel, stride, padding } = self.pool(kernel, pads, strides)?;
        if [rows, columns] != [kernel; 2] {
            return Err(self.wrong(&format!("a {kernel}x{kernel} kernel"), &format!("{rows}x{columns}")));
        }
        let groups = bounded(group.i, &|| self.place())?;
        // Both factors are at most MAX_DIM, so this cannot overflow; the network's own check compares it with its input.
        let in_channels = group_inputs * groups;
        Ok(Layer::Conv(Conv { in_channels, out_channels, kernel, stride, padding, groups, bias }))
    }

    fn pool(
        &self,
        kernel: &AttributeProto,
        pads: &AttributeProto,
        strides: &AttributeProto,
    ) -> Result<Pool, ReadError> {
        let pool = Pool {
            kernel: self.all_equal::<2>(kernel)?,
            stride: self.all_equal::<2>(strides)?,
            padding: self.all_equal::<4>(pads)?,
        };
        if pool.stride == 0 || pool.kernel == 0 {
            return Err(self.wrong("a kernel and a stride of at least 1", &format!("{pool:?}")));
        }
        Ok(pool)
    }

    /// A layer of one operand and nothing else.
    fn plain(&self, layer: Layer) -> Result<Layer, ReadError> {
        self.tensor_inputs(1, &[])?;
        let [] = self.attributes([])?;
        Ok(layer)
    }

    fn with_axis(&self, layer: Layer) -> Result<Layer, ReadError> {
        self.tensor_inputs(1, &[])?;
        let [axis] = self.attributes(["axis"])?;
        self.int(axis, 1)?;
        Ok(layer)
    }

    fn tensor_name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.proto.name)
    }

    fn weight_and_bias(&self) -> Result<bool, ReadError> {
        let bias = self.proto.input.len() > 2;
        self.tensor_inputs(1, if bias { &["weight", "bias"] } else { &["weight"] })?;
        Ok(bias)
    }

    /// That after `operands` values come exactly the layer's own tensors of these suffixes.
    fn tensor_inputs(&self, operands: usize, suffixes: &[&str]) -> Result<(), ReadError> {
        let expected: Vec<String> = suffixes.iter().map(|suffix| self.tensor_name(suffix)).collect();
        match self.proto.input.get(operands..) {
            Some(tensors) if tensors == expected => Ok(()),
            _ => {
                let expected = format!("{operands} operands and tensors [{}]", expected.join(", "));
                Err(self.wrong(&expected, &self.proto.input.join(", ")))
            }
        }
    }

    /// The attributes of these names; no other may be there.
    fn attributes<const N: usize>(&self, names: [&str; N]) -> Result<[&'a AttributeProto; N], ReadError> {
        let attributes = &self.proto.attribute;
        let missing = || {
            let got: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
            self.wrong(&format!("attributes [{}]", names.join(", ")), &got.join(", "))
        };
        if attributes.len() != N {
            return Err(missing());
        }
        let found: Vec<&AttributeProto> = names
            .iter()
            .filter_map(|name| attributes.iter().find(|attribute| attribute.name == *name))
            .collect();
        found.try_into().map_err(|_| missing())
    }

    fn int(&self, attribute: &AttributeProto, expected: i64) -> Result<(), ReadError> {
        if attribute.r#type == i32::from(AttributeType::Int) && attribute.i == expected {
            return Ok(());
        }
        Err(self.wrong(&format!("{} = {expected}", attribute.name), &attribute.i.to_string()))
    }

    /// The one value of an attribute of N equal numbers: windows are square and padding is symmetric here.
    fn all_equal<const N: usize>(&self, attribute: &AttributeProto) -> Result<usize, ReadError> {
        match attribute.ints[..] {
            [first, ..] if attribute.ints == [first; N] => bounded(first, &|| self.place()),
            _ => Err(self.wrong(&format!("{N} equal {}", attribute.name), &format!("{:?}", attribute.ints))),
        }
    }
}
