//! `n2n`: compress a trained CNN for one board, measured on that very board, and ship the result to it.

pub mod board;
pub mod checkpoint;
pub mod cli;
pub mod compress;
pub mod config;
pub mod data;
pub mod engine_choice;
pub mod exit;
pub mod measurement;
mod memory;
pub mod model_io;
pub mod network;
pub mod normalisation;
pub mod profile;
pub mod run;
pub mod scaling;
pub mod search;
pub mod shipping;
pub mod training;
pub mod ui;
pub mod units;
pub mod usage;
mod view;
mod wording;
