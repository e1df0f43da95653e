"""From folders of drawings to a student that the printed program runs: two classes in a folder each, three in train/ val/ test/.

    apt install openclipart-png
    python tests/peers/drawings.py target/release/n2n FOLDER [two|three]

Takes public-domain drawings of many sizes, writes every sixth as another format (PNG, JPEG, BMP, WebP, TIFF, GIF; the first,
fourth and fifth keep their transparency), trains a teacher, compresses it, ships the student to this machine's agent, and runs the Python
program that `compress --json` gives on the test pictures as files. Prints a table: accuracy by class as n2n states it, and
as the program has it. Needs the packages numpy, onnxruntime and pillow; some six minutes on two cores.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import warnings

from PIL import Image

DRAWINGS = "/usr/share/openclipart/png"
FORMATS = ["png", "jpg", "bmp", "webp", "tiff", "gif"]
MOST = 400
PICTURES = ["--image-size", "64x64", "--resize", "letterbox"]
SHARES = [0.7, 0.075, 0.075, 0.15]


def place(key, salt):
    """A number from 0 up to 1 for a name: how n2n deals pictures."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def part(key, salt=""):
    """0 training, 1 and 2 validation, 3 test."""
    where, end = place(key, salt), 1.0
    for number in (3, 2, 1):
        end -= SHARES[number]
        if where >= end:
            return number
    return 0


def series(name, how):
    """The name by which a picture is dealt."""
    if how == "off":
        return name
    folder, file = os.path.split(name)
    stem = os.path.splitext(file)[0].lower()
    return f"{folder}/{re.sub(r'[0-9_. ()-]+$', '', stem) or stem}"


def drawings(name):
    """Up to MOST drawings of a class, by name below its folder."""
    root = os.path.join(DRAWINGS, name)
    found = sorted(os.path.join(at, file) for at, _, files in os.walk(root) for file in files if file.endswith(".png"))
    step = max(1, len(found) // MOST)
    return [(path, os.path.relpath(path, root)) for path in found[::step][:MOST]]


def save(path, target, ending):
    """A drawing in another format; those without transparency are laid on white. False for one that is too large or damaged."""
    try:
        image = Image.open(path)
        if max(image.size) > 4000:
            return False
        image = image.convert("RGBA")
    except (OSError, Image.DecompressionBombError):
        return False
    if ending not in ("png", "webp", "tiff"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    image.save(target)
    return True


def folder(root, classes, parts):
    """Writes a data set; with `parts` in folders train/, val/ and test/ by the name's series, and another salt than n2n's."""
    count = 0
    for name in classes:
        for number, (path, below) in enumerate(drawings(name)):
            ending = FORMATS[number % len(FORMATS)]
            below = f"{os.path.splitext(below)[0]}.{ending}"
            where = ["train", "val", "val", "test"][part(series(below, "numbered"), "ours")] if parts else ""
            count += save(path, os.path.join(root, where, name, below), ending)
    return count


def tested(root, classes, parts, how):
    """Test pictures by class."""
    found = {}
    for name in classes:
        base = os.path.join(root, "test", name) if parts else os.path.join(root, name)
        files = [os.path.join(at, file) for at, _, names in os.walk(base) for file in names]
        found[name] = sorted(it for it in files if parts or part(series(os.path.relpath(it, base), how)) == 3)
    return found


def main(n2n, work, chosen):
    os.makedirs(os.path.join(work, "home"), exist_ok=True)
    environment = {**os.environ, "N2N_HOME": os.path.join(work, "home"), "NO_COLOR": "1"}

    def run(*words):
        done = subprocess.run([n2n, *words, "--json"], cwd=work, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{words}: {done.stderr}")
        return json.loads(done.stdout)

    for title, classes, parts in [
        ("two", ["animals", "shapes"], False),
        ("three", ["animals", "food", "transportation"], True),
    ]:
        if chosen not in (None, title):
            continue
        root = os.path.join(work, title)
        folder(root, classes, parts)
        data = f"folder:{root}"
        seen = run("data", "inspect", data, *PICTURES)
        run(
            "teacher", "train", "--arch", "resnet10", "--width", "0.25", "--epochs", "15", "--data", data,
            "--out", f"{title}.onnx", *PICTURES,
        )
        result = run(
            "compress", "--teacher", f"{title}.onnx", "--data", data, "--limit", "params=0.5x", "--budget", "60s",
            "--final-epochs", "8", "--out", f"run-{title}",
        )
        program = os.path.join(work, f"{title}.py")
        with open(program, "w") as file:
            file.write(result["usage"]["python"])
        print(f"\n{title}: {sum(sum(v for k, v in c.items() if k != 'name') for c in seen['classes'])} pictures, "
              f"{seen['sizes']}, series {seen['series']}, shipped {result['shipped']}")
        print("| class | test pictures | teacher | student | the printed program |\n|---|---|---|---|---|")
        right = every = 0
        files = tested(root, classes, parts, seen["series"])
        for teacher, student in zip(result["teacher"]["classes"], result["student"]["classes"]):
            name = student["name"]
            lines = subprocess.run(
                [sys.executable, program, *files[name]], check=True, capture_output=True, text=True
            ).stdout.splitlines()
            hits = sum(line.rsplit(" ", 1)[1] == name for line in lines)
            right, every = right + hits, every + len(lines)
            share = f"{hits} of {len(lines)}, {100 * hits / len(lines):.2f} %"
            shown = [f"{100 * it['test_accuracy']:.2f} %" for it in (teacher, student)]
            print(f"| {name} | {student['images']} | {shown[0]} | {shown[1]} | {share} |")
        whole = [f"{100 * result[side]['test_accuracy']:.2f} %" for side in ("teacher", "student")]
        print(f"| all | {every} | {whole[0]} | {whole[1]} | {right} of {every}, {100 * right / every:.2f} % |")


if __name__ == "__main__":
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), (sys.argv[3:] or [None])[0])
