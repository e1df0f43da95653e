//! Data sets: one file per format, all read into memory once as `u8` and normalised per batch.
//!
//! | module | what it holds |
//! |---|---|
//! | `load` | a whole data set from its specification |
//! | `spec`, `kind`, `options` | `--data KIND:PATH`, checked; the table of kinds; how much is wanted |
//! | `samples`, `statistics` | images and labels in memory; their normalisation |
//! | `idx` | MNIST and Fashion-MNIST |
//! | `cifar` | CIFAR-10 and CIFAR-100, binary version |
//! | `svhn`, `matlab` | SVHN cropped digits, and the MATLAB v5 files they come in |
//! | `image_folder` | a folder a class, PNG and JPEG |
//! | `bundled` | the subset of Fashion-MNIST inside this program |
//! | `split` | validation halves, cut from the training data |
//! | `source` | bounded reading of plain and gzip files |
//!
//! Loaders trust no byte of a file: lengths are checked against named limits before allocation, and an error names
//! the file, what was expected and what was found.
//!
//! To add a format: one file with a `load` that returns `Whole` or `split::Parts`, one row in `kind::KINDS`, one arm in
//! [`load`](load()).

mod bundled;
mod cifar;
mod error;
mod idx;
mod image_folder;
mod kind;
mod load;
mod matlab;
mod options;
mod samples;
mod source;
mod spec;
mod split;
mod statistics;
mod svhn;

pub use crate::normalisation::Normalisation;
pub use error::DataError;
pub use kind::DataKind;
pub use load::{Dataset, load};
pub use options::LoadOptions;
pub use samples::Samples;
pub use spec::DataSpec;
