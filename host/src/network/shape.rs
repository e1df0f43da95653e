//! Shape inference: what leaves a layer, given what enters it.

use super::NetworkError;
use super::layer::{Conv, Layer, Pool};

/// Most channels of a map: 32 times the widest published CNN layers; bounds what a hostile file can make us allocate.
pub const MAX_CHANNELS: usize = 1 << 16;
/// Longest edge of a map, pixels.
pub const MAX_SIDE: usize = 1 << 14;
/// Largest kernel, stride or padding, pixels.
pub const MAX_WINDOW: usize = 1 << 10;
/// Longest vector. With the limits above, products of two dimensions of anything stay far below 2^64.
pub const MAX_FEATURES: usize = 1 << 28;

/// Shape of one activation, without the batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `[channels, height, width]`.
    Map {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// `[features]`.
    Vector {
        /// Length.
        features: usize,
    },
}

impl Shape {
    /// Number of elements.
    pub fn elements(self) -> usize {
        match self {
            Self::Map { channels, height, width } => channels * height * width,
            Self::Vector { features } => features,
        }
    }

    /// Channels of a map, length of a vector: what a coupled group counts.
    pub fn channels(self) -> usize {
        match self {
            Self::Map { channels, .. } => channels,
            Self::Vector { features } => features,
        }
    }

    /// Dimensions without the batch.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map { channels, height, width } => vec![channels, height, width],
            Self::Vector { features } => vec![features],
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Map { channels, height, width } => write!(f, "{channels}x{height}x{width}"),
            Self::Vector { features } => write!(f, "{features}"),
        }
    }
}

/// Positions of a window along one axis of length `size`; 0 when it does not fit.
pub fn positions(size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    match (size + 2 * padding).checked_sub(kernel) {
        Some(room) if stride > 0 => room / stride + 1,
        _ => 0,
    }
}

