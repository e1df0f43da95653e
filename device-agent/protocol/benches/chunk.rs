//! The wire's hot path: one piece of a blob from the host's memory to the agent's, without the network between them.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use n2n_protocol::handshake::{Initiator, Prologue, Responder, challenge, opening};
use n2n_protocol::key::Key;
use n2n_protocol::{Call, Digest, Request, codec, limits};

fn chunk(criterion: &mut Criterion) {
    let key = Key::generate().expect("randomness");
    let prologue = Prologue::new(&opening(&key).expect("randomness"), &challenge().expect("randomness"))
        .expect("a challenge");
    let (initiator, frame) = Initiator::begin(&key, &prologue).expect("a handshake");
    let (_, responder) = Responder::verify([&key], &prologue, &frame).expect("a handshake");
    let (mut agent, answer) = responder.answer(limits::REQUEST_BYTES).expect("a handshake");
    let mut host = initiator.finish(&answer, limits::REPLY_BYTES).expect("a handshake");
    let data = vec![0xA5; limits::CHUNK_BYTES];
    let call = Call::PutChunk { digest: Digest([1; 32]), offset: 0, data: data.into() };
    let request = Request { request_id: 1, call };

    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(limits::CHUNK_BYTES as u64));
    group.bench_function("encode, seal, open, decode", |bencher| {
        bencher.iter_batched_ref(
            || Vec::with_capacity(limits::RECORD_BYTES + 2),
            |stream| {
                let message = codec::encode(&request, limits::REQUEST_BYTES).expect("within the limit");
                host.seal(&message, stream).expect("sealed");
                agent.push(stream);
                let message = agent.pop().expect("a sound channel").expect("a whole message");
                codec::decode::<Request>(&message, limits::REQUEST_BYTES).expect("a request")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, chunk);
criterion_main!(benches);
