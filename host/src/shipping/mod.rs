//! A student's way onto a board: signed, verified there, active on trial, and confirmed only when healthy.
//!
//! | module | what it holds |
//! |---|---|
//! | `golden` | an input by seed and the host's own answer to it |
//! | `key` | the user's signing key |
//! | `bundle` | what is shipped beside the model, signed |
//! | `number` | the bundle's number, above all earlier ones |
//! | `deploy` | the steps on the board, and the way back |
//! | `diagnostic` | exit codes and next steps of what goes wrong |
//!
//! Nothing here chooses a student or prints.

pub mod bundle;
pub mod deploy;
mod diagnostic;
pub mod golden;
pub mod key;
pub mod number;

pub use bundle::{BundleError, Facts, bundle};
pub use deploy::{Check, ShipError, Shipment, Shipped, Step, ship};
pub use golden::{TOLERANCE, golden};
pub use key::{KeyFileError, SigningKey};
pub use number::next_number;
