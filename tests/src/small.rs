//! A job that is over in seconds: a small teacher, a few images.

use crate::world::World;
use n2n::data::{self, DataSpec, LoadOptions, Samples};
use std::sync::OnceLock;
use std::time::Duration;

/// For training the teacher, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);
/// Enough to tell the classes apart and to train for a blink.
const TRAIN_IMAGES: usize = 1_500;
const TEST_IMAGES: usize = 300;

/// A small teacher, trained once for all tests of a program; `n2n` is the program that trains it.
///
/// # Panics
/// It cannot be trained.
pub fn teacher(n2n: &str) -> &'static [u8] {
    static TEACHER: OnceLock<Vec<u8>> = OnceLock::new();
    TEACHER.get_or_init(|| {
        let world = World::new().expect("a folder");
        let line = "teacher train --arch vgg11 --width 0.1 --data bundled --epochs 1 --out teacher.onnx";
        let words: Vec<&str> = line.split_whitespace().collect();
        let finished = world.run(n2n, &words, DEADLINE).expect("a training");
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        std::fs::read(world.path().join("teacher.onnx")).expect("a teacher")
    })
}

/// A user with that teacher, `teacher.onnx`, and a few images, `fashion-mnist:images`.
///
/// # Panics
/// The files cannot be written.
pub fn world(n2n: &str) -> World {
    let world = World::new().expect("a folder");
    world.write("teacher.onnx", teacher(n2n)).expect("a file");
    let bundled = data::load(&DataSpec::bundled(), &LoadOptions::default()).expect("the bundled images");
    for (part, samples, count) in
        [("train", &bundled.train, TRAIN_IMAGES), ("t10k", &bundled.test, TEST_IMAGES)]
    {
        let samples = samples.select(&(0..count).collect::<Vec<_>>());
        let (images, labels) = idx(&samples);
        world.write(&format!("images/{part}-images-idx3-ubyte"), images).expect("a file");
        world.write(&format!("images/{part}-labels-idx1-ubyte"), labels).expect("a file");
    }
    world
}

/// Images and labels as the two files in which MNIST is published.
fn idx(samples: &Samples) -> (Vec<u8>, Vec<u8>) {
    let header = |magic: u32, sizes: &[usize]| {
        let sizes = sizes.iter().map(|&size| u32::try_from(size).expect("a small number"));
        std::iter::once(magic).chain(sizes).flat_map(u32::to_be_bytes).collect::<Vec<u8>>()
    };
    let mut images = header(0x0803, &[samples.len(), samples.height, samples.width]);
    images.extend(samples.pixels.bytes().expect("pixels").iter());
    let mut labels = header(0x0801, &[samples.len()]);
    labels.extend(samples.labels.iter().map(|&label| u8::try_from(label).expect("a small number")));
    (images, labels)
}
