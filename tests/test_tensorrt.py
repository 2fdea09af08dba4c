"""TensorRT: what is written for it, NVIDIA's own compiler on it, and the backend on a stand-in."""

from __future__ import annotations

import ctypes
import re
import runpy
import shutil
import struct
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from bakit import agent
from bakit.bundle import Bundle, seal
from bakit.errors import BundleError, MissingProgramError, UnsupportedTargetError
from bakit.export import export_bundle
from bakit.export.onnx.float16 import half_model
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize, walk
from bakit.export.tensorrt import calibration_cache, finish
from bakit.hand.unrolled import initial_weights
from bakit.runtime import Runtime
from bakit.settings import UnrolledSettings
from bakit.targets import get_target
from bakit.types import Precision
from tests.benchmarks.rtx_builds import compile_graph

VERSIONS = ("8.2.1", "8.5.2", "8.6.1", "10.3.0", "11.4.1")


@pytest.fixture(params=sorted(p.value for p in get_target("tensorrt").precisions))
def bundle(request, exported):
    return exported("tensorrt", request.param)


def files_of(bundle):
    return {name for artifact in bundle.manifest.artifacts for name in artifact.files}


# What is written


def test_a_bundle_holds_what_each_version_builds_from(exported):
    builds = {
        precision: exported("tensorrt", precision).artifact("regressor").builds
        for precision in ("fp32", "fp16", "int8")
    }
    assert [build.path for build in builds["fp32"]] == ["regressor.onnx"]
    assert [(b.path, b.flags, b.strongly_typed) for b in builds["fp16"]] == [
        ("regressor.onnx", ("fp16",), False),
        ("regressor-fp16.onnx", (), True),
    ]
    assert [(b.path, b.flags, b.strongly_typed) for b in builds["int8"]] == [
        ("regressor.onnx", ("fp16", "int8"), False),
        ("regressor-qdq.onnx", ("fp16", "int8"), False),
        ("regressor-qdq-fp16.onnx", (), True),
        ("regressor-qdq-depthwise.onnx", ("fp16", "int8"), False),
        ("regressor-qdq-fp16-depthwise.onnx", (), True),
    ]
    assert builds["int8"][0].calibration_cache == "regressor.cache"
    for chain in (builds["fp32"], builds["fp16"], builds["int8"][:3]):
        assert chain[0].min_version == "8.2"
        assert chain[-1].max_version is None
        for before, after in pairwise(chain):
            assert before.max_version == after.min_version, "no version is left out"


def test_int8_is_symmetric_and_its_biases_are_float(exported):
    model = onnx.load(exported("tensorrt", "int8").root / "regressor-qdq.onnx")
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert pairs
    for node in pairs:
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert (scale > 0).all()
        assert zero.dtype == np.int8
        assert not zero.any()
    dequantized = {n.output[0] for n in pairs if n.op_type == "DequantizeLinear"}
    layers = [n for n in model.graph.node if n.op_type in {"Conv", "Gemm"}]
    assert not any(n.input[2] in dequantized for n in layers if len(n.input) > 2)


@pytest.mark.parametrize("name", ["regressor-qdq", "regressor-qdq-fp16"])
def test_no_relu_stands_between_two_pairs_and_the_last_layer_is_float(exported, name):
    root = exported("tensorrt", "int8").root
    counts = []
    for end in ("", "-depthwise"):
        model = onnx.load(root / f"{name}{end}.onnx")
        producers = {out: node for node in model.graph.node for out in node.output}
        before = [producers[n.input[0]].op_type for n in model.graph.node if n.op_type == "Relu"]
        assert set(before) <= {"Conv", "Gemm"}
        (last,) = (node for node in model.graph.node if node.output[0] == "age_months")
        kinds = {item.name: item.data_type for item in model.graph.initializer}
        assert {kinds[name] for name in last.input[1:]} == {onnx.TensorProto.FLOAT}
        depthwise = [n for n in model.graph.node if n.name.endswith("/depthwise")]
        counts.append(sum(n.input[1] in producers for n in depthwise))
        half = [kind for name, kind in kinds.items() if name not in last.input]
        assert (onnx.TensorProto.FLOAT in half) == (name == "regressor-qdq")
    assert counts[0] > 0
    assert counts[1] == 0


def test_the_cache_has_each_scale_as_a_big_endian_float(checkpoint):
    ranges = checkpoint.header.ranges
    lines = calibration_cache(regressor_model(checkpoint), ranges).decode().splitlines()
    assert re.fullmatch(r"TRT-\d+-EntropyCalibration2", lines[0])
    scales = dict(line.split(": ") for line in lines[1:])
    assert scales
    for name, bits in scales.items():
        (scale,) = struct.unpack(">f", bytes.fromhex(bits))
        assert scale == pytest.approx(max(map(abs, ranges.tensors[name])) / 127, rel=1e-6)
    assert "image" not in scales, "only the first convolution reads it, and that stays float"


