"""How long engines take for one picture: tract, ONNX Runtime, OpenVINO and ncnn, in turns in one run.

python3 -m venv target/peers && target/peers/bin/pip install numpy onnx onnxruntime openvino ncnn pnnx     # once
cargo build --release --bin n2n
target/peers/bin/python tests/peers/inference.py                       # --threads 1 2, --rounds 5

tract runs in n2n's own agent, as nobody else here runs it; ONNX Runtime runs twice, in the agent and called directly, so that what the
agent says can be held against the engine itself. Weights are random: no engine's time depends on them. A round asks every engine once
before the next round begins; the figure is the median over rounds of each round's median, and agent / direct is that of their quickest
rounds. Do nothing else on the machine.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
# As long as a round of one engine takes, seconds.
ROUND_S = 1.0


class Graph:
    """An ONNX graph of convolutions, as n2n writes its students."""

    def __init__(self, shape):
        self.nodes, self.tensors, self.shape = [], [], list(shape)
        self.random = np.random.default_rng(0)
        self.last, self.channels = "input", shape[0]

    def tensor(self, values):
        name = f"t{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, kind, inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.last = name
        return name

    def conv(self, channels, kernel, stride=1, groups=1, act=True, top=None):
        fan = self.channels // groups * kernel * kernel
        weights = self.random.normal(0, fan**-0.5, (channels, self.channels // groups, kernel, kernel))
        pad = kernel // 2
        self.node(
            "Conv",
            [self.last, self.tensor(weights.astype(np.float32)), self.tensor(np.zeros(channels, np.float32))],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )
        self.channels = channels
        if top is not None:
            limits = [self.tensor(np.float32(0)), self.tensor(np.float32(top))]
            self.node("Clip", [self.last, *limits])
        elif act:
            self.node("Relu", [self.last])

    def model(self, classes):
        self.node("GlobalAveragePool", [self.last])
        self.node("Flatten", [self.last], axis=1)
        weights = self.random.normal(0, self.channels**-0.5, (classes, self.channels)).astype(np.float32)
        self.nodes.append(
            helper.make_node(
                "Gemm", [self.last, self.tensor(weights), self.tensor(np.zeros(classes, np.float32))], ["logits"], transB=1
            )
        )
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "peer",
            [value("input", TensorProto.FLOAT, [1, *self.shape])],
            [value("logits", TensorProto.FLOAT, [1, classes])],
            self.tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def resnet18(width):
    """The CIFAR form: 3x3 stem, four stages of two blocks, 32x32x3."""
    it = Graph((3, 32, 32))
    it.conv(width, 3)
    for stage in range(4):
        for block in range(2):
            channels, stride = width << stage, 2 if stage and not block else 1
            entry, before = it.last, it.channels
            it.conv(channels, 3, stride)
            it.conv(channels, 3, act=False)
            branch = it.last
            if stride != 1 or before != channels:
                it.last, it.channels = entry, before
                it.conv(channels, 1, stride, act=False)
                entry = it.last
            it.node("Add", [branch, entry])
            it.node("Relu", [it.last])
    return it.model(10)


def vgg13(widths):
    """28x28x1, two convolutions a stage, a pool after each."""
    it = Graph((1, 28, 28))
    for stage, channels in enumerate(widths):
        it.conv(channels, 3)
        it.conv(channels, 3)
        if stage < 4:
            it.node("MaxPool", [it.last], kernel_shape=[2, 2], strides=[2, 2])
    return it.model(10)


def mobilenet_v2(size):
    """Inverted residuals with depthwise convolutions; the stem's stride is 1 for small pictures."""
    it = Graph((3, size, size))
    it.conv(32, 3, 1 if size <= 32 else 2, top=6)
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, channels, count, stride in blocks:
        for index in range(count):
            entry, before, step = it.last, it.channels, stride if index == 0 else 1
            if expand != 1:
                it.conv(before * expand, 1, top=6)
            it.conv(it.channels, 3, step, groups=it.channels, top=6)
            it.conv(channels, 1, act=False)
            if step == 1 and before == channels:
                it.node("Add", [it.last, entry])
    it.conv(1280, 1, top=6)
    return it.model(10)


NETWORKS = {
    "ResNet-18 width 8, 32x32x3": lambda: resnet18(8),
    "ResNet-18 width 20, 32x32x3": lambda: resnet18(20),
    "ResNet-18 width 64, 32x32x3": lambda: resnet18(64),
    "VGG-13 quarter, 28x28x1": lambda: vgg13([16, 32, 64, 128, 128]),
    "VGG-13 eighth, 28x28x1": lambda: vgg13([8, 16, 32, 64, 64]),
    "MobileNetV2, 32x32x3": lambda: mobilenet_v2(32),
    "MobileNetV2, 96x96x3": lambda: mobilenet_v2(96),
}


