//! The teachers of the paper: VGG with batch norm and the CIFAR form of ResNet, for any image, class count and width.
//!
//! Tensor names follow PyTorch's habit (`layer2.0.conv1.weight`); parameter counts are those of docs/method.md#parameter-counts.

use std::fmt;
use std::str::FromStr;

use super::builder::{Builder, ConvChoice};
use super::layer::{Input, Layer};
use super::shape::MAX_CHANNELS;
use super::{Network, NetworkError, NodeId, Shape};

/// A family member, without image size, classes and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 8 convolutions.
    Vgg11,
    /// 10 convolutions.
    Vgg13,
    /// 13 convolutions.
    Vgg16,
    /// 16 convolutions.
    Vgg19,
    /// One basic block a stage.
    Resnet10,
    /// Two basic blocks a stage.
    Resnet18,
    /// 3, 4, 6 and 3 basic blocks.
    Resnet34,
}

/// Why a zoo model cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ZooError {
    /// No such name.
    #[error(
        "no architecture is called `{0}`; expected one of vgg11, vgg13, vgg16, vgg19, resnet10, resnet18, resnet34"
    )]
    Unknown(String),
    /// A multiplier that is no positive number, or that asks for too many channels.
    #[error(
        "width {0}: expected a number above 0 that keeps every layer at or below {MAX_CHANNELS} channels"
    )]
    Width(f64),
    /// The image or the number of classes is out of range.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Channels of VGG's five stages; each ends in a pool.
const VGG_CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];
/// Channels of ResNet's four stages; all but the first halve the map.
const RESNET_CHANNELS: [usize; 4] = [64, 128, 256, 512];

/// What distinguishes the members of a family: convolutions or blocks per stage.
enum Plan {
    Vgg([usize; 5]),
    Resnet([usize; 4]),
}

impl Architecture {
    /// Every member, smallest first within its family.
    pub const ALL: [Self; 7] =
        [Self::Vgg11, Self::Vgg13, Self::Vgg16, Self::Vgg19, Self::Resnet10, Self::Resnet18, Self::Resnet34];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vgg11 => "vgg11",
            Self::Vgg13 => "vgg13",
            Self::Vgg16 => "vgg16",
            Self::Vgg19 => "vgg19",
            Self::Resnet10 => "resnet10",
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
        }
    }

    fn plan(self) -> Plan {
        match self {
            Self::Vgg11 => Plan::Vgg([1, 1, 2, 2, 2]),
            Self::Vgg13 => Plan::Vgg([2, 2, 2, 2, 2]),
            Self::Vgg16 => Plan::Vgg([2, 2, 3, 3, 3]),
            Self::Vgg19 => Plan::Vgg([2, 2, 4, 4, 4]),
            Self::Resnet10 => Plan::Resnet([1, 1, 1, 1]),
            Self::Resnet18 => Plan::Resnet([2, 2, 2, 2]),
            Self::Resnet34 => Plan::Resnet([3, 4, 6, 3]),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = ZooError;
    fn from_str(text: &str) -> Result<Self, ZooError> {
        let wanted = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == wanted)
            .ok_or_else(|| ZooError::Unknown(text.to_owned()))
    }
}

/// Builds a zoo model. `width` multiplies every channel count (rounded, at least 1). VGG leaves out a pool whose input is
/// narrower than its kernel, so that images under 32 pixels work.
///
/// # Errors
/// A width, image or number of classes that gives no network.
pub fn build(
    architecture: Architecture,
    input: Input,
    classes: usize,
    width: f64,
) -> Result<Network, ZooError> {
    let scaled = |channels: usize| (channels as f64 * width).round().max(1.0);
    if !(width > 0.0 && scaled(RESNET_CHANNELS[3]) <= MAX_CHANNELS as f64) {
        return Err(ZooError::Width(width));
    }
    let channels = |base: usize| scaled(base) as usize;
    Ok(match architecture.plan() {
        Plan::Vgg(convolutions) => vgg(input, classes, &convolutions, &VGG_CHANNELS.map(channels))?,
        Plan::Resnet(blocks) => resnet(input, classes, &blocks, &RESNET_CHANNELS.map(channels))?,
    })
}

fn vgg(
    input: Input,
    classes: usize,
    convolutions: &[usize],
    channels: &[usize],
) -> Result<Network, NetworkError> {
    const POOL: usize = 2;
    let mut b = Builder::new(input)?;
    let mut last = 0;
    for (stage, (&count, &out_channels)) in (1..).zip(convolutions.iter().zip(channels)) {
        for index in 1..=count {
            let choice = ConvChoice { out_channels, kernel: 3, stride: 1, padding: 1, bias: true };
            last = b.conv(format!("conv{stage}_{index}"), last, choice)?;
            last = b.batch_norm(format!("bn{stage}_{index}"), last)?;
            last = b.relu(format!("relu{stage}_{index}"), last)?;
        }
        if let Some(Shape::Map { height, width, .. }) = b.shape(last)
            && height.min(width) >= POOL
        {
            last = b.max_pool(format!("pool{stage}"), last, POOL)?;
        }
    }
    last = b.push("flatten", Layer::Flatten, &[last])?;
    b.linear("classifier", last, classes)?;
    b.finish()
}