def test_float16_keeps_inputs_output_and_months_in_float32(checkpoint):
    model = half_model(regressor_model(checkpoint))
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    wide = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT}
    assert wide == {"age_months.weight", "age_months.bias"}
    for item in (*model.graph.input, *model.graph.output):
        assert item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("form", ["loop", "unrolled", "winograd"])
def test_no_form_convolves_with_weights_made_at_run_time(form):
    settings = UnrolledSettings(size=16, features=4, labels=4, steps=2)
    model = localizer_model(initial_weights(settings), settings, form)
    assert "Conv" not in {node.op_type for node in walk(model.graph)}


# NVIDIA's compiler, which needs no GPU


@cache  # bundles share graphs
def rtx_build(data: bytes) -> str:
    """Return what TensorRT-RTX says against a graph; nothing if it builds an engine."""
    pytest.importorskip("tensorrt_rtx_bindings")
    try:
        compile_graph(data)
    except ValueError as refused:
        return str(refused)
    return ""


def test_nvidia_s_compiler_builds_every_graph_of_a_bundle(bundle):
    for name in sorted(files_of(bundle)):
        if name.endswith(".onnx"):
            assert rtx_build((bundle.root / name).read_bytes()) == "", name


@pytest.mark.parametrize("form", ["loop", "unrolled", "winograd"])
def test_nvidia_s_compiler_builds_every_form_of_the_localizer(form):
    settings = UnrolledSettings(size=32, features=8, labels=8, steps=50 if form == "loop" else 3)
    model = localizer_model(initial_weights(settings), settings, form)
    assert rtx_build(serialize(model)) == ""


def test_nvidia_s_compiler_refuses_what_it_should(exported):
    """The INT8 of the target onnx has integer biases: this judge is no rubber stamp."""
    data = (exported("onnx", "int8").root / "regressor.onnx").read_bytes()
    assert "bias" in rtx_build(data)


# The backend on a stand-in that executes


@pytest.fixture(scope="module")
def age_by_ort():
    """Return what returns ONNX Runtime's age of an image, computed once for each bundle."""
    from bakit.backends import ort

    @cache
    def predict(root: Path, image: Path) -> float:
        with Runtime(root, backend=ort) as runtime:
            return runtime.predict(image, "F").age_months

    return predict


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_says_what_the_export_said(
    bundle, labelled, tensorrt_double, age_by_ort, version
):
    tensorrt_double(version)
    image = labelled.samples[0].path
    with Runtime(bundle) as runtime:
        age = runtime.predict(image, "F").age_months
        assert runtime.provider.startswith(f"TensorRT {version}")
    # The double runs weak types in float32: only the graph that is built differs.
    limit = 0.02 if bundle.manifest.precision is Precision.FP32 else 30.0
    assert age == pytest.approx(age_by_ort(bundle.root, image), abs=limit)


def live_blocks(folder: Path) -> int:
    return ctypes.CDLL(str(folder / "libcuda.so.1")).double_live()


def test_all_memory_is_given_back(exported, labelled, tensorrt_double, doubled_cuda):
    tensorrt_double()
    before = live_blocks(doubled_cuda)
    with Runtime(exported("tensorrt", "fp32")) as runtime:
        runtime.predict(labelled.samples[0].path, "M")
        assert live_blocks(doubled_cuda) > before
    assert live_blocks(doubled_cuda) == before


def test_engines_are_kept_and_a_damaged_one_is_built_anew(
    exported, tensorrt_double, tmp_path, monkeypatch
):
    tensorrt_double()
    with Runtime(exported("tensorrt", "fp32")):
        pass
    kept = sorted((tmp_path / "home").rglob("*.engine"))
    assert len(kept) == 2
    monkeypatch.setenv("DOUBLE_BUILD_FAILS", "1")
    with Runtime(exported("tensorrt", "fp32")):
        pass  # nothing was built
    whole = kept[0].read_bytes()
    cut, other = whole[:-100], b"an engine of another TensorRT"
    for data, digest in ((cut, whole), (other, other)):
        kept[0].write_bytes(data)
        Path(f"{kept[0]}.sha256").write_text(agent.sha256(digest))
        with pytest.raises(BundleError, match=r"cannot build [\w-]+\.onnx: 1$"):
            Runtime(exported("tensorrt", "fp32"))
    monkeypatch.delenv("DOUBLE_BUILD_FAILS")
    with Runtime(exported("tensorrt", "fp32")):
        pass
    assert kept[0].read_bytes() == whole


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_int8_without_a_depthwise_kernel_falls_back_and_says_so(
    exported, tensorrt_double, monkeypatch, version
):
    tensorrt_double(version)
    monkeypatch.setenv("DOUBLE_BUILD_FAILS", "depthwise")
    for build_s in ("built", "from the cache"):
        with Runtime(exported("tensorrt", "int8")) as runtime:
            assert re.fullmatch(
                rf"TensorRT {version} int8, fall-back regressor-qdq\S*-depthwise.onnx",
                runtime.provider,
            ), build_s


