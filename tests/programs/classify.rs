//! The Rust program that the README shows, line by line: what people copy is compiled and run.

#![allow(warnings, clippy::all, clippy::pedantic, reason = "it is written for people, on one page")]

include!("classify.rs.txt");
