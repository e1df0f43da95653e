"""Training step and evaluation of n2n and PyTorch (channels_last), side by side on this machine.

Both sides run in turns, several rounds: a machine that changes its speed changes it for both. Needs `torch`; builds the
Rust side with cargo. See README.md in this folder.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

BATCH = 64
ROOT = Path(__file__).resolve().parents[2]


def shapes():
    """Name of the benchmark -> (network, image shape, number of parameters that n2n states)."""
    from networks import resnet18, vgg13

    return {
        "resnet18 width 8": (lambda: resnet18(8), (3, 32, 32), 176_402),
        "resnet18 width 20": (lambda: resnet18(20), (3, 32, 32), 1_094_750),
        "resnet18 width 64": (lambda: resnet18(64), (3, 32, 32), 11_173_962),
        "vgg13 quarter, 28x28x1": (lambda: vgg13(16), (1, 28, 28), 591_162),
    }


def timed(work, seconds):
    """Median milliseconds of `work`, called for about that long after a warm-up."""
    for _ in range(3):
        work()
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 5:
        start = time.perf_counter()
        work()
        samples.append(1e3 * (time.perf_counter() - start))
    return statistics.median(samples)


class Peer:
    """PyTorch's side of one shape."""

    def __init__(self, make, image, expected):
        import torch
        from networks import folded, parameters

        torch.manual_seed(1)
        network = make()
        assert parameters(network) == expected, f"expected {expected} parameters, got {parameters(network)}"
        network = network.to(memory_format=torch.channels_last)
        images = torch.rand(BATCH, *image).to(memory_format=torch.channels_last)
        labels = torch.arange(BATCH) % 10
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        loss = torch.nn.CrossEntropyLoss()
        ready = folded(copy.deepcopy(network).eval()).to(memory_format=torch.channels_last)

        def step():
            optimiser.zero_grad(set_to_none=True)
            value = loss(network(images), labels)
            value.backward()
            optimiser.step()
            value.item()

        @torch.inference_mode()
        def evaluation():
            ready(images)

        self.work = {"training": step, "evaluation": evaluation}

    def run(self, what, seconds):
        return timed(self.work[what], seconds)


def build():
    """Path of the compiled benchmark."""
    command = ["cargo", "bench", "-p", "n2n", "--bench", "training", "--no-run", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "training")


def ours(executable, what, name, seconds, threads):
    """n2n's side, by criterion: median milliseconds."""
    home = ROOT / "target" / "criterion-peers"
    command = [executable, "--bench", "--exact", f"step/{what}/{name}", "--sample-size", "10", "--noplot"]
    command += ["--warm-up-time", "0.5", "--measurement-time", str(seconds)]
    environment = {**os.environ, "CRITERION_HOME": str(home), "RAYON_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=ROOT, check=True, env=environment, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    found = list(home.glob(f"step/{what}/{name}/new/estimates.json"))
    assert len(found) == 1, f"expected one result of step/{what}/{name}, got {found}"
    return json.loads(found[0].read_text())["median"]["point_estimate"] / 1e6


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    arguments.add_argument("--only", default="", help="part of a shape's name")
    options = arguments.parse_args()

    executable = build()
    import torch

    torch.set_num_threads(options.threads)
    print(f"{processor()}, {options.threads} threads, PyTorch {torch.__version__} channels_last, "
          f"batch {BATCH}, f32, {time.strftime('%d %B %Y')}; medians of {options.rounds} rounds, ms\n")
    print("| network | work | n2n | PyTorch | n2n / PyTorch (range over rounds) |\n|---|---|---|---|---|")
    for name, (make, image, expected) in shapes().items():
        if options.only not in name:
            continue
        peer = Peer(make, image, expected)
        for what in ("training", "evaluation"):
            rounds = [(ours(executable, what, name, options.seconds, options.threads),
                       peer.run(what, options.seconds)) for _ in range(options.rounds)]
            ratios = sorted(mine / theirs for mine, theirs in rounds)
            mine, theirs = (statistics.median(side) for side in zip(*rounds))
            print(f"| {name} | {what} | {mine:.1f} | {theirs:.1f} | "
                  f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f}) |", flush=True)


if __name__ == "__main__":
    main()
