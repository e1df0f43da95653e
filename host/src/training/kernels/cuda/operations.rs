//! The layers' operations on a GPU: shapes checked, results allocated, kernels launched.
#![allow(unsafe_code)] // cuDNN is given addresses: of arrays whose shapes were checked just before.

use candle_core::{Error, Result, bail};

use super::dnn::Pass;
use super::geometry::{
    block_each, convolved, dense, expect, four, map, matrix, pooled, shape, sum_grid, weight_dims, window,
};
use super::lane::{Argument, walk};
use super::table::Row;
use super::{Array, Cuda};
use crate::network::layer::{Activation, Conv, Pool};
use crate::training::kernels::map::Map;
use crate::training::kernels::{BatchNormGradient, BatchStatistics, Blend, Kernels, Norm, bounds};

use Argument::{Float, Int, Null};

impl Cuda {
    /// Per image, rows and columns change places.
    fn transposed(
        &self,
        x: &Array,
        images: usize,
        rows: usize,
        columns: usize,
        dims: &[usize],
    ) -> Result<Array> {
        if rows == 1 || columns == 1 {
            return x.reshaped(dims);
        }
        let y = self.0.array(dims)?;
        let sizes = [images, rows, columns].map(|size| Int(size as i32));
        let arguments = [Argument::Array(x), Argument::Array(&y), sizes[0], sizes[1], sizes[2]];
        self.0.launch("transpose", walk(x.len()), &arguments)?;
        Ok(y)
    }

    /// Leaves a pass to cuDNN, given the addresses of its arrays; whether that did it.
    fn by_dnn(
        &self,
        conv: &Conv,
        input: Map,
        output: Map,
        arrays: [&Array; 3],
        pass: impl Fn([u64; 3]) -> Pass,
    ) -> Result<bool> {
        if conv.groups > 1 {
            return Ok(false);
        }
        let pass = pass(arrays.map(|array| self.0.address(array)));
        // SAFETY: callers give arrays of this lane that they have checked against, or made for, the shape.
        unsafe { self.0.dnn().run(shape(input, output, conv), pass) }
            .map_err(|error| Error::msg(error.to_string()))
    }

    fn convolve(&self, x: &Array, weight: &Array, input: Map, output: Map, conv: &Conv) -> Result<Array> {
        let y = self.0.array(&output.dims())?;
        if !self.by_dnn(conv, input, output, [x, weight, &y], |[x, weight, y]| Pass::Forward {
            x,
            weight,
            y,
        })? {
            self.grouped("grouped", [x, weight, &y], input, output, conv)?;
        }
        Ok(y)
    }

    fn input_gradient(
        &self,
        weight: &Array,
        gradient: &Array,
        input: Map,
        output: Map,
        conv: &Conv,
    ) -> Result<Array> {
        let y = self.0.array(&input.dims())?;
        let pass = |[weight, gradient, x]: [u64; 3]| Pass::Input { weight, gradient, x };
        if !self.by_dnn(conv, input, output, [weight, gradient, &y], pass)? {
            self.grouped("grouped_input_gradient", [gradient, weight, &y], input, output, conv)?;
        }
        Ok(y)
    }

    fn grouped(
        &self,
        kernel: &'static str,
        [a, b, y]: [&Array; 3],
        input: Map,
        output: Map,
        conv: &Conv,
    ) -> Result<()> {
        let window = window(input, output, conv.kernel, conv.stride, conv.padding);
        let arguments = [
            Argument::Array(a),
            Argument::Array(b),
            Argument::Array(y),
            Argument::Window(window),
            Int(conv.out_channels as i32),
            Int(conv.groups as i32),
            Int(y.len() as i32),
        ];
        self.0.launch(kernel, walk(y.len()), &arguments)
    }

    /// Factor and term of the affine function that a norm of known statistics is.
    fn affine(&self, norm: Norm<'_, Array>, statistics: &BatchStatistics<Array>) -> Result<(Array, Array)> {
        let channels = norm.scale.len();
        for each in [norm.scale, norm.shift, &statistics.mean, &statistics.variance] {
            expect("batch norm parameter", each, &[channels])?;
        }
        let (factors, terms) = (self.0.array(&[channels])?, self.0.array(&[channels])?);
        let arguments = [
            Argument::Array(norm.scale),
            Argument::Array(norm.shift),
            Argument::Array(&statistics.mean),
            Argument::Array(&statistics.variance),
            Float(norm.epsilon as f32),
            Argument::Array(&factors),
            Argument::Array(&terms),
            Int(channels as i32),
        ];
        self.0.launch("affine_of_norm", walk(channels), &arguments)?;
        Ok((factors, terms))
    }

