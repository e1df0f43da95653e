"""Validation accuracy after each epoch: n2n's teacher training and the same recipe in PyTorch, several seeds.

VGG-13 of quarter width on Fashion-MNIST: SGD with Nesterov momentum, a cosine with warm-up, shifts and mirrors. For a seed
both sides learn from the same images and hold out the same ones (n2n's own cut, made again here and checked by the
normalisation that n2n writes); initial weights, order and augmentation are each side's own draws from the same
distributions. The sides take turns, and each run is kept in a folder as soon as it is done, so a second start goes on
where the first one ended. `--tf32` adds PyTorch with what a GPU's tensor cores do to f32 EMULATED: the operands of every
convolution and linear layer, forward and in both gradients, are rounded to TF32. See README.md in this folder.
"""

import argparse
import gzip
import json
import math
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import torch
from networks import vgg13

ROOT = Path(__file__).resolve().parents[2]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
BATCH, RATE, DECAY, WARM_UP, PADDING = 64, 0.05, 5e-4, 0.05, 2
WORD = (1 << 64) - 1


def idx(name, header):
    raw = gzip.decompress((FASHION_MNIST / name).read_bytes())[header:]
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)


def mixed(seed, index):
    """SplitMix64, as in host/src/data/split.rs."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def cut(labels, seed):
    """Indices to learn from and indices held out: one in ten of each class, as host/src/data/split.rs chooses them."""
    places = []
    for label in range(max(labels) + 1):
        members = [index for index, other in enumerate(labels) if other == label]
        members.sort(key=lambda index: (mixed(seed, index), index))
        places += [((rank + 0.5) / len(members), label, index) for rank, index in enumerate(members)]
    order = [index for _, _, index in sorted(places)]
    held = len(labels) // 10
    return sorted(order[held:]), sorted(order[:held])


def data(seed):
    """Training images and labels, validation images and labels, mean and deviation of the training pixels."""
    images = idx("train-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28).float() / 255
    labels = idx("train-labels-idx1-ubyte.gz", 8).long()
    kept, held = cut(labels.tolist(), seed)
    mean, deviation = images[kept].double().mean(), images[kept].double().std(correction=0)
    return [images[kept], labels[kept], images[held], labels[held], mean.float(), deviation.float()]


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


def optimiser_of(network):
    """Decay on the weights of convolutions and linear layers alone."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    rest = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)


def tf32(values):
    """To ten bits behind the point, to nearest, ties to even."""
    bits = values.view(torch.int32)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & ~0x1FFF).view(torch.float32)


class RoundedConvolution(torch.autograd.Function):
    """A convolution, forward and backward, whose operands are rounded and whose sums are not."""

    @staticmethod
    def forward(context, x, weight, stride, padding):
        x, weight = tf32(x), tf32(weight)
        context.save_for_backward(x, weight)
        context.stride, context.padding = stride, padding
        return torch.nn.functional.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        needed = [context.needs_input_grad[0], True, False]
        gradients = torch.ops.aten.convolution_backward(tf32(gradient), x, weight, None, context.stride,
                                                        context.padding, [1, 1], False, [0, 0], 1, needed)
        return gradients[0], gradients[1], None, None


def round_operands(network):
    """Replaces the forward pass of every convolution and linear layer by one of rounded operands."""
    def convolution(module):
        return lambda x: (RoundedConvolution.apply(x, module.weight, module.stride, module.padding)
                          + module.bias[:, None, None])

    def linear(module):
        return lambda x: RoundedConvolution.apply(x[:, :, None, None], module.weight[:, :, None, None], [1, 1],
                                                  [0, 0])[:, :, 0, 0] + module.bias

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.forward = convolution(module)
        elif isinstance(module, torch.nn.Linear):
            module.forward = linear(module)


def rounded(seed, options):
    """PyTorch's side with TF32 EMULATED."""
    return theirs(seed, options, change=round_operands)


def theirs(seed, options, change=lambda network: None):
    """PyTorch's side."""
    images, labels, held_images, held_labels, mean, deviation = data(seed)
    torch.manual_seed(seed)
    network = vgg13(16)
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    network = network.to(memory_format=torch.channels_last)
    change(network)
    optimiser = optimiser_of(network)
    loss = torch.nn.CrossEntropyLoss()
    per_epoch = len(images) // BATCH
    losses, accuracies = [], []
    for epoch in range(options.epochs):
        network.train()
        order = torch.randperm(len(images))
        total = 0.0
        for step in range(per_epoch):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = (augmented(images[chosen]) - mean) / deviation
            for group in optimiser.param_groups:
                group["lr"] = RATE * factor(epoch * per_epoch + step, options.epochs * per_epoch)
            optimiser.zero_grad(set_to_none=True)
            found = loss(network(batch.to(memory_format=torch.channels_last)), labels[chosen])
            found.backward()
            optimiser.step()
            total += found.item()
        losses.append(total / per_epoch)
        network.eval()
        with torch.inference_mode():
            normal = (held_images - mean) / deviation
            right = sum((network(part).argmax(1) == wanted).sum().item()
                        for part, wanted in zip(normal.split(500), held_labels.split(500)))
        accuracies.append(right / len(held_labels))
    return losses, accuracies


