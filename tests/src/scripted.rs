//! Agents by hand, which answer what a test tells them to: over real sockets, with the real channel.

use crate::by_hand;
use n2n::board::{Endpoint, Key};
use n2n_protocol::channel::Channel;
use n2n_protocol::{
    Answer, Board, Conditions, Digest, EngineId, Failure, Reply, Request, SCHEMA_HASH, VERSION, Version,
    Welcome, codec, limits,
};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Largest blob that they take, bytes: many times a candidate without its weights.
pub const MAX_BLOB_BYTES: usize = 1 << 20;

/// The key that opens every agent of this kind, as a user writes it.
pub const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// The key that opens every agent of this kind.
///
/// # Panics
/// Never: [`KEY`] is one.
pub fn key() -> Key {
    KEY.parse().expect("a key")
}

/// An agent whose every connection is treated by `treat`, in turn.
///
/// # Panics
/// There is no free port.
pub fn agent(treat: impl Fn(usize, TcpStream) + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            treat(number, stream);
        }
    });
    Endpoint::Tcp { host: "127.0.0.1".to_owned(), port, key: key() }
}

/// The agent's part of the handshake; `None` when the peer is gone or no holder of the key.
pub fn shake_hands(stream: &mut TcpStream) -> Option<Channel> {
    by_hand::respond(stream, &key()).ok()
}

/// The next request; `None` when the peer is gone.
pub fn next(stream: &mut TcpStream, channel: &mut Channel) -> Option<Request> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(message) = channel.pop().ok()? {
            return codec::decode(&message, limits::REQUEST_BYTES).ok();
        }
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => channel.push(&buffer[..read]),
            _ => return None,
        }
    }
}

/// Answer a request. A peer that is gone does not hear it.
///
/// # Panics
/// An answer that no agent could give.
pub fn say(stream: &mut TcpStream, channel: &mut Channel, request_id: u32, outcome: Result<Answer, Failure>) {
    let mut sealed = Vec::new();
    let message = codec::encode(&Reply { request_id, outcome }, limits::REPLY_BYTES).expect("an answer");
    channel.seal(&message, &mut sealed).expect("an answer");
    let _ = stream.write_all(&sealed);
}

/// A greeting by a small board with tract.
pub fn welcome(version: Version, fingerprint: u8) -> Answer {
    let board = Board {
        name: "desk".to_owned(),
        model: "test".to_owned(),
        class: "none".to_owned(),
        architecture: "none".to_owned(),
        system: "none".to_owned(),
        cores: 1,
        memory_bytes: 1,
        fingerprint: Digest([fingerprint; 32]),
        engines: vec![EngineId { name: "tract".to_owned(), version: "0".to_owned() }],
        conditions: Conditions::default(),
    };
    Answer::Hello(Welcome {
        version,
        schema: SCHEMA_HASH,
        agent: "0".to_owned(),
        max_blob_bytes: MAX_BLOB_BYTES as u64,
        board,
    })
}

/// Greets, then hands each request to `treat` until that returns false.
pub fn greeting(
    treat: impl Fn(&mut TcpStream, &mut Channel, Request) -> bool + Send + 'static,
) -> impl Fn(usize, TcpStream) + Send + 'static {
    move |_, mut stream| {
        let Some(mut channel) = shake_hands(&mut stream) else { return };
        let Some(hello) = next(&mut stream, &mut channel) else { return };
        say(&mut stream, &mut channel, hello.request_id, Ok(welcome(VERSION, 1)));
        while let Some(request) = next(&mut stream, &mut channel) {
            if !treat(&mut stream, &mut channel, request) {
                return;
            }
        }
    }
}