    fn pool_gradient(
        &self,
        x: &Array,
        winners: Option<&Array>,
        gradient: &Array,
        pool: &Pool,
    ) -> Result<Array> {
        let (input, output, window) = pooled(x, pool)?;
        expect("pool gradient", gradient, &output.dims())?;
        if let Some(winners) = winners {
            expect("max pool winners", winners, &output.dims())?;
        }
        let y = self.0.array(&input.dims())?;
        let arguments = [
            Argument::Array(gradient),
            winners.map_or(Null, Argument::Array),
            Argument::Array(&y),
            Argument::Window(window),
            Int(y.len() as i32),
        ];
        self.0.launch("pool_gradient", walk(y.len()), &arguments)?;
        Ok(y)
    }

    /// A kernel from one or two arrays of one shape, value by value.
    fn pointwise(
        &self,
        kernel: &'static str,
        arrays: &[&Array],
        clipped: Option<(f32, f32)>,
    ) -> Result<Array> {
        for other in &arrays[1..] {
            expect(kernel, other, &arrays[0].dims)?;
        }
        let y = self.0.array(&arrays[0].dims)?;
        let mut arguments: Vec<Argument<'_>> = arrays.iter().map(|array| Argument::Array(array)).collect();
        arguments.extend([Argument::Array(&y), Int(y.len() as i32)]);
        arguments.extend(clipped.into_iter().flat_map(|(low, high)| [Float(low), Float(high)]));
        self.0.launch(kernel, walk(y.len()), &arguments)?;
        Ok(y)
    }
}

impl Kernels for Cuda {
    type Tensor = Array;

    fn tensor(&self, values: Vec<f32>, dims: &[usize]) -> Result<Array> {
        if values.is_empty() || dims.iter().product::<usize>() != values.len() {
            bail!("GPU array: expected values for dimensions {dims:?}, got {}", values.len());
        }
        Ok(Array { slice: std::sync::Arc::new(self.0.upload(&values)?), dims: dims.to_vec() })
    }

    fn values(&self, tensor: &Array) -> Result<Vec<f32>> {
        self.0.download(tensor)
    }

    fn dims(&self, tensor: &Array) -> Vec<usize> {
        tensor.dims.clone()
    }

    fn weight_from_oihw(&self, weight: &Array) -> Result<Array> {
        let [outputs, inputs, height, width] = four(weight)?;
        self.transposed(weight, outputs, inputs, height * width, &[outputs, height, width, inputs])
    }

    fn weight_to_oihw(&self, weight: &Array) -> Result<Array> {
        let [outputs, height, width, inputs] = four(weight)?;
        self.transposed(weight, outputs, height * width, inputs, &[outputs, inputs, height, width])
    }

    fn map_from_nchw(&self, images: &Array) -> Result<Array> {
        let [count, channels, height, width] = four(images)?;
        self.transposed(images, count, channels, height * width, &[count, height, width, channels])
    }

    fn map_to_nchw(&self, x: &Array) -> Result<Array> {
        let Map { images, height, width, channels } = map(x)?;
        self.transposed(x, images, height * width, channels, &[images, channels, height, width])
    }

    fn map_dims(&self, x: &Array) -> Result<[usize; 4]> {
        let Map { images, height, width, channels } = map(x)?;
        Ok([images, channels, height, width])
    }

