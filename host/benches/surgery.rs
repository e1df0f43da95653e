//! How fast the search can turn actions into students: it does so for every decision of every rollout.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use n2n::network::layer::Input;
use n2n::network::surgery::{remove, rounded_width, shrink};
use n2n::network::zoo::{Architecture, build};
use n2n::network::{Network, may_remove};
use n2n::training::inheritance::{importance, inherit, initial_weights, keep_largest};

const CIFAR: Input = Input { channels: 3, height: 32, width: 32 };

/// Every second unit goes, where it may.
fn alternate(network: &Network) -> Vec<bool> {
    let units = network.units();
    let mut keep = Vec::new();
    for index in 0..units.len() {
        keep.push(index % 2 == 0 || !may_remove(network, &units, &keep));
    }
    keep
}

fn halves(network: &Network) -> Vec<Vec<usize>> {
    let width = |channels, shrinkable| if shrinkable { rounded_width(channels, 0.5, 8) } else { channels };
    network.groups().iter().map(|group| (0..width(group.channels, group.shrinkable)).collect()).collect()
}

fn surgery(c: &mut Criterion) {
    for architecture in [Architecture::Vgg19, Architecture::Resnet34] {
        let network = build(architecture, CIFAR, 10, 1.0).expect("a zoo model");
        let (keep, kept) = (alternate(&network), halves(&network));
        let mut group = c.benchmark_group(architecture.name());
        group.bench_function("units", |b| b.iter(|| black_box(&network).units()));
        group.bench_function("groups", |b| b.iter(|| black_box(&network).groups()));
        group.bench_function("cost", |b| b.iter(|| black_box(&network).cost()));
        group.bench_function("mask of a whole rollout", |b| b.iter(|| alternate(black_box(&network))));
        group.bench_function("remove", |b| b.iter(|| remove(black_box(&network), &keep)));
        group.bench_function("shrink", |b| b.iter(|| shrink(black_box(&network), &kept)));
        group.finish();
    }
}

fn weights(c: &mut Criterion) {
    let network = build(Architecture::Vgg19, CIFAR, 10, 0.25).expect("a zoo model");
    let teacher = initial_weights(&network, 1);
    let groups = network.groups();
    c.bench_function("vgg19@0.25 importance", |b| b.iter(|| importance(&network, &groups, &teacher)));
    let kept: Vec<Vec<usize>> = importance(&network, &groups, &teacher)
        .iter()
        .zip(halves(&network))
        .map(|(scores, half)| keep_largest(scores, half.len()))
        .collect();
    let student = shrink(&network, &kept).expect("halved");
    c.bench_function("vgg19@0.25 inherit a half", |b| {
        b.iter_batched(
            || (),
            |()| inherit(&student.network, &student.inheritance, &teacher, 1),
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, surgery, weights);
criterion_main!(benches);
