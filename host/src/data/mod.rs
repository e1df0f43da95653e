//! Data sets: one file per format, images kept as `u8` and normalised per batch.
//!
//! | module | what it holds |
//! |---|---|
//! | `load` | a whole data set from its specification |
//! | `spec`, `kind`, `options`, `wishes` | `--data KIND:PATH`, checked; the table of kinds; how much is wanted |
//! | `samples`, `statistics` | images and labels in memory; their normalisation |
//! | `idx` | MNIST and Fashion-MNIST |
//! | `cifar` | CIFAR-10 and CIFAR-100, binary version |
//! | `svhn`, `matlab` | SVHN cropped digits, and the MATLAB v5 files they come in |
//! | `folder` | a folder a class, pictures of any size and format |
//! | `npz` | NumPy archives |
//! | `pixels` | images in memory, or in a file that is too large for it |
//! | `facts`, `series` | what is known beside the images; which pictures are of one subject |
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
mod facts;
mod folder;
mod idx;
mod kind;
mod load;
mod matlab;
mod npz;
mod options;
mod pixels;
mod samples;
mod series;
mod source;
mod spec;
mod split;
mod statistics;
mod svhn;
mod wishes;

pub use crate::normalisation::Normalisation;
pub use error::DataError;
pub use facts::{Facts, Sizes, Skipped};
pub use kind::DataKind;
pub use load::{Dataset, load, load_told, look};
pub use options::LoadOptions;
pub use pixels::Pixels;
pub use samples::{Samples, UNLABELLED};
pub use series::{Series, Split};
pub use spec::DataSpec;
pub use wishes::Wishes;
