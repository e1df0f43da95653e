//! Why there is no link, or none any more.

use n2n_protocol::channel::ChannelError;
use n2n_protocol::key::KeyId;
use n2n_serial::DialError;
use std::io;

/// Why a link is not there, or not any more.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum LinkError {
    #[error("the name `{0}` has no address")]
    Name(String),
    #[error("{address}: {error}")]
    Connect { address: String, error: io::Error },
    #[error("it took the connection and closed it before a word")]
    Closed,
    #[error("strangers crowd it: the connection was closed {0} times before the handshake was done")]
    Crowded(u32),
    #[error("{error}; ours has the id {ours}")]
    Key { error: ChannelError, ours: KeyId },
    #[error("{0}")]
    OldAgent(String),
    #[error("link lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0} took too long")]
    Late(&'static str),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Dial(#[from] DialError),
}
