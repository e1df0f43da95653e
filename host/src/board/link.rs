//! Messages to and from an agent: the Noise channel over a wire, blocking, and never for longer than told.
//!
//! `wire` carries bytes, `opening` shakes hands, `messages` are what follows, `fault` says why not.

mod fault;
mod messages;
mod opening;
mod wire;

pub(super) use fault::LinkError;
pub(super) use messages::Link;
pub(super) use opening::open;
pub(super) use wire::Wire;
