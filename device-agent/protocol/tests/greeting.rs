//! The first words of a connection are the same in every major version, so that two versions can always tell each other
//! who they are: hello and refusal, byte by byte, as protocol 1.0 wrote them.

use n2n_protocol::{Call, Failure, Hello, Reply, Request, Version, codec, limits};

/// A hello of protocol 1.0: request 1, verb 0, version 1.0, eight bytes of schema hash, and a name of five bytes.
const HELLO_OF_1_0: &[u8] =
    &[1, 0, 1, 0, 0xc7, 0x16, 0x83, 0xf0, 0xcf, 0x8f, 0x58, 0x38, 5, b'a', b'l', b'i', b'c', b'e'];

/// A refusal as protocol 1.0 reads it: request 1, an error, its fifth kind, a text of three bytes.
const REFUSAL_OF_1_0: &[u8] = &[1, 1, 4, 3, b'o', b'l', b'd'];

#[test]
fn a_hello_keeps_its_bytes() {
    let hello = Hello {
        version: Version { major: 1, minor: 0 },
        schema: [0xc7, 0x16, 0x83, 0xf0, 0xcf, 0x8f, 0x58, 0x38],
        client: "alice".to_owned(),
    };
    let request = Request { request_id: 1, call: Call::Hello(hello) };
    assert_eq!(codec::decode::<Request>(HELLO_OF_1_0, limits::HELLO_BYTES), Ok(request.clone()));
    assert_eq!(codec::encode(&request, limits::HELLO_BYTES).unwrap(), HELLO_OF_1_0);
}

#[test]
fn a_refusal_keeps_its_bytes() {
    let refusal = Reply { request_id: 1, outcome: Err(Failure::Refused("old".to_owned())) };
    assert_eq!(codec::encode(&refusal, limits::REPLY_BYTES).unwrap(), REFUSAL_OF_1_0);
    assert_eq!(codec::decode::<Reply>(REFUSAL_OF_1_0, limits::REPLY_BYTES), Ok(refusal));
}
