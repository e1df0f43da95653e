//! training

pub mod inheritance;
