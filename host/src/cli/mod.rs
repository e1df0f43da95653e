//! cli
mod interrupt;
mod model;