def ours(seed, options):
    """n2n's side: the program itself."""
    teacher = options.folder / f"n2n-{seed}.onnx"
    command = [options.program, "teacher", "train", "--arch", "vgg13", "--width", "0.25", "--data", "fashion-mnist",
               "--epochs", str(options.epochs), "--seed", str(seed), "--device", "cpu", "--out", teacher, "--json",
               "--quiet"]
    threads = {"RAYON_NUM_THREADS": str(options.threads)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads).stdout
    check_cut(teacher, seed)
    epochs = json.loads(output)["epochs"]
    return [epoch["loss"] for epoch in epochs], [epoch["validation_accuracy"] for epoch in epochs]


def check_cut(teacher, seed):
    """The normalisation in n2n's file is that of the images which PyTorch learns from: both sides cut alike."""
    for key, expected in zip((b"mean", b"deviation"), data(seed)[4:]):
        found = float(re.search(rb"n2n\.normalisation\." + key + rb"\x12.([0-9.e-]+)", teacher.read_bytes(), re.S)[1])
        if abs(found - expected.item()) > 1e-7:
            raise SystemExit(f"seed {seed}: n2n's {key.decode()} is {found}, PyTorch's {expected.item()}: other images")


def tail(t, freedom):
    """Two-sided p-value of Student's t: Simpson's rule over the density in the angle atan(t / sqrt(freedom))."""
    steps, end = 2000, math.atan(abs(t) / math.sqrt(freedom))
    weights = [1, *([4, 2] * (steps // 2))][:steps] + [1]
    inner = sum(w * math.cos(i * end / steps) ** (freedom - 1) for i, w in enumerate(weights)) * end / steps / 3
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return max(1 - 2 * scale * inner, 0.0)


def compared(ours, theirs):
    """Difference of means with its standard error and p-value: of independent runs (Welch), and of pairs of one seed."""
    difference = statistics.mean(ours) - statistics.mean(theirs)
    parts = [statistics.variance(side) / len(side) for side in (ours, theirs)]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (ours, theirs)))
    pairs = [a - b for a, b in zip(ours, theirs)]
    paired = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return difference, error, tail(difference / error, freedom), paired, tail(difference / paired, len(pairs) - 1)


SIDES = {"n2n": ours, "PyTorch": theirs, "PyTorch, TF32 EMULATED": rounded}


def report(runs, names, options):
    """Tables of what was measured."""
    head = " | ".join(f"epoch {epoch + 1}" for epoch in range(options.epochs))
    print(f"\nPyTorch {torch.__version__}, {time.strftime('%d %B %Y')}; validation accuracy, %\n\n| side, seed | {head} |")
    print("|---|" + "---|" * options.epochs)
    columns = {}
    for name in names:
        curves = [[100 * accuracy for accuracy in runs[name, seed]["accuracies"]] for seed in range(options.seeds)]
        for seed, curve in enumerate(curves):
            print(f"| {name}, {seed} | " + " | ".join(f"{accuracy:.2f}" for accuracy in curve) + " |")
        columns[name] = list(zip(*curves))
        if options.seeds > 1:
            row = " | ".join(f"**{statistics.mean(c):.2f}** ± {statistics.stdev(c):.2f}" for c in columns[name])
            print(f"| **{name}, mean ± deviation** | {row} |")
    for name in names if options.seeds > 1 else []:
        if name == "PyTorch":
            continue
        print(f"\n| {name} less PyTorch | {head} |\n|---|" + "---|" * options.epochs)
        results = [compared(*sides) for sides in zip(columns[name], columns["PyTorch"])]
        print("| difference | " + " | ".join(f"{result[0]:+.2f}" for result in results) + " |")
        for kind, at in (("independent runs (Welch)", 1), ("pairs of a seed", 3)):
            row = " | ".join(f"± {result[at]:.2f}, p {result[at + 1]:.2f}" for result in results)
            print(f"| standard error, {kind} | {row} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--seeds", type=int, default=6)
    arguments.add_argument("--tf32", action="store_true", help="also PyTorch with TF32's rounding EMULATED")
    arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side; accuracies do not depend on it")
    arguments.add_argument("--program", type=Path, help="n2n, if it is not to be built here")
    arguments.add_argument("--folder", type=Path, default=ROOT / "target/accuracy", help="where runs and models are kept")
    options = arguments.parse_args()
    if options.program is None:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bin", "n2n"], cwd=ROOT, check=True)
        options.program = ROOT / "target/release/n2n"
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / f"epochs-{options.epochs}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    runs = {(line["side"], line["seed"]): line for line in lines}
    names = [name for name, side in SIDES.items() if side is not rounded or options.tf32]
    for seed in range(options.seeds):
        for name in names:
            if (name, seed) in runs:
                continue
            start = time.perf_counter()
            losses, accuracies = SIDES[name](seed, options)
            seconds = round(time.perf_counter() - start)
            run = {"side": name, "seed": seed, "losses": losses, "accuracies": accuracies, "seconds": seconds}
            runs[name, seed] = run
            with file.open("a") as lines:
                lines.write(json.dumps(run) + "\n")
            print(f"{name}, seed {seed}: {100 * accuracies[-1]:.2f} % after {seconds} s", flush=True)
    report(runs, names, options)


if __name__ == "__main__":
    main()
