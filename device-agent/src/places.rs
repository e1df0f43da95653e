//! Who may stand in the agent's bounded places, and who leaves for whom: pure rules, without sockets and without a clock.
//!
//! ```text
//! strangers   connections that have not greeted yet     hosts   sessions
//! recent      which openings were seen before
//! ```
//! A stranger's place is lost to a newcomer, a host's to another host, and never one to the other: however many
//! strangers there are, a session is not disturbed, and a newcomer is always let in.

pub mod hosts;
pub mod recent;
pub mod strangers;

/// Number of a place, in the order of coming; never used twice.
pub type Ticket = u64;
