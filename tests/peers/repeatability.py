"""How well a measurement repeats: ten models, each measured several times in turns, and once more beside a competing load.

cargo build --release --bin n2n
python3 tests/peers/repeatability.py                       # --engine onnxruntime --library FILE, --times 5

Do nothing else on the machine. A row is the spread of the medians, and how many of its measurements n2n itself marked as disturbed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [
    "zoo:resnet10@0.125/3x32x32/10",
    "zoo:resnet10@0.25/3x32x32/10",
    "zoo:resnet18@0.125/3x32x32/10",
    "zoo:resnet18@0.25/3x32x32/10",
    "zoo:resnet18@0.5/3x32x32/10",
    "zoo:vgg11@0.125",
    "zoo:vgg11@0.5",
    "zoo:vgg13@0.125",
    "zoo:vgg13@0.25",
    "zoo:vgg16@0.25",
]


def measured(model, engine, home):
    words = [str(ROOT / "target/release/n2n"), "measure", model, "--engine", engine, "--json", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "N2N_HOME": str(home)}, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="tract")
    parser.add_argument("--library", type=pathlib.Path, help="file of ONNX Runtime")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="repeat-"))
    if options.library:
        (home / "local-agent").mkdir()
        (home / "local-agent/agent.toml").write_text(f'[onnxruntime]\nlibrary = "{options.library.resolve()}"\n')
    found = {model: [] for model in MODELS}
    for _ in range(options.times):
        for model in MODELS:
            found[model].append(measured(model, options.engine, home))
    burners = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count() or 1)]
    try:
        loaded = {model: measured(model, options.engine, home) for model in MODELS}
    finally:
        for burner in burners:
            burner.kill()
    print(f"| model, {options.engine} | median of medians, ms | largest deviation | marked | largest deviation of unmarked | under load, marked |")
    print("|---|---|---|---|---|---|")
    kept = 0
    for model, results in found.items():
        medians = sorted(result["latency_ns"]["median"] for result in results)
        middle = medians[len(medians) // 2]
        off = lambda some: max((abs(it["latency_ns"]["median"] / middle - 1) for it in some), default=0.0)
        unmarked = [it for it in results if not it["disturbances"]]
        kept += off(unmarked) <= 0.02
        slower = loaded[model]["latency_ns"]["median"] / middle
        print(
            f"| {model} | {middle / 1e6:.3f} | {100 * off(results):.1f} % | {len(results) - len(unmarked)} of {len(results)} | "
            f"{100 * off(unmarked):.1f} % | {slower:.2f}x, {'yes' if loaded[model]['disturbances'] else 'NO'} |"
        )
    print(f"{kept} of {len(MODELS)} within 2 % in what is not marked")


if __name__ == "__main__":
    main()