@pytest.mark.parametrize("lack", ["memory", "tactics"])
def test_a_build_without_memory_is_tried_again_with_fewer_libraries(
    exported, tensorrt_double, monkeypatch, capfd, lack
):
    """A tactic that is skipped for want of memory is a warning; the error does not name it."""
    tensorrt_double()
    monkeypatch.setenv("DOUBLE_BUILD_FAILS", lack)
    with Runtime(exported("tensorrt", "fp32")):
        pass
    assert "not enough memory: once more without cuDNN and cuBLAS" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        ("no implementation for node conv due to insufficient workspace", "--workspace-mb 1024"),
        ("[virtualMemoryBuffer.cpp] out of memory", "of swap on disk"),
        ("CUDA driver version is insufficient for CUDA runtime version", "runtime version$"),
    ],
)
def test_what_a_build_lacked_is_named_with_its_remedy(
    exported, tensorrt_double, monkeypatch, lack, said
):
    tensorrt_double()
    monkeypatch.setenv("DOUBLE_BUILD_FAILS", lack)
    with pytest.raises(BundleError, match=said):
        Runtime(exported("tensorrt", "fp32"))


@pytest.mark.parametrize("why", ["No space left on device", "Not a directory"])
def test_a_full_disk_costs_the_next_build_and_not_this_one(
    exported, tensorrt_double, monkeypatch, tmp_path, capfd, why
):
    def full(source, to):
        raise OSError(28, why, to)

    tensorrt_double()
    home = tmp_path / "home"
    if "space" in why:
        monkeypatch.setattr(agent.os, "replace", full)
    else:
        home.mkdir()
        (home / ".cache").touch()
    with Runtime(exported("tensorrt", "fp32")) as runtime:
        assert runtime.provider == "TensorRT 10.3.0 fp32"
    assert capfd.readouterr().err.count(f"made anew next time ({why})") == 4
    assert not list(home.rglob("*.engine"))


def test_a_damaged_timing_cache_is_written_anew(exported, tensorrt_double, tmp_path, capfd):
    tensorrt_double()
    with Runtime(exported("tensorrt", "fp32")):
        pass
    home = tmp_path / "home"
    (timing,) = home.rglob("*.timing")
    for data in (b"damaged", b"torn"):  # of the second, TensorRT makes no cache at all
        timing.write_bytes(data)
        for engine in home.rglob("*.engine"):
            engine.unlink()
        with Runtime(exported("tensorrt", "fp32")):
            pass
        assert timing.read_bytes() == b"timings"
        assert "written anew" in capfd.readouterr().err


def test_where_tensorrt_is_an_export_builds_the_engines(
    checkpoint, exported, tensorrt_double, tmp_path, few_goldens
):
    int8 = exported("tensorrt", "int8")
    tensorrt_double("8.6.1", "53")
    finish(int8)  # this GPU has no INT8 unit
    assert not list((tmp_path / "home").rglob("*.engine"))
    tensorrt_double("8.6.1", "87")
    export_bundle(checkpoint, "tensorrt", Precision.FP32, tmp_path / "bundle")
    assert len(list((tmp_path / "home").rglob("*.engine"))) == 2


def test_another_version_or_gpu_has_its_own_engines(
    exported, tensorrt_double, tmp_path, monkeypatch
):
    """All Orins' GPUs have one name and number: their count of multiprocessors differs."""
    places = (("10.3.0", "87", "8"), ("8.6.1", "87", "8"), ("8.6.1", "72", "8"))
    for version, sm, cores in (*places, ("8.6.1", "87", "4")):
        tensorrt_double(version, sm)
        monkeypatch.setenv("DOUBLE_CORES", cores)
        with Runtime(exported("tensorrt", "fp16")):
            pass
    engines = sorted((tmp_path / "home").rglob("*.engine"))
    assert len(engines) == 8
    assert all(b'"tf32": false' in engine.read_bytes() for engine in engines), (
        "it is set by default"
    )


def test_int8_is_refused_before_a_build_where_there_is_none(exported, tensorrt_double, tmp_path):
    tensorrt_double("8.2.1", "53")
    with pytest.raises(UnsupportedTargetError, match="no INT8 unit: use --fp16"):
        Runtime(exported("tensorrt", "int8"))
    assert not list((tmp_path / "home").rglob("*.engine"))
    with Runtime(exported("tensorrt", "fp16")) as runtime:
        assert "fp16" in runtime.provider


