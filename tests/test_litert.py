"""LiteRT: the written files, what its interpreter runs, and what it refuses."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from bakit.backends.litert import BUILT_IN, DELEGATE, LiteRtSession, open_session
from bakit.backends.ort import OrtSession
from bakit.errors import BundleError, UnsupportedTargetError
from bakit.export.artifact import specs_of
from bakit.export.litert import tflite
from bakit.export.onnx.int8 import CPU, quantize
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import GraphWriter, make_model, serialize
from bakit.session import TensorSpec

SEX = np.ones((1, 1), np.float32)


def model_of(bundle, role="regressor"):
    data = (bundle.root / f"{role}.tflite").read_bytes()
    return schema.ModelT.InitFromPackedBuf(data), data


def operators(model):
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    graph = model.subgraphs[0]
    return [
        (names[model.operatorCodes[item.opcodeIndex].builtinCode], item) for item in graph.operators
    ]


def layers(model):
    """Operator and weight of each layer with multiply-adds."""
    tensors = model.subgraphs[0].tensors
    return [
        (kind, [tensors[number] for number in (*item.inputs, *item.outputs)])
        for kind, item in operators(model)
        if kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}
    ]


# The files


def test_int8_layers_are_integers_and_the_recipe_s_float_layers_are_not(exported, checkpoint):
    model, _ = model_of(exported("litert", "int8"))
    kept = {f"{name}.weight" for name in checkpoint.header.ranges.float_layers}
    found = {}
    for kind, (x, weight, bias, output) in layers(model):
        name = weight.name.decode()
        found[name] = weight.type == schema.TensorType.INT8
        if not found[name]:
            assert {x.type, bias.type, output.type} == {schema.TensorType.FLOAT32}
            continue
        scales = weight.quantization
        axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
        assert len(scales.scale) == weight.shape[scales.quantizedDimension]
        assert scales.quantizedDimension == axis
        assert not np.any(scales.zeroPoint)
        assert bias.type == schema.TensorType.INT32
        expected = np.float32(x.quantization.scale[0]) * np.asarray(scales.scale, np.float32)
        np.testing.assert_allclose(bias.quantization.scale, expected, rtol=1e-6)
        assert {x.type, output.type} == {schema.TensorType.INT8}
        data = model.buffers[weight.buffer].data.view(np.int8)
        assert -64 <= data.min() < 0 < data.max() <= 64  # the 7 bits of the target onnx
    assert {
        name.removesuffix("_quantized") for name, is_int8 in found.items() if not is_int8
    } == kept
    graph = model.subgraphs[0]
    ends = [*graph.inputs, *graph.outputs]
    assert {graph.tensors[number].type for number in ends} == {schema.TensorType.FLOAT32}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_tensor_has_its_own_name(exported, precision):
    """LiteRT's own tools, such as ai-edge-quantizer, refuse other files."""
    for role in ("regressor", "localizer"):
        model, _ = model_of(exported("litert", precision), role)
        names = [tensor.name for tensor in model.subgraphs[0].tensors]
        assert len(names) == len(set(names))


def test_fp16_halves_all_weights_but_the_last_layer_s(exported):
    model, data = model_of(exported("litert", "fp16"))
    halves = [
        t.name.decode() for t in model.subgraphs[0].tensors if t.type == schema.TensorType.FLOAT16
    ]
    assert len(halves) == 2 * (len(layers(model)) - 1)
    assert not [name for name in halves if name.startswith("age_months")]
    assert len(data) < 0.51 * len(model_of(exported("litert", "fp32"))[1])


@pytest.mark.parametrize("role", ["regressor", "localizer"])
def test_a_file_tells_what_it_is(exported, role):
    bundle = exported("litert", "int8")
    model, data = model_of(bundle, role)
    assert data[4:8] == b"TFL3"
    (document,) = model.metadata
    about = json.loads(model.buffers[document.buffer].data.tobytes())
    assert about["checkpoint_sha256"] == bundle.manifest.checkpoint_sha256
    assert about["precision"] == ("int8" if role == "regressor" else "fp32")
    (signature,) = Interpreter(model_content=data).get_signature_list().values()
    artifact = bundle.artifact(role)
    assert sorted(signature["inputs"]) == sorted(spec.name for spec in artifact.inputs)
    assert signature["outputs"] == [spec.name for spec in artifact.outputs]


