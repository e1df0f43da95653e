//! A folder of pictures: each folder in it is a class, whatever lies below is its pictures; or `train/ val/ test/` of such.
//!
//! | file | what |
//! |---|---|
//! | `load` | the whole way |
//! | `listing` | what lies there, and what is left out |
//! | `parts` | the part of a picture, by its name alone |
//! | `picture` | bytes to upright, scaled planes |
//! | `cache` | decoded once, on disk |
//! | `duplicates` | the same picture in two parts |

mod cache;
mod duplicates;
mod listing;
mod load;
mod parts;
mod picture;
#[cfg(test)]
mod tests;

pub(super) use load::{load, look};
