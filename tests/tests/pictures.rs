//! Folders of pictures from the first look to a student, with the real program.

use std::time::Duration;

use n2n_tests::photos::{self, Shape};
use n2n_tests::{World, snapshot};
use serde_json::Value;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
/// For a step of these small jobs, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);

/// What a command printed as JSON, and what it said beside.
fn json(world: &World, line: &str) -> (Value, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    let value = finished.json().unwrap_or_else(|error| panic!("{line}: {error}\n{}", finished.stdout));
    (value, finished.stderr)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A teacher of a folder, and its student.
fn compressed(world: &World, train: &str, compress: &str) -> (Value, String) {
    json(
        world,
        &format!("teacher train --arch vgg11 --width 0.1 --data folder:photos --out t.onnx --json {train}"),
    );
    json(
        world,
        &format!(
            "compress --teacher t.onnx --data folder:photos --limit params=0.7x --budget 6candidates --finalists 1 \
             --final-epochs 2 --no-ship --out run --json {compress}"
        ),
    )
}

#[test]
fn two_classes_of_photographs_become_a_student_with_accuracy_by_class() {
    let world = World::new().unwrap();
    photos::folder(&world.path().join("photos"), &[(Shape::Circle, 150), (Shape::Stripes, 150)]).unwrap();
    let (result, told) = compressed(&world, "--epochs 8", "");
    assert!(told.contains("2 classes (circle 150, stripes 150), "), "{told}");
    assert!(told.contains("scaled to 32x32 RGB (crop)"), "{told}");
    for side in ["teacher", "student"] {
        let classes = result[side]["classes"].as_array().unwrap();
        let names: Vec<&str> = classes.iter().map(|class| class["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["circle", "stripes"], "{result}");
        let (mut right, mut images) = (0.0, 0.0);
        for class in classes {
            right += number(&class["test_accuracy"]) * number(&class["images"]);
            images += number(&class["images"]);
        }
        assert!((right / images - number(&result[side]["test_accuracy"])).abs() < 1e-9, "{result}");
    }
    assert!(number(&result["teacher"]["test_accuracy"]) > 0.8, "{result}");
    // The cache has what the teacher was trained on: nothing is decoded again.
    let (_, again) = json(&world, "data inspect folder:photos --json");
    assert!(!again.contains("decoding"), "{again}");
}

#[test]
fn three_classes_in_folders_of_parts_grey_and_of_another_size() {
    let world = World::new().unwrap();
    for (part, count, first) in [("train", 60, 0), ("val", 24, 1000), ("test", 20, 2000)] {
        for shape in Shape::ALL {
            for index in 0..count {
                let path =
                    world.path().join("photos").join(part).join(shape.name()).join(format!("{index}.jpg"));
                photos::save(&path, photos::picture(shape, first + index + 10_000 * shape as u32)).unwrap();
            }
        }
    }
    let (inspected, told) = json(
        &world,
        "data inspect folder:photos --image-size 40x24 --channels 1 --resize letterbox --sheet sheet.png --json",
    );
    snapshot::json("data-inspect", &inspected);
    assert!(
        told.contains("180 train / 36 + 36 validation / 60 test") || told.contains("180 train / "),
        "{told}"
    );
    assert_eq!((&inspected["channels"], &inspected["height"]), (&1.into(), &40.into()));
    let sheet = image::open(world.path().join("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (2 + 12 * 26, 2 + 3 * 42));
    let (result, told) = compressed(
        &world,
        "--epochs 6 --image-size 40x24 --channels 1 --resize letterbox",
        "--reward balanced --input-type uint8",
    );
    // Nobody told `compress`: the teacher's file did.
    assert!(told.contains("scaled to 40x24 grey (letterbox)"), "{told}");
    assert_eq!(result["student"]["classes"].as_array().unwrap().len(), 3, "{result}");
}

#[test]
fn classes_in_another_order_are_put_in_order_by_name_and_told_by_their_pictures() {
    let world = World::new().unwrap();
    let path = |name: &str| world.path().join(name);
    photos::folder(&path("photos"), &[(Shape::Circle, 120), (Shape::Square, 120), (Shape::Stripes, 120)])
        .unwrap();
    json(
        &world,
        "teacher train --arch vgg11 --width 0.1 --epochs 10 --data folder:photos --out t.onnx --json",
    );
    // Somebody swaps two folders: the names are the teacher's, the pictures are not.
    std::fs::rename(path("photos/circle"), path("photos/other")).unwrap();
    std::fs::rename(path("photos/stripes"), path("photos/circle")).unwrap();
    std::fs::rename(path("photos/other"), path("photos/stripes")).unwrap();
    let line = "compress --teacher t.onnx --data folder:photos --limit params=0.7x --dry-run --json";
    let words: Vec<&str> = line.split_whitespace().collect();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    let told = finished.stderr;
    assert!(told.contains("`circle` is what the teacher calls `stripes`"), "{told}");
    assert!(told.contains("`stripes` is what the teacher calls `circle`"), "{told}");
    // Other names of the same pictures.
    std::fs::rename(path("photos/square"), path("photos/block")).unwrap();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert!(finished.stderr.contains("`square` is here"), "{}", finished.stderr);
}

#[test]
fn a_student_learns_from_pictures_without_classes_and_a_taken_folder_is_told_before_any_work() {
    let world = World::new().unwrap();
    photos::folder(&world.path().join("photos"), &[(Shape::Circle, 150), (Shape::Stripes, 150)]).unwrap();
    for number in 0..90 {
        let shape = [Shape::Circle, Shape::Stripes][number as usize % 2];
        let path = world.path().join(format!("more/day {}/{number}.jpg", number % 3));
        photos::save(&path, photos::picture(shape, 50_000 + number)).unwrap();
    }
    let first = world.path().join("photos/circle/img_0000.png");
    std::fs::copy(first, world.path().join("more/copy.png")).unwrap();
    let (result, told) = compressed(&world, "--epochs 8", "--unlabelled more");
    assert!(told.contains("left out 1 of 91 unlabelled pictures: copies of others"), "{told}");
    assert!(told.contains("90 pictures without labels"), "{told}");
    // All parts of the labelled ones, and no other picture, are counted by class.
    let classes = result["teacher"]["classes"].as_array().unwrap();
    let tested: f64 = classes.iter().map(|class| number(&class["images"])).sum();
    assert!((2.0..150.0).contains(&tested), "{result}");
    let manifest = std::fs::read_to_string(world.path().join("run/run.toml")).unwrap();
    assert!(manifest.contains("unlabelled = ") && manifest.contains("/more"), "{manifest}");

    std::fs::rename(world.path().join("photos"), world.path().join("gone")).unwrap();
    let line = "compress --teacher t.onnx --data folder:photos --limit params=0.7x --out";
    for (out, why) in [("run", "holds a run already"), ("t.onnx/run", "Not a directory")] {
        let words: Vec<&str> = line.split_whitespace().chain([out]).collect();
        let finished = world.run(N2N, &words, DEADLINE).unwrap();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(finished.line("error: ").unwrap().contains(why), "{}", finished.stderr);
    }
}
