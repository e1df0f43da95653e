//! What a connection costs an agent before it is known: a replayed first message, and a genuine one.

use criterion::{Criterion, criterion_group, criterion_main};
use n2n_protocol::handshake::{Initiator, Prologue, Responder, challenge, opening};
use n2n_protocol::key::Key;

fn fresh(key: &Key) -> Prologue {
    Prologue::new(&opening(key).expect("randomness"), &challenge().expect("randomness")).expect("a challenge")
}

fn handshake(criterion: &mut Criterion) {
    let key = Key::generate().expect("randomness");
    let first = fresh(&key);
    let (_, recorded) = Initiator::begin(&key, &first).expect("a handshake");
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("a replayed first message is refused", |bencher| {
        bencher.iter(|| Responder::verify([&key], &fresh(&key), &recorded).is_err());
    });
    group.bench_function("a genuine first message is answered", |bencher| {
        bencher.iter(|| {
            let (_, responder) = Responder::verify([&key], &first, &recorded).expect("a handshake");
            responder.answer(100).expect("an answer")
        });
    });
    group.finish();
}

criterion_group!(benches, handshake);
criterion_main!(benches);
