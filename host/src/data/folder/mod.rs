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
//! | `remembered` | how a folder was dealt the first time |
//! | `unlabelled` | pictures without classes |

mod cache;
mod duplicates;
mod listing;
mod load;
mod parts;
mod picture;
mod remembered;
#[cfg(test)]
mod tests;
mod unlabelled;

pub(super) use load::{load, look};
pub(super) use unlabelled::load as unlabelled;
