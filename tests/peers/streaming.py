"""A set of three times the memory limit: pictures are decoded into the cache and read from there as they are learned.

    python tests/peers/streaming.py target/release/n2n FOLDER [LIMIT_MIB]

Writes generated pictures whose pixels, at 96x96 in colour, are three times the limit; lets `n2n data inspect` decode them and
`n2n teacher train` learn from them under `prlimit --data`; prints time and largest resident memory. Needs the packages numpy and
pillow, `prlimit` (util-linux), and, at the default limit of 512 MiB, 1.6 GB of disk and some minutes.
"""

import os
import resource
import subprocess
import sys
import time

import numpy
from PIL import Image

SIDE = 96
PIXELS = SIDE * SIDE * 3


def picture(generator, standing):
    """A bright bar on noise, lying or standing."""
    pixels = generator.integers(0, 110, (12, 12, 3), dtype=numpy.uint8)
    place = generator.integers(1, 11)
    bar = pixels[:, place] if standing else pixels[place]
    bar += 120
    return Image.fromarray(pixels)


def main(n2n, work, limit):
    pictures = -(-3 * limit // PIXELS)
    generator = numpy.random.default_rng(1)
    for standing, name in enumerate(["lying", "standing"]):
        folder = os.path.join(work, "photos", name)
        os.makedirs(folder, exist_ok=True)
        for number in range(len(os.listdir(folder)), -(-pictures // 2)):
            # No series: a name each.
            picture(generator, standing).save(os.path.join(folder, f"{number:08d}.bmp"))
    environment = {**os.environ, "N2N_HOME": os.path.join(work, "home"), "NO_COLOR": "1"}
    data = ["folder:photos", "--image-size", f"{SIDE}x{SIDE}"]
    print(f"{pictures} pictures, {pictures * PIXELS >> 20} MiB of pixels, {limit >> 20} MiB of data\n")
    print("| command | time | largest resident |\n|---|---|---|")
    for words in [
        ["data", "inspect", *data],
        ["teacher", "train", "--arch", "vgg11", "--width", "0.1", "--epochs", "1", "--out", "t.onnx", "--data", *data],
    ]:
        began = time.time()
        command = ["prlimit", f"--data={limit}", n2n, *words, "--json"]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{words}: {done.returncode}\n{done.stderr[-2000:]}")
        resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
        print(f"| `n2n {' '.join(words[:2])}` | {time.time() - began:.0f} s | {resident} MiB |", flush=True)
        print(done.stdout[:300] if words[0] == "teacher" else "", file=sys.stderr)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int((sys.argv[3:] or ["512"])[0]) << 20)
