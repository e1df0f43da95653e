"""Runs an exported student in other engines and compares their answers: ONNX Runtime, OpenVINO, tract, ncnn by pnnx.

    n2n export runs/photos --format onnx --out student.onnx
    python exported.py student.onnx

Needs the packages numpy and onnxruntime; of openvino, tract, pnnx and ncnn those that are there are tried. Written for
files that take float32.
"""

import os
import subprocess
import sys
import tempfile

import numpy
import onnxruntime


def by_openvino(model, images):
    import openvino

    # Without this it computes with 16 bits on processors that can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.convert_model(model), "CPU", exact)
    return numpy.concatenate([compiled(image[None])[0] for image in images])


def by_tract(model, images):
    import tract

    loaded = tract.onnx().load(model)
    loaded.set_input_fact(0, "1," + ",".join(map(str, images.shape[1:])) + ",f32")
    runnable = loaded.into_model().into_runnable()
    return numpy.concatenate([runnable.run([image[None]])[0].to_numpy() for image in images])


def by_ncnn(model, images):
    import ncnn
    import pnnx

    folder = tempfile.mkdtemp()
    shape = ",".join(map(str, (1, *images.shape[1:])))
    tool = os.path.join(os.path.dirname(pnnx.__file__), "pnnx")
    copy = os.path.join(folder, "student.onnx")
    with open(model, "rb") as file, open(copy, "wb") as to:
        to.write(file.read())
    subprocess.run([tool, copy, f"inputshape=[{shape}]"], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(os.path.join(folder, "student.ncnn.param"))
    net.load_model(os.path.join(folder, "student.ncnn.bin"))
    rows = []
    for image in images:
        extractor = net.create_extractor()
        # A copy: the engine reads it later than it says.
        extractor.input("in0", ncnn.Mat(numpy.ascontiguousarray(image)).clone())
        rows.append(numpy.array(extractor.extract("out0")[1])[None])
    return numpy.concatenate(rows)


def main(model):
    session = onnxruntime.InferenceSession(model)
    (given,) = session.get_inputs()
    images = numpy.random.default_rng(0).random((8, *given.shape[1:]), numpy.float32)
    wanted = numpy.concatenate([session.run(None, {given.name: image[None]})[0] for image in images])
    largest = numpy.abs(wanted).max()
    print(f"ONNX Runtime {onnxruntime.__version__}: largest logit {largest:.3f}")
    for name, engine in [("OpenVINO", by_openvino), ("tract", by_tract), ("ncnn by pnnx", by_ncnn)]:
        try:
            difference = numpy.abs(engine(model, images) - wanted).max() / max(1.0, largest)
            print(f"{name}: differs by {difference:.1e} of it")
        except ImportError as error:
            print(f"{name}: not tried, {error}")
        except Exception as error:  # an engine's refusal is a result
            print(f"{name}: fails, {type(error).__name__}: {error}")


main(*sys.argv[1:])
