"""Validation accuracy after each epoch: n2n's teacher training and the same recipe in PyTorch, several seeds.

VGG-13 of quarter width on Fashion-MNIST: SGD with Nesterov momentum, a cosine with warm-up, shifts and mirrors. Both sides
hold out one training image in ten; initial weights, order and augmentation are each side's own draws, so the curves agree
within the noise of seeds. See README.md in this folder.
"""

import argparse
import gzip
import json
import math
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from networks import vgg13

ROOT = Path(__file__).resolve().parents[2]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
BATCH, RATE, DECAY, WARM_UP, PADDING = 64, 0.05, 5e-4, 0.05, 2


def idx(name, header):
    raw = gzip.decompress((FASHION_MNIST / name).read_bytes())[header:]
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)


def data(seed):
    """Training images and labels, validation images and labels; images normalised by the training part."""
    images = idx("train-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28).float() / 255
    labels = idx("train-labels-idx1-ubyte.gz", 8).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held, kept = order[: len(order) // 10], order[len(order) // 10 :]
    mean, deviation = images[kept].mean(), images[kept].std()
    return [images[kept], labels[kept], images[held], labels[held], mean, deviation]


def augmented(images):
    """Each image moved by up to PADDING pixels each way, black coming in, and mirrored every second time."""
    padded = torch.nn.functional.pad(images, [PADDING] * 4)
    count, edge = len(images), images.shape[-1]
    rows = torch.randint(0, 2 * PADDING + 1, (count, 1)) + torch.arange(edge)
    columns = torch.randint(0, 2 * PADDING + 1, (count, 1)) + torch.arange(edge)
    mirrored = torch.rand(count) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def factor(step, steps):
    rising = math.floor(WARM_UP * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def curve(seed, epochs):
    """PyTorch's side."""
    images, labels, held_images, held_labels, mean, deviation = data(seed)
    torch.manual_seed(seed)
    network = vgg13(16)
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    network = network.to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.dim() > 1]
    rest = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
    loss = torch.nn.CrossEntropyLoss()
    per_epoch = len(images) // BATCH
    accuracies = []
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(images))
        for step in range(per_epoch):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = (augmented(images[chosen]) - mean) / deviation
            for group in optimiser.param_groups:
                group["lr"] = RATE * factor(epoch * per_epoch + step, epochs * per_epoch)
            optimiser.zero_grad(set_to_none=True)
            loss(network(batch.to(memory_format=torch.channels_last)), labels[chosen]).backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            normal = (held_images - mean) / deviation
            right = sum((network(part).argmax(1) == wanted).sum().item()
                        for part, wanted in zip(normal.split(500), held_labels.split(500)))
        accuracies.append(right / len(held_labels))
    return accuracies


def ours(seed, epochs):
    """n2n's side: the program itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [ROOT / "target/release/n2n", "teacher", "train", "--arch", "vgg13", "--width", "0.25",
                   "--data", "fashion-mnist", "--epochs", str(epochs), "--seed", str(seed), "--device", "cpu",
                   "--out", f"{folder}/teacher.onnx", "--json", "--quiet"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [epoch["validation_accuracy"] for epoch in json.loads(output)["epochs"]]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bin", "n2n"], cwd=ROOT, check=True)
    print(f"PyTorch {torch.__version__}, {time.strftime('%d %B %Y')}; validation accuracy, %\n")
    print("| side, seed | " + " | ".join(f"epoch {epoch + 1}" for epoch in range(options.epochs)) + " | time |")
    print("|---|" + "---|" * (options.epochs + 1))
    for name, side in (("n2n", ours), ("PyTorch", curve)):
        curves = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            curves.append(side(seed, options.epochs))
            seconds = time.perf_counter() - start
            row = " | ".join(f"{100 * accuracy:.2f}" for accuracy in curves[-1])
            print(f"| {name}, {seed} | {row} | {seconds:.0f} s |", flush=True)
        means = [statistics.mean(column) for column in zip(*curves)]
        spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in zip(*curves)]
        row = " | ".join(f"**{100 * m:.2f}** ± {100 * s:.2f}" for m, s in zip(means, spreads))
        print(f"| **{name}, mean ± deviation** | {row} | |", flush=True)


if __name__ == "__main__":
    main()
