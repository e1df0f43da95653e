//! run
pub mod report;
