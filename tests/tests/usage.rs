//! What the README tells a program to do with a student: its very lines, on picture files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use image::{GrayImage, Rgba, RgbaImage};
use n2n::data::{self, DataSpec, LoadOptions};
use n2n_tests::World;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const CLASSIFY: &str = env!("CARGO_BIN_EXE_classify-pictures");
/// For a step of these small jobs, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);
/// Pictures that programs are asked about.
const PICTURES: usize = 1_000;
/// Largest difference from the stated accuracy.
const POINTS: f64 = 0.002;

/// The README's block in this language that holds `part`.
fn block(language: &str, part: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    let found = blocks.find(|block| block.contains(part));
    found.unwrap_or_else(|| panic!("no {language} block with {part} in the README")).to_owned()
}

/// A student of the bundled images in `student.onnx`, with its share of right answers on the pictures in `pictures/`, every
/// second of which is transparent.
fn student(world: &World, words: &str) -> (f64, Vec<PathBuf>, BTreeMap<PathBuf, String>) {
    for line in [
        "teacher train --arch vgg11 --width 0.1 --data bundled --epochs 1 --out t.onnx --json".to_owned(),
        format!(
            "compress --teacher t.onnx --data bundled --limit params=0.7x --budget 4candidates --finalists 1 \
             --final-epochs 1 --out run --no-ship --json {words}"
        ),
        "export run --format onnx --out student.onnx --json".to_owned(),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let finished = world.run(N2N, &words, DEADLINE).unwrap();
        assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    }
    let dataset = data::load(&DataSpec::bundled(), &LoadOptions::default()).unwrap();
    let model = n2n::model_io::onnx::load(&world.path().join("student.onnx")).unwrap();
    let device = n2n::training::device::open(n2n::training::DeviceChoice::Cpu).unwrap();
    let classifier = n2n::training::Classifier::new(&model.network, &model.weights(), &device).unwrap();
    let pictures = dataset.test.select(&(0..PICTURES).collect::<Vec<_>>());
    let stated = n2n::training::evaluation::evaluate(&classifier, &pictures, &model.info.normalisation)
        .unwrap()
        .fraction();
    std::fs::create_dir(world.path().join("pictures")).unwrap();
    let mut files = Vec::new();
    let mut labels = BTreeMap::new();
    for index in 0..PICTURES {
        let name = PathBuf::from(format!("pictures/{index:04}.png"));
        let image = GrayImage::from_raw(28, 28, pictures.image(index).unwrap().into_owned()).unwrap();
        let path = world.path().join(&name);
        match index % 2 {
            0 => image.save(path).unwrap(),
            // Black that shines through as much as the picture is bright: the same, once it is laid on white.
            _ => RgbaImage::from_fn(28, 28, |x, y| Rgba([0, 0, 0, 255 - image.get_pixel(x, y).0[0]]))
                .save(path)
                .unwrap(),
        }
        labels.insert(name.clone(), dataset.classes[usize::from(pictures.labels[index])].clone());
        files.push(name);
    }
    (stated, files, labels)
}

/// Share of lines `FILE CLASS` that name the right class.
fn right(output: &str, labels: &BTreeMap<PathBuf, String>) -> f64 {
    let lines: Vec<(&str, &str)> = output.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.len(), labels.len());
    let right = lines.iter().filter(|(file, class)| labels[Path::new(file)] == *class).count();
    right as f64 / lines.len() as f64
}

fn run(world: &World, mut command: Command, files: &[PathBuf]) -> String {
    let output = command.current_dir(world.path()).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readmes_program_in_rust_is_as_right_on_files_as_stated() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/classify.rs.txt");
    assert_eq!(
        block("rust", "CLASSES"),
        std::fs::read_to_string(source).unwrap(),
        "the README shows what is run"
    );
    let world = World::new().unwrap();
    let (stated, files, labels) = student(&world, "");
    let got = right(&run(&world, Command::new(CLASSIFY), &files), &labels);
    assert!((got - stated).abs() <= POINTS, "stated {stated}, got {got}");
    // The very programs that a command prints for this student.
    let words = ["export", "run", "--format", "onnx", "--out", "student.onnx"];
    let printed = world.run(N2N, &words, DEADLINE).unwrap().stdout;
    for language in ["python", "rust"] {
        assert!(printed.contains(block(language, "CLASSES").trim_end()), "{language}: {printed}");
    }
}

#[test]
#[ignore = "needs a python (N2N_PYTHON names it) with onnxruntime, numpy and pillow"]
fn the_readmes_program_in_python_is_as_right_on_files_as_stated() {
    let python = std::env::var("N2N_PYTHON").unwrap_or_else(|_| "python3".into());
    let world = World::new().unwrap();
    let (stated, files, labels) = student(&world, "");
    world.write("classify.py", block("python", "CLASSES")).unwrap();
    let command = |program: &str| {
        let mut command = Command::new(&python);
        command.arg(program);
        command
    };
    let got = right(&run(&world, command("classify.py"), &files), &labels);
    assert!((got - stated).abs() <= POINTS, "stated {stated}, got {got}");

    // The forms that the README only names, by the programs that `export` prints.
    for form in ["uint8", "normalised"] {
        let words = ["export", "run", "--format", "onnx", "--input-type", form, "--out", "student.onnx"];
        let finished = world.run(N2N, &words, DEADLINE).unwrap();
        let (_, rest) = finished.stdout.split_once("in Python (pip install onnxruntime pillow)\n\n").unwrap();
        world.write("other.py", rest.split("\nin Rust").next().unwrap()).unwrap();
        let got = right(&run(&world, command("other.py"), &files), &labels);
        assert!((got - stated).abs() <= POINTS, "{form}: stated {stated}, got {got}");
    }
}