/// Output shape of `layer` (node `name`) for `inputs`, which has the layer's arity.
///
/// # Errors
/// Says which node disagrees with its input, expected against got.
pub(super) fn infer(name: &str, layer: &Layer, inputs: &[Shape]) -> Result<Shape, NetworkError> {
    let wrong = |expected: String, got: String| NetworkError::Shape {
        node: name.to_owned(),
        kind: layer.kind(),
        expected,
        got,
    };
    let map = |shape: Shape| match shape {
        Shape::Map { channels, height, width } => Ok((channels, height, width)),
        Shape::Vector { .. } => Err(wrong("a channels x height x width map".into(), shape.to_string())),
    };
    let most = |what: &str, limit: usize, got: usize| {
        if got <= limit { Ok(()) } else { Err(wrong(format!("at most {limit} {what}"), got.to_string())) }
    };
    let window = |(channels, height, width): (usize, usize, usize), kernel, stride, padding| {
        for size in [kernel, stride, padding] {
            most("pixels of kernel, stride and padding", MAX_WINDOW, size)?;
        }
        let (rows, columns) =
            (positions(height, kernel, stride, padding), positions(width, kernel, stride, padding));
        if kernel == 0 || rows == 0 || columns == 0 {
            return Err(wrong(
                format!("an input of at least {kernel}x{kernel}"),
                format!("{height}x{width}"),
            ));
        }
        Ok(Shape::Map { channels, height: rows, width: columns })
    };
    let output = match layer {
        Layer::Input(input) if input.channels == 0 || input.height == 0 || input.width == 0 => Err(wrong(
            "at least one pixel".into(),
            format!("{}x{}x{}", input.channels, input.height, input.width),
        )),
        Layer::Input(input) => {
            Ok(Shape::Map { channels: input.channels, height: input.height, width: input.width })
        }
        Layer::Conv(Conv { in_channels, out_channels, kernel, stride, padding, groups, .. }) => {
            let (channels, height, width) = map(inputs[0])?;
            if channels != *in_channels {
                return Err(wrong(format!("{in_channels} channels"), format!("{channels}")));
            }
            if *groups == 0 || *out_channels == 0 || in_channels % groups != 0 || out_channels % groups != 0 {
                return Err(wrong(
                    "channels divisible by groups".into(),
                    format!("{in_channels} -> {out_channels} in {groups}"),
                ));
            }
            window((*out_channels, height, width), *kernel, *stride, *padding)
        }
        Layer::BatchNorm(norm) => {
            let (channels, ..) = map(inputs[0])?;
            if channels != norm.channels {
                return Err(wrong(format!("{} channels", norm.channels), format!("{channels}")));
            }
            if !(norm.epsilon > 0.0 && norm.epsilon.is_finite()) {
                return Err(wrong("an epsilon above 0".into(), norm.epsilon.to_string()));
            }
            Ok(inputs[0])
        }
        Layer::MaxPool(Pool { kernel, stride, padding })
        | Layer::AveragePool(Pool { kernel, stride, padding }) => {
            if padding >= kernel {
                return Err(wrong(format!("padding below the kernel {kernel}"), padding.to_string()));
            }
            window(map(inputs[0])?, *kernel, *stride, *padding)
        }
        Layer::GlobalAveragePool => map(inputs[0]).map(|(channels, ..)| Shape::Vector { features: channels }),
        // Channels and sides are within their limits here, so the product does not overflow.
        Layer::Flatten => Ok(Shape::Vector { features: inputs[0].elements() }),
        Layer::Linear(linear) => match inputs[0] {
            Shape::Vector { features } if features == linear.in_features && linear.out_features > 0 => {
                Ok(Shape::Vector { features: linear.out_features })
            }
            other @ (Shape::Map { .. } | Shape::Vector { .. }) => {
                Err(wrong(format!("a vector of {}", linear.in_features), other.to_string()))
            }
        },
        Layer::Add => {
            if inputs[0] == inputs[1] {
                Ok(inputs[0])
            } else {
                Err(wrong(inputs[0].to_string(), inputs[1].to_string()))
            }
        }
        Layer::Dropout(dropout) if !(0.0..1.0).contains(&dropout.probability) => {
            Err(wrong("a probability in [0, 1)".into(), dropout.probability.to_string()))
        }
        Layer::Activation(_) | Layer::Dropout(_) | Layer::Softmax => Ok(inputs[0]),
    }?;
    match output {
        Shape::Map { channels, height, width } => {
            most("channels", MAX_CHANNELS, channels)?;
            most("pixels a side", MAX_SIDE, height.max(width))?;
        }
        Shape::Vector { features } => most("features", MAX_FEATURES, features)?,
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::{Activation, BatchNorm, Dropout, Input, Linear};

    const MAP: Shape = Shape::Map { channels: 4, height: 5, width: 7 };

    fn conv(in_channels: usize, groups: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
        Layer::Conv(Conv { in_channels, out_channels: 6, kernel, stride, padding, groups, bias: false })
    }

    #[test]
    fn windows_round_down() {
        let shape = infer("n", &conv(4, 2, 3, 2, 1), &[MAP]).unwrap();
        assert_eq!(shape, Shape::Map { channels: 6, height: 3, width: 4 });
        let pool = Layer::AveragePool(Pool { kernel: 2, stride: 2, padding: 0 });
        assert_eq!(infer("n", &pool, &[MAP]).unwrap(), Shape::Map { channels: 4, height: 2, width: 3 });
    }

    #[test]
    fn what_does_not_fit_names_the_node_and_both_sides() {
        let error = infer("c1", &conv(3, 1, 3, 1, 1), &[MAP]).unwrap_err().to_string();
        assert_eq!(error, "node `c1` (conv): expected 3 channels, got 4");
    }

    #[test]
    fn illegal_layers_are_refused() {
        let vector = Shape::Vector { features: 8 };
        let padded = Pool { kernel: 2, stride: 2, padding: 2 };
        let linear = Linear { in_features: 9, out_features: 2, bias: true };
        for (layer, operand) in [
            (conv(4, 0, 3, 1, 1), MAP),
            (conv(4, 4, 3, 1, 1), MAP),
            (conv(4, 1, 0, 1, 1), MAP),
            (conv(4, 1, 3, 0, 1), MAP),
            (conv(4, 1, 9, 1, 0), MAP),
            (conv(4, 1, MAX_WINDOW + 1, 1, MAX_WINDOW), MAP),
            (conv(4, 1, 3, usize::MAX, 1), MAP),
            (conv(8, 1, 1, 1, 0), vector),
            (Layer::MaxPool(padded), MAP),
            (Layer::Linear(linear), vector),
            (Layer::Linear(linear), MAP),
            (Layer::BatchNorm(BatchNorm { channels: 4, epsilon: f64::NAN }), MAP),
            (Layer::Dropout(Dropout { probability: 1.0 }), MAP),
        ] {
            assert!(infer("n", &layer, &[operand]).is_err(), "{layer:?} of {operand}");
        }
        assert!(infer("n", &Layer::Add, &[MAP, vector]).is_err());
        assert!(infer("n", &Layer::Activation(Activation::Relu), &[vector]).is_ok());
    }

    #[test]
    fn absurd_sizes_are_errors_and_no_overflow() {
        for side in [MAX_SIDE + 1, usize::MAX] {
            assert!(Builder::new(Input { channels: 1, height: side, width: 1 }).is_err());
        }
        let mut b =
            Builder::new(Input { channels: MAX_CHANNELS, height: MAX_SIDE, width: MAX_SIDE }).unwrap();
        assert!(b.push("flat", Layer::Flatten, &[0]).is_err());
        let choice = ConvChoice {
            out_channels: MAX_CHANNELS,
            kernel: MAX_WINDOW,
            stride: 1,
            padding: 511,
            bias: false,
        };
        let conv = b.conv("conv", 0, choice).unwrap();
        b.push("pool", Layer::GlobalAveragePool, &[conv]).unwrap();
        assert_eq!(b.finish().unwrap().cost().macs, u64::MAX);
    }
}