fn resnet(
    input: Input,
    classes: usize,
    blocks: &[usize],
    channels: &[usize],
) -> Result<Network, NetworkError> {
    let mut b = Builder::new(input)?;
    let stem = ConvChoice { out_channels: channels[0], kernel: 3, stride: 1, padding: 1, bias: false };
    let mut last = b.conv("conv1", 0, stem)?;
    last = b.batch_norm("bn1", last)?;
    last = b.relu("relu1", last)?;
    for (stage, (&count, &out_channels)) in (1..).zip(blocks.iter().zip(channels)) {
        for index in 0..count {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            last = basic_block(&mut b, &format!("layer{stage}.{index}"), last, out_channels, stride)?;
        }
    }
    last = b.push("pool", Layer::GlobalAveragePool, &[last])?;
    b.linear("fc", last, classes)?;
    b.finish()
}

/// conv-bn-relu-conv-bn, plus the input (projected where its shape differs), then relu.
fn basic_block(
    b: &mut Builder,
    name: &str,
    from: NodeId,
    out_channels: usize,
    stride: usize,
) -> Result<NodeId, NetworkError> {
    let first = ConvChoice { out_channels, kernel: 3, stride, padding: 1, bias: false };
    let mut main = b.conv(format!("{name}.conv1"), from, first)?;
    main = b.batch_norm(format!("{name}.bn1"), main)?;
    main = b.relu(format!("{name}.relu1"), main)?;
    main = b.conv(format!("{name}.conv2"), main, ConvChoice { stride: 1, ..first })?;
    main = b.batch_norm(format!("{name}.bn2"), main)?;
    let mut shortcut = from;
    if stride != 1 || b.shape(from).map(Shape::channels) != Some(out_channels) {
        let projection = ConvChoice { kernel: 1, padding: 0, ..first };
        shortcut = b.conv(format!("{name}.shortcut.conv"), from, projection)?;
        shortcut = b.batch_norm(format!("{name}.shortcut.bn"), shortcut)?;
    }
    let add = b.push(format!("{name}.add"), Layer::Add, &[main, shortcut])?;
    b.relu(format!("{name}.relu2"), add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIFAR: Input = Input { channels: 3, height: 32, width: 32 };

    fn params(architecture: Architecture, classes: usize) -> u64 {
        build(architecture, CIFAR, classes, 1.0).unwrap().cost().params
    }

    #[test]
    fn parameter_counts_are_those_of_the_literature() {
        for (architecture, classes, expected) in [
            (Architecture::Resnet10, 10, 4_903_242),
            (Architecture::Resnet18, 10, 11_173_962),
            (Architecture::Resnet18, 100, 11_220_132),
            (Architecture::Resnet18, 257, 11_300_673),
            (Architecture::Resnet34, 10, 21_282_122),
            (Architecture::Resnet34, 100, 21_328_292),
            (Architecture::Vgg11, 10, 9_231_114),
            (Architecture::Vgg13, 10, 9_416_010),
            (Architecture::Vgg16, 10, 14_728_266),
            (Architecture::Vgg19, 10, 20_040_522),
        ] {
            assert_eq!(params(architecture, classes), expected, "{architecture}, {classes} classes");
        }
    }

    #[test]
    fn macs_are_those_of_the_literature() {
        let macs = |architecture| build(architecture, CIFAR, 10, 1.0).unwrap().cost().macs;
        assert_eq!(macs(Architecture::Resnet18), 555_422_720);
        assert_eq!(macs(Architecture::Vgg19), 398_136_320);
    }

    #[test]
    fn small_images_lose_the_pools_that_do_not_fit() {
        let pools = |side| {
            let image = Input { channels: 1, height: side, width: side };
            let network = build(Architecture::Vgg13, image, 10, 0.25).unwrap();
            network.nodes().iter().filter(|node| matches!(node.layer, Layer::MaxPool(_))).count()
        };
        assert_eq!([pools(1), pools(8), pools(28), pools(32), pools(64)], [0, 3, 4, 5, 5]);
    }

    #[test]
    fn every_architecture_takes_odd_and_large_images_and_thin_widths() {
        for architecture in Architecture::ALL {
            for (height, width, multiplier) in [(1, 1, 0.001), (17, 40, 0.05), (96, 96, 0.3)] {
                let image = Input { channels: 2, height, width };
                let network = build(architecture, image, 7, multiplier).unwrap();
                assert_eq!(network.classes(), 7);
            }
        }
    }

    #[test]
    fn width_scales_channels() {
        let network = build(Architecture::Vgg13, CIFAR, 10, 0.25).unwrap();
        let id = network.find("conv1_1").unwrap();
        assert_eq!(network.shapes()[id].channels(), 16);
    }

    #[test]
    fn names_parse_back_and_wrong_ones_are_named() {
        for architecture in Architecture::ALL {
            assert_eq!(architecture.to_string().parse(), Ok(architecture));
        }
        assert_eq!("vgg12".parse::<Architecture>(), Err(ZooError::Unknown("vgg12".into())));
    }

    #[test]
    fn nonsense_is_refused() {
        for width in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(
                matches!(build(Architecture::Vgg11, CIFAR, 10, width), Err(ZooError::Width(_))),
                "{width}"
            );
        }
        assert!(build(Architecture::Vgg11, CIFAR, 0, 1.0).is_err());
        let no_image = Input { channels: 3, height: 0, width: 32 };
        assert!(build(Architecture::Resnet18, no_image, 10, 1.0).is_err());
    }
}
