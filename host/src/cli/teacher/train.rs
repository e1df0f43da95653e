//! `n2n teacher train`: images and an architecture of the zoo -> a teacher as an ONNX file with live batch norm.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  n2n teacher train --arch vgg13 --width 0.25 --data fashion-mnist --epochs 20 --out teacher.onnx
  n2n teacher train --arch resnet18 --data cifar10:/data/cifar-10-batches-bin --out resnet18.onnx

Ctrl-C stops after the current epoch's step and keeps nothing that was there before; twice ends at once.";

/// Trains a teacher from the zoo
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// vgg11, vgg13, vgg16, vgg19, resnet10, resnet18 or resnet34
    #[arg(long, value_name = "NAME")]
    arch: String,
    /// Multiplier of all widths
    #[arg(long, value_name = "SHARE", default_value = "1.0")]
    width: String,
    /// Images: bundled, or KIND:PATH with KIND one of fashion-mnist, mnist, cifar10, cifar100, svhn, folder
    #[arg(long, value_name = "KIND:PATH")]
    data: String,
    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: usize,
    /// Of initial weights, order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// ONNX file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    machine: super::super::machine::Args,
}
