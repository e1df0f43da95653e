//! One message to bytes and back. Never panics, whatever the bytes are; must not do I/O.

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

/// Why a message could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than its direction allows.
    #[error("message of {bytes} bytes, at most {limit} allowed")]
    TooLong {
        /// Length of the message.
        bytes: usize,
        /// What was allowed.
        limit: usize,
    },
    /// Not a message of this table, or a list in it is longer than its limit.
    #[error("not a message of this protocol, or a list in it is too long: {0}")]
    Malformed(postcard::Error),
    /// A message with something behind it.
    #[error("{0} bytes left over behind the message")]
    Trailing(usize),
}

/// A message as bytes.
///
/// # Errors
/// [`CodecError::TooLong`] beyond `limit` bytes.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_allocvec(message).map_err(CodecError::Malformed)?;
    if bytes.len() > limit { Err(CodecError::TooLong { bytes: bytes.len(), limit }) } else { Ok(bytes) }
}

/// The message that is exactly `bytes`.
///
/// # Errors
/// All kinds of [`CodecError`]; memory stays within a small multiple of `bytes.len()`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLong { bytes: bytes.len(), limit });
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(CodecError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Trailing(rest.len())) }
}

/// The number in front of a request or a reply, which is readable even where the rest is of a newer minor version.
pub fn request_id(bytes: &[u8]) -> Option<u32> {
    postcard::take_from_bytes(bytes).ok().map(|(request_id, _)| request_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LOG_LINES, REPLY_BYTES, REQUEST_BYTES};
    use crate::{
        Answer, Call, Digest, Execution, Failure, Infeasible, InferPlan, Model, Place, Reply, Request,
    };
    use alloc::{string::String, vec};
    use proptest::prelude::*;

    fn reply(outcome: Result<Answer, Failure>) -> Reply {
        Reply { request_id: 300, outcome }
    }

    #[test]
    fn bytes_on_the_wire_are_pinned() {
        let put = Request {
            request_id: 1,
            call: Call::PutChunk { digest: Digest([0xAB; 32]), offset: 300, data: vec![1, 2, 3].into() },
        };
        let mut expected = vec![1, 3];
        expected.extend([0xAB; 32]);
        expected.extend([0xAC, 0x02, 3, 1, 2, 3]);
        assert_eq!(encode(&put, REQUEST_BYTES).unwrap(), expected);
        let failure = reply(Err(Failure::Infeasible(Infeasible::TooSlow { limit_ms: 1000 })));
        assert_eq!(encode(&failure, REPLY_BYTES).unwrap(), [0xAC, 0x02, 1, 0, 1, 0xE8, 0x07]);
        let logits = reply(Ok(Answer::Inferred(vec![vec![1.0, -2.0], vec![]])));
        let expected = [0xAC, 0x02, 0, 6, 2, 2, 0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0];
        assert_eq!(encode(&logits, REPLY_BYTES).unwrap(), expected);
    }

    #[test]
    fn a_message_must_fill_its_bytes_and_no_more() {
        let bytes = encode(&Request { request_id: 7, call: Call::Probe }, 10).unwrap();
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode::<Request>(&longer, 10), Err(CodecError::Trailing(1)));
        assert_eq!(decode::<Request>(&longer, 2), Err(CodecError::TooLong { bytes: 3, limit: 2 }));
        assert!(matches!(decode::<Request>(&bytes[..1], 10), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn an_unknown_verb_still_tells_its_number() {
        let bytes = [0xAC, 0x02, 99];
        assert!(matches!(decode::<Request>(&bytes, 10), Err(CodecError::Malformed(_))));
        assert_eq!(request_id(&bytes), Some(300));
        assert_eq!(request_id(&[]), None);
    }

    #[test]
    fn lists_beyond_their_limit_are_refused() {
        let lines = |count| reply(Ok(Answer::Log(vec![String::new(); count])));
        let fits = encode(&lines(LOG_LINES), REPLY_BYTES).unwrap();
        assert!(decode::<Reply>(&fits, REPLY_BYTES).is_ok());
        let over = encode(&lines(LOG_LINES + 1), REPLY_BYTES).unwrap();
        assert!(matches!(decode::<Reply>(&over, REPLY_BYTES), Err(CodecError::Malformed(_))));
        // Eight million empty inputs would be 8 MiB of message and 200 MB of memory.
        let plan = InferPlan {
            model: Model::onnx(Digest([0; 32])),
            place: Place::Store,
            execution: Execution { engine: String::new(), threads: 1, batch: 1, pace_us: 0 },
            max_memory_bytes: 1,
            inputs: vec![vec![].into(); 100_000],
        };
        let flood = encode(&Request { request_id: 0, call: Call::Infer(plan) }, REQUEST_BYTES).unwrap();
        assert!(matches!(decode::<Request>(&flood, REQUEST_BYTES), Err(CodecError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = decode::<Request>(&bytes, REQUEST_BYTES) {
                // What could be read can be written and read again (varints may have been longer than needed).
                let again = encode(&request, REQUEST_BYTES).unwrap();
                let read = decode::<Request>(&again, REQUEST_BYTES).unwrap();
                prop_assert_eq!(encode(&read, REQUEST_BYTES).unwrap(), again);
            }
            let _ = decode::<Reply>(&bytes, REPLY_BYTES);
        }

        #[test]
        fn chunks_come_back(id: u32, digest: [u8; 32], offset: u64,
                            data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let request = Request { request_id: id, call: Call::PutChunk { digest: Digest(digest), offset, data: data.into() } };
            let bytes = encode(&request, REQUEST_BYTES).unwrap();
            prop_assert_eq!(decode::<Request>(&bytes, REQUEST_BYTES).unwrap(), request);
            for cut in 0..bytes.len() {
                prop_assert!(decode::<Request>(&bytes[..cut], REQUEST_BYTES).is_err());
            }
        }
    }
}
