"""The golden check: correct evaluators of a model pass, broken models do not."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from bakit.export import export_bundle, spread
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import copy_of, serialize
from bakit.hand.prepare import crop
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.prediction import is_male
from bakit.types import Precision
from bakit.verify import golden_failure

GRAPHS = {"int8": "regressor-qdq.onnx", "fp32": "regressor.onnx"}


@pytest.fixture(scope="module", params=GRAPHS)
def case(request, tmp_path_factory):
    """Return a bundle of the shipped model, its graph, and the inputs of its goldens."""
    precision = Precision(request.param)
    out = tmp_path_factory.mktemp("golden") / "bundle"
    bundle = export_bundle(Checkpoint.read(SHIPPED), "tensorrt", precision, out)
    feeds = []
    for item in bundle.manifest.golden:
        grey = decode(bundle.files.read(item.path))
        pixels = crop(grey, item.box, item.inverted, bundle.manifest.preprocessing)
        sex = np.array([[is_male(item.sex)]], np.float32)
        feeds.append({"image": pixels[None, None], "sex": sex})
    return bundle, onnx.load(bundle.root / GRAPHS[request.param]), feeds


def literally(model, feeds):
    """Return ages from the graph as it is written, without any fusion."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )
    return [float(session.run(None, item)[0].item()) for item in feeds]


def in_openvino(model, feeds):
    openvino = pytest.importorskip("openvino")
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(serialize(model)), "CPU", hints)
    return [float(compiled(item)[0].item()) for item in feeds]


def in_tf32(model):
    """Return the graph with all factors of its products rounded to 11 bits."""
    copy, nodes = copy_of(model), []
    copy.graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), "veltkamp"))
    for node in copy.graph.node:
        for index in range(2 if node.op_type in {"Conv", "Gemm"} else 0):
            value, name = node.input[index], f"{node.name}/factor{index}"
            nodes += [
                helper.make_node("Mul", [value, "veltkamp"], [f"{name}/large"]),
                helper.make_node("Sub", [f"{name}/large", value], [f"{name}/rest"]),
                helper.make_node("Sub", [f"{name}/large", f"{name}/rest"], [name]),
            ]
            node.input[index] = name
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def test_no_correct_evaluator_is_refused(case):
    bundle, model, feeds = case
    ages = {
        "optimized": spread.evaluate(model, feeds),
        "literal": literally(model, feeds),
        "OpenVINO": in_openvino(model, feeds),
        "TF32": literally(in_tf32(model), feeds),
    }
    for seed in (101, 102, 103):  # not those of the export
        ages[f"noise {seed}"] = spread.evaluate(spread.perturbed(model, seed), feeds)
    failures = {name: golden_failure(found, bundle.manifest) for name, found in ages.items()}
    assert set(failures.values()) == {None}, failures


def edited(model, name, change):
    """Return a model with another value of an initializer."""
    copy = copy_of(model)
    tensor = next(item for item in copy.graph.initializer if item.name == name)
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), tensor.name))
    return copy


def test_broken_models_are_refused(case, checkpoint):
    bundle, model, feeds = case
    is_int8 = bundle.manifest.precision is Precision.INT8
    scale = "block5/project.weight" + ("_scale" if is_int8 else "")
    weight = "block7/expand.weight" + ("_quantized" if is_int8 else "")
    side = checkpoint.header.preprocessing.image_size
    small = [
        item | {"image": cv2.resize(item["image"][0, 0], (side, side))[None, None]}
        for item in feeds
    ]
    swapped = [item | {"sex": 1 - item["sex"]} for item in feeds]
    ages = {
        "wrong scale": spread.evaluate(edited(model, scale, lambda v: v * 2), feeds),
        "swapped sex": spread.evaluate(model, swapped),
        "shifted weights": spread.evaluate(
            edited(model, weight, lambda v: np.roll(v, 1, 0)), feeds
        ),
        "missing bias": spread.evaluate(
            edited(model, "block5/depthwise.bias", np.zeros_like), feeds
        ),
        "other checkpoint": spread.evaluate(regressor_model(checkpoint), small),
        "no number": [float("nan")] * len(feeds),
    }
    for name, found in ages.items():
        failure = golden_failure(found, bundle.manifest)
        assert failure, name
        assert "computes another model" in failure


def test_an_int8_bundle_built_without_int8_is_compared_with_the_float_model(case):
    bundle, _, _ = case
    floats = [golden.age_months for golden in bundle.manifest.golden]
    strict = msgspec.structs.replace(bundle.manifest, tolerance_months=1e-9)
    assert golden_failure(floats, strict, downgraded=True) is None
    if bundle.manifest.precision is Precision.INT8:
        assert golden_failure(floats, strict)