def timed(run):
    """Median of single runs over a round, ns."""
    end = time.perf_counter() + ROUND_S
    for _ in range(3):
        run()
    samples = []
    while time.perf_counter() < end:
        began = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - began)
    return statistics.median(samples)


class Direct:
    """ONNX Runtime called by itself, with its input bound once."""

    def __init__(self, path, shape, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.random.default_rng(1).random(shape, np.float32))
        self.binding.bind_ortvalue_input("input", value)
        self.binding.bind_output("logits")

    def round(self):
        return timed(lambda: self.session.run_with_iobinding(self.binding))


class OpenVino:
    def __init__(self, path, shape, threads):
        import openvino

        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
        self.request = core.compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(np.random.default_rng(1).random(shape, np.float32)))

    def round(self):
        return timed(self.request.infer)


class Ncnn:
    def __init__(self, path, shape, threads):
        import ncnn

        folder = pathlib.Path(path).parent
        stem = pathlib.Path(path).stem
        pnnx = [str(pathlib.Path(sys.executable).parent / "pnnx"), pathlib.Path(path).name, f"inputshape=[{','.join(map(str, shape))}]", "fp16=0"]
        done = subprocess.run(pnnx, cwd=folder, capture_output=True, text=True)
        if not (folder / f"{stem}.ncnn.param").exists():
            raise RuntimeError(done.stderr[-500:])
        self.net = ncnn.Net()
        self.net.opt.num_threads, self.net.opt.use_vulkan_compute = threads, False
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        self.net.load_param(str(folder / f"{stem}.ncnn.param"))
        self.net.load_model(str(folder / f"{stem}.ncnn.bin"))
        self.input = ncnn.Mat(np.random.default_rng(1).random(shape[1:], np.float32))

    def run(self):
        with self.net.create_extractor() as extractor:
            extractor.input("in0", self.input)
            return extractor.extract("out0")

    def round(self):
        return timed(self.run)


class Agent:
    """n2n's agent, with one of its engines."""

    def __init__(self, engine, program, home):
        self.engine, self.program, self.home = engine, program, home

    def of(self, path, threads):
        self.arguments = [self.program, "measure", path, "--engine", self.engine, "--threads", str(threads), "--json", "--quiet"]
        return self

    def round(self):
        environment = {**os.environ, "N2N_HOME": str(self.home)}
        done = subprocess.run(self.arguments, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[0])
        return json.loads(done.stdout)["latency_ns"]["median"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    options = parser.parse_args()
    program = str(ROOT / "target/release/n2n")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
    home = folder / "home"
    library = next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    data = home / "local-agent"
    data.mkdir(parents=True)
    (data / "agent.toml").write_text(f'[onnxruntime]\nlibrary = "{library}"\n')
    print("| network | threads | " + " | ".join(["tract (agent)", "ONNX Runtime (agent)", "ONNX Runtime (direct)", "OpenVINO", "ncnn"]) + " | tract / best | agent / direct |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, make in NETWORKS.items():
        if options.only not in name:
            continue
        model = make()
        path = folder / f"{name.split(',')[0].replace(' ', '_').replace('-', '').lower()}_{len(model.SerializeToString())}.onnx"
        onnx.save(model, path)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        for threads in options.threads:
            makers = [
                lambda: Agent("tract", program, home).of(str(path), threads) if threads == 1 else None,
                lambda: Agent("onnxruntime", program, home).of(str(path), threads),
                lambda: Direct(str(path), shape, threads),
                lambda: OpenVino(str(path), shape, threads),
                lambda: Ncnn(str(path), shape, threads),
            ]
            engines = []
            for maker in makers:
                try:
                    engines.append(maker())
                except Exception as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    engines.append(None)
            rounds = [[] for _ in engines]
            for _ in range(options.rounds):
                for index, engine in enumerate(engines):
                    if engine is not None:
                        try:
                            rounds[index].append(engine.round())
                        except Exception as error:
                            print(f"{name}: {error}", file=sys.stderr)
            figures = [statistics.median(it) if it else None for it in rounds]
            show = ["-" if it is None else f"{it / 1e6:.3f}" for it in figures]
            best = min(it for it in figures[1:] if it is not None)
            tract = "-" if figures[0] is None else f"{figures[0] / best:.2f}"
            # The quickest rounds: a shared machine is slower than itself for seconds at a time.
            agent = f"{min(rounds[1]) / min(rounds[2]):.3f}" if rounds[1] and rounds[2] else "-"
            print(f"| {name} | {threads} | " + " | ".join(show) + f" | {tract} | {agent} |", flush=True)


if __name__ == "__main__":
    main()