    fn convolution(
        &self,
        x: &Array,
        weight: &Array,
        bias: Option<&Array>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Array> {
        let (input, output) = convolved(x, Some(weight), conv)?;
        if let Some(bias) = bias {
            expect("convolution bias", bias, &[conv.out_channels])?;
        }
        let y = self.convolve(x, weight, input, output, conv)?;
        if bias.is_some() || activation.is_some() {
            let (low, high) = bounds(activation);
            let arguments = [
                Argument::Array(&y),
                bias.map_or(Null, Argument::Array),
                Int(y.len() as i32),
                Int(conv.out_channels as i32),
                Float(low),
                Float(high),
            ];
            self.0.launch("bias_activate", walk(y.len()), &arguments)?;
        }
        Ok(y)
    }

    fn convolution_input_gradient(
        &self,
        x: &Array,
        weight: &Array,
        gradient: &Array,
        conv: &Conv,
    ) -> Result<Array> {
        let (input, output) = convolved(x, Some(weight), conv)?;
        expect("convolution gradient", gradient, &output.dims())?;
        self.input_gradient(weight, gradient, input, output, conv)
    }

    fn convolution_weight_gradient(&self, x: &Array, gradient: &Array, conv: &Conv) -> Result<Array> {
        let (input, output) = convolved(x, None, conv)?;
        expect("convolution gradient", gradient, &output.dims())?;
        let y = self.0.array(&weight_dims(conv))?;
        let pass = |[x, gradient, weight]: [u64; 3]| Pass::Weight { x, gradient, weight };
        if !self.by_dnn(conv, input, output, [x, gradient, &y], pass)? {
            let window = window(input, output, conv.kernel, conv.stride, conv.padding);
            let arguments = [
                Argument::Array(x),
                Argument::Array(gradient),
                Argument::Array(&y),
                Argument::Window(window),
                Int(conv.out_channels as i32),
                Int(conv.groups as i32),
                Int(input.images as i32),
            ];
            self.0.launch("grouped_weight_gradient", block_each(y.len()), &arguments)?;
        }
        Ok(y)
    }

    fn channel_sums(&self, x: &Array) -> Result<Array> {
        let Some(&channels) = x.dims.last() else { bail!("channel sums: expected a map or vectors") };
        let rows = x.len() / channels;
        let (grid, chunks) = sum_grid(rows, channels);
        let (sums, y) = (self.0.array(&[chunks, channels])?, self.0.array(&[channels])?);
        let [rows, channels_, chunks] = [rows, channels, chunks].map(|size| Int(size as i32));
        let arguments = [Argument::Array(x), Argument::Array(&sums), rows, channels_];
        self.0.launch("channel_sums", grid, &arguments)?;
        let arguments = [Argument::Array(&sums), Argument::Array(&y), chunks, channels_];
        self.0.launch("finish_sums", block_each(channels), &arguments)?;
        Ok(y)
    }

    fn linear(&self, x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
        let ((images, features), (outputs, inputs)) =
            (matrix("linear", x)?, matrix("linear weight", weight)?);
        if features != inputs {
            bail!("linear: expected {inputs} features, got {features}");
        }
        let x = x.reshaped(&[images, 1, 1, inputs])?;
        let weight = weight.reshaped(&[outputs, 1, 1, inputs])?;
        self.convolution(&x, &weight, bias, &dense(inputs, outputs), None)?.reshaped(&[images, outputs])
    }

    fn linear_input_gradient(&self, weight: &Array, gradient: &Array) -> Result<Array> {
        let ((outputs, inputs), (images, _)) =
            (matrix("linear weight", weight)?, matrix("linear gradient", gradient)?);
        expect("linear gradient", gradient, &[images, outputs])?;
        let [input, output] = [inputs, outputs].map(|channels| Map { images, height: 1, width: 1, channels });
        self.input_gradient(weight, gradient, input, output, &dense(inputs, outputs))?
            .reshaped(&[images, inputs])
    }

    fn linear_weight_gradient(&self, x: &Array, gradient: &Array) -> Result<Array> {
        let ((images, inputs), (rows, outputs)) =
            (matrix("linear", x)?, matrix("linear gradient", gradient)?);
        if rows != images {
            bail!("linear gradient: expected {images} rows, got {rows}");
        }
        let x = x.reshaped(&[images, 1, 1, inputs])?;
        let gradient = gradient.reshaped(&[images, 1, 1, outputs])?;
        self.convolution_weight_gradient(&x, &gradient, &dense(inputs, outputs))?.reshaped(&[outputs, inputs])
    }

    fn batch_norm(
        &self,
        x: &Array,
        norm: Norm<'_, Array>,
        activation: Option<Activation>,
    ) -> Result<(Array, BatchStatistics<Array>)> {
        let (rows, channels) = (map(x)?.pixels(), map(x)?.channels);
        let (grid, chunks) = sum_grid(rows, channels);
        let (sums, squares) = (self.0.array(&[chunks, channels])?, self.0.array(&[chunks, channels])?);
        let (mean, variance) = (self.0.array(&[channels])?, self.0.array(&[channels])?);
        let [rows_, channels_, chunks] = [rows, channels, chunks].map(|size| Int(size as i32));
        let partial = [Argument::Array(x), Argument::Array(&sums), Argument::Array(&squares)];
        self.0.launch("moments", grid, &[&partial[..], &[rows_, channels_]].concat())?;
        let finished = [Argument::Array(&mean), Argument::Array(&variance), chunks, rows_, channels_];
        self.0.launch("finish_moments", block_each(channels), &[&partial[..], &finished].concat())?;
        let statistics = BatchStatistics { mean, variance };
        Ok((self.batch_norm_fixed(x, norm, &statistics, activation)?, statistics))
    }

    fn batch_norm_fixed(
        &self,
        x: &Array,
        norm: Norm<'_, Array>,
        statistics: &BatchStatistics<Array>,
        activation: Option<Activation>,
    ) -> Result<Array> {
        let channels = map(x)?.channels;
        expect("batch norm parameter", norm.scale, &[channels])?;
        let (factors, terms) = self.affine(norm, statistics)?;
        let (y, (low, high)) = (self.0.array(&x.dims)?, bounds(activation));
        let arguments = [
            Argument::Array(x),
            Argument::Array(&factors),
            Argument::Array(&terms),
            Argument::Array(&y),
            Int(y.len() as i32),
            Int(channels as i32),
            Float(low),
            Float(high),
        ];
        self.0.launch("normalise", walk(y.len()), &arguments)?;
        Ok(y)
    }

    fn batch_norm_gradient(
        &self,
        x: &Array,
        norm: Norm<'_, Array>,
        statistics: &BatchStatistics<Array>,
        activation: Option<Activation>,
        gradient: &Array,
        fixed: bool,
    ) -> Result<BatchNormGradient<Array>> {
        let (rows, channels) = (map(x)?.pixels(), map(x)?.channels);
        expect("batch norm gradient", gradient, &x.dims)?;
        expect("batch norm parameter", norm.scale, &[channels])?;
        let (factors, terms) = self.affine(norm, statistics)?;
        let (low, high) = bounds(activation);
        let (grid, chunks) = sum_grid(rows, channels);
        let (sums, products) = (self.0.array(&[chunks, channels])?, self.0.array(&[chunks, channels])?);
        let [rows, channels_, chunks] = [rows, channels, chunks].map(|size| Int(size as i32));
        let arguments = [
            Argument::Array(x),
            Argument::Array(gradient),
            Argument::Array(&factors),
            Argument::Array(&terms),
            Argument::Array(&statistics.mean),
            Argument::Array(&sums),
            Argument::Array(&products),
            rows,
            channels_,
            Float(low),
            Float(high),
        ];
        self.0.launch("norm_gradient_sums", grid, &arguments)?;
        let of_channels = || self.0.array(&[channels]);
        let (scale, shift, slopes, constants) =
            (of_channels()?, of_channels()?, of_channels()?, of_channels()?);
        let arguments = [
            Argument::Array(&sums),
            Argument::Array(&products),
            Argument::Array(norm.scale),
            Argument::Array(&statistics.mean),
            Argument::Array(&statistics.variance),
            Float(norm.epsilon as f32),
            Argument::Array(&scale),
            Argument::Array(&shift),
            Argument::Array(&slopes),
            Argument::Array(&constants),
            chunks,
            rows,
            channels_,
            Int(i32::from(fixed)),
        ];
        self.0.launch("finish_norm_gradient", block_each(channels), &arguments)?;
        let input = self.0.array(&x.dims)?;
        let arguments = [
            Argument::Array(x),
            Argument::Array(gradient),
            Argument::Array(&factors),
            Argument::Array(&terms),
            Argument::Array(&slopes),
            Argument::Array(&constants),
            Argument::Array(&input),
            Int(input.len() as i32),
            channels_,
            Float(low),
            Float(high),
        ];
        self.0.launch("norm_input_gradient", walk(input.len()), &arguments)?;
        Ok(BatchNormGradient { input, scale, shift })
    }

    fn blend(&self, blends: Vec<Blend<'_, Array>>) -> Result<()> {
        let rows: Vec<Row<'_>> = blends
            .iter()
            .map(|blend| Row {
                arrays: [Some(&*blend.running), Some(blend.newest), None, None],
                factors: [blend.old as f32, blend.new as f32],
                length: blend.running.len(),
            })
            .collect();
        self.launch_table("blend", &rows, &[])
    }

    fn fold(
        &self,
        weight: &Array,
        bias: Option<&Array>,
        norm: Norm<'_, Array>,
        statistics: &BatchStatistics<Array>,
    ) -> Result<(Array, Array)> {
        let outputs = norm.scale.len();
        let length = weight.len() / outputs;
        if weight.dims.first() != Some(&outputs) {
            bail!("fold: expected a weight of {outputs} outputs, got dimensions {:?}", weight.dims);
        }
        let (factors, terms) = self.affine(norm, statistics)?;
        let (folded, folded_bias) = (self.0.array(&weight.dims)?, self.0.array(&[outputs])?);
        let arguments = [
            Argument::Array(weight),
            bias.map_or(Null, Argument::Array),
            Argument::Array(&factors),
            Argument::Array(&terms),
            Argument::Array(&folded),
            Argument::Array(&folded_bias),
            Int(outputs as i32),
            Int(length as i32),
        ];
        self.0.launch("fold", walk(weight.len()), &arguments)?;
        Ok((folded, folded_bias))
    }

    fn activation(&self, x: &Array, activation: Activation) -> Result<Array> {
        self.pointwise("activate", &[x], Some(bounds(Some(activation))))
    }

    fn activation_gradient(&self, y: &Array, gradient: &Array, activation: Activation) -> Result<Array> {
        self.pointwise("activate_gradient", &[y, gradient], Some(bounds(Some(activation))))
    }

    fn add(&self, a: &Array, b: &Array, activation: Option<Activation>) -> Result<Array> {
        self.pointwise("add", &[a, b], Some(bounds(activation)))
    }

    fn multiply(&self, a: &Array, b: &Array) -> Result<Array> {
        self.pointwise("multiply", &[a, b], None)
    }

    fn max_pool(&self, x: &Array, pool: &Pool) -> Result<(Array, Array)> {
        let (_, output, window) = pooled(x, pool)?;
        let (y, winners) = (self.0.array(&output.dims())?, self.0.array(&output.dims())?);
        let arguments = [
            Argument::Array(x),
            Argument::Array(&y),
            Argument::Array(&winners),
            Argument::Window(window),
            Int(y.len() as i32),
        ];
        self.0.launch("max_pool", walk(y.len()), &arguments)?;
        Ok((y, winners))
    }

    fn max_pool_gradient(&self, x: &Array, winners: &Array, gradient: &Array, pool: &Pool) -> Result<Array> {
        self.pool_gradient(x, Some(winners), gradient, pool)
    }

    fn average_pool(&self, x: &Array, pool: &Pool) -> Result<Array> {
        let (_, output, window) = pooled(x, pool)?;
        let y = self.0.array(&output.dims())?;
        let arguments =
            [Argument::Array(x), Argument::Array(&y), Argument::Window(window), Int(y.len() as i32)];
        self.0.launch("average_pool", walk(y.len()), &arguments)?;
        Ok(y)
    }

    fn average_pool_gradient(&self, x: &Array, gradient: &Array, pool: &Pool) -> Result<Array> {
        self.pool_gradient(x, None, gradient, pool)
    }

    fn global_average(&self, x: &Array) -> Result<Array> {
        let Map { images, height, width, channels } = map(x)?;
        let y = self.0.array(&[images, channels])?;
        let sizes = [images, height * width, channels].map(|size| Int(size as i32));
        let arguments = [&[Argument::Array(x), Argument::Array(&y)], &sizes[..]].concat();
        self.0.launch("global_average", walk(y.len()), &arguments)?;
        Ok(y)
    }

    fn global_average_gradient(&self, x: &Array, gradient: &Array) -> Result<Array> {
        let Map { images, height, width, channels } = map(x)?;
        expect("global average gradient", gradient, &[images, channels])?;
        let y = self.0.array(&x.dims)?;
        let sizes = [images, height * width, channels].map(|size| Int(size as i32));
        let arguments = [&[Argument::Array(gradient), Argument::Array(&y)], &sizes[..]].concat();
        self.0.launch("global_average_gradient", walk(y.len()), &arguments)?;
        Ok(y)
    }

    fn flatten(&self, x: &Array) -> Result<Array> {
        let images = map(x)?.images;
        self.map_to_nchw(x)?.reshaped(&[images, x.len() / images])
    }

    fn flatten_gradient(&self, x: &Array, gradient: &Array) -> Result<Array> {
        let Map { images, height, width, channels } = map(x)?;
        self.map_from_nchw(&gradient.reshaped(&[images, channels, height, width])?)
    }
}
