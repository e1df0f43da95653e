//! Ways by which bytes reach the agent. A transport gives an ordered stream of bytes and notices a dead peer; what the
//! bytes mean is the session's business.

pub mod doors;
pub mod serial;
pub mod tcp;