def test_a_driver_that_is_too_old_is_said_so(exported, tensorrt_double, monkeypatch, tmp_path):
    tensorrt_double("10.3.0")
    monkeypatch.setenv("DOUBLE_DRIVER", "11040")
    with pytest.raises(BundleError, match=r"driver is too old: it is for CUDA 11\.4, .* 12\.6"):
        Runtime(exported("tensorrt", "fp32"))
    assert not list((tmp_path / "home").rglob("*.engine"))
    monkeypatch.setenv("DOUBLE_DRIVER", "12020")  # older within the same major version
    with Runtime(exported("tensorrt", "fp32")):
        pass


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1", "10.3.0", "11.4.1"])
def test_what_an_engine_computes_in_is_what_its_layers_say(exported, tensorrt_double, version):
    tensorrt_double(version)
    for precision in ("fp32", "fp16", "int8"):
        with Runtime(exported("tensorrt", precision)) as runtime:
            assert runtime.provider == f"TensorRT {version} {precision}"


def test_types_that_nobody_reports_are_said_to_be_the_file_s(exported):
    builds = msgspec.to_builtins(exported("tensorrt", "fp16").artifact("regressor").builds)
    weak = agent.Recipe(builds[0], ["fp16"], b"", b"", "")
    strong = agent.Recipe(builds[1], [], b"", b"", "")
    assert agent.precision_words({}, weak) == "fp16"
    assert agent.precision_words({}, strong) == "with the types of regressor-fp16.onnx"
    assert agent.precision_words({"fp32": 3, "int8": 9}, strong) == "int8+fp32"


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1"])
def test_a_downgrade_builds_the_float_graph(exported, tensorrt_double, tmp_path, version):
    tensorrt_double(version, "53")
    bundle = exported("tensorrt", "int8")
    options = {"device": ["GM20B", [5, 3]], "workspace_mb": 256, "downgrade": True}
    options["cache"] = str(tmp_path / "engines")
    regressor = msgspec.to_builtins(bundle.artifact("regressor"))
    model = agent.TensorRtModel(str(bundle.root), regressor, options)
    assert model.provider == f"TensorRT {version} fp16"
    model.close()


def test_what_is_missing_is_said(exported, refused, tensorrt_double, monkeypatch, labelled):
    root = exported("tensorrt", "fp32").root
    with pytest.raises(MissingProgramError, match="TensorRT is not installed here: a Jetson"):
        Runtime(root)
    line = refused("predict", labelled.samples[0].path, "--sex", "F", "--bundle", root, status=3)
    assert "bakit bench --host" in line
    tensorrt_double()
    monkeypatch.setenv("DOUBLE_NO_DRIVER", "1")
    with pytest.raises(MissingProgramError, match=r"no GPU to run on \(cuInit says 100\)"):
        Runtime(root)


def test_too_little_memory_is_said(exported, tensorrt_double, monkeypatch):
    tensorrt_double()
    monkeypatch.setenv("DOUBLE_MEMORY", "1000")
    with pytest.raises(BundleError, match=r"cudaMalloc\w* says 2: out of memory"):
        Runtime(exported("tensorrt", "fp32"))


def test_a_version_before_the_oldest_is_told_what_to_install(exported, tensorrt_double):
    tensorrt_double("8.0.1")
    with pytest.raises(BundleError, match=r"JetPack 4.6.0 ships 8.0.1: upgrade"):
        Runtime(exported("tensorrt", "fp32"))


def test_a_cache_of_another_checkpoint_is_a_changed_file(exported, tmp_path):
    root = shutil.copytree(exported("tensorrt", "int8").root, tmp_path / "bundle")
    (root / "regressor.cache").write_bytes(b"TRT-8200-EntropyCalibration2\nimage: 3c010a14\n")
    seal(root)
    with pytest.raises(BundleError, match=r"regressor.cache: changed since it was exported"):
        Bundle.read(root)


def test_the_names_that_are_looked_for_in_real_bindings_are_the_agent_s():
    """``tests/benchmarks/tensorrt_names.py`` reads them from its source; each object has some."""
    script = runpy.run_path(str(Path(__file__).parent / "benchmarks/tensorrt_names.py"))
    used, asked = script["names"]()
    assert {name.partition(".")[0] for name in used} >= set(script["KINDS"].values())
    assert "ICudaEngine.num_io_tensors" in asked
    older = {name for names in script["INSTEAD"].values() for name in names}
    assert older <= used
    assert {name for names in script["ONLY_WITH"].values() for name in names} <= used