def test_constants_are_aligned(exported):
    _, data = model_of(exported("litert", "fp32"))
    root = schema.Model.GetRootAs(data, 0)
    vectors = [root.Buffers(i) for i in range(root.BuffersLength())]
    places = [b._tab.Vector(flatbuffers.number_types.UOffsetTFlags.py_type(b._tab.Offset(4)))
              for b in vectors if b.DataLength()]  # fmt: skip
    assert len(places) > 100
    assert not [place for place in places if place % 16]


# The numbers


@pytest.mark.parametrize("size", [96, 500])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("int8", 0.02)])
def test_the_graph_is_onnx_s_at_even_and_odd_sides(checkpoint, size, precision, tolerance):
    """LiteRT's own padding is another one where a stride halves an even side."""
    ranges = checkpoint.header.ranges
    changed = msgspec.structs.replace(checkpoint.header.preprocessing, image_size=size)
    checkpoint = checkpoint.with_header(preprocessing=changed)
    model = regressor_model(checkpoint)
    if precision == "int8":
        model = quantize(model, ranges, CPU)
    specs = specs_of("regressor", checkpoint.header)
    feeds = {"image": np.random.default_rng(0).random(specs[0][0].shape, np.float32), "sex": SEX}
    expected = OrtSession(serialize(model)).run(feeds)["age_months"].item()
    got = LiteRtSession(tflite(model, specs, "", {})).run(feeds)["age_months"].item()
    assert got == pytest.approx(expected, rel=tolerance)


def test_an_operator_without_a_translation_is_named():
    writer = GraphWriter()
    writer.node("Exp", "image", name="age_months")
    spec = TensorSpec("image", (1, 1)), TensorSpec("age_months", (1, 1))
    model = make_model(writer.graph("regressor", [spec[0]], [spec[1]]))
    with pytest.raises(UnsupportedTargetError, match="the operator 'Exp' of node 'age_months'"):
        tflite(model, ((spec[0],), (spec[1],)), "", {})


# What runs, and what is refused


@pytest.mark.parametrize(("precision", "share"), [("fp32", 0), ("fp16", 0), ("int8", 0.985)])
def test_xnnpack_runs_every_layer(exported, precision, share):
    bundle = exported("litert", precision)
    artifact = bundle.artifact("regressor")
    with open_session(bundle.files_of(artifact), artifact, 1) as opened:
        assert opened.provider == DELEGATE
        assert {item.unit for item in opened.executed} == {DELEGATE}
        shares = {item.precision: item.share for item in opened.executed}
        assert shares.get("int8", 0) == pytest.approx(share, abs=1e-3)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


def test_a_layer_outside_of_the_delegate_is_seen(exported, monkeypatch):
    """The fallback that is silent: LiteRT without XNNPACK runs its own kernels."""
    from ai_edge_litert.interpreter import OpResolverType

    from bakit.backends import litert

    def without(**options):
        kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        return Interpreter(experimental_op_resolver_type=kind, **options)

    monkeypatch.setattr(litert, "Interpreter", without)
    _, data = model_of(exported("litert", "int8"))
    opened = LiteRtSession(data)
    assert opened.provider == BUILT_IN
    assert {item.unit for item in opened.executed} == {BUILT_IN}
    assert max(opened.executed, key=lambda item: item.share).precision == "int8"


def test_it_writes_nothing_to_stderr(exported, capfd):
    _, data = model_of(exported("litert", "fp32"))
    LiteRtSession(data)
    assert capfd.readouterr() == ("", "")


def damaged(data, kind):
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not a model " * 100
    if kind == "half":
        return data[: len(data) // 2]
    if kind == "root":
        return b"\xff\xff\xff\x7f" + data[4:]
    return data[:8] + bytes(4096) + data[4104:]


@pytest.mark.parametrize("kind", ["empty", "text", "half", "root", "zeros"])
def test_a_damaged_file_is_refused_in_one_line(exported, kind):
    data = damaged(model_of(exported("litert", "fp32"))[1], kind)
    with pytest.raises(
        BundleError, match=r"^x\.tflite: LiteRT [\d.]+ cannot load it: .+"
    ) as caught:
        LiteRtSession(data, name="x.tflite")
    assert "\n" not in str(caught.value)


def test_constants_in_other_files_are_refused(exported):
    model, _ = model_of(exported("litert", "fp32"), "localizer")
    model.externalBufferGroups = [schema.ExternalBufferGroupT("/etc/passwd")]
    builder = flatbuffers.Builder(1)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(BundleError, match="its constants are in other files"):
        LiteRtSession(bytes(builder.Output()))
