"""Core ML: coremltools really converts; the written programs are executed by the reference."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("coremltools")

from bakit.backends import coreml, mil
from bakit.backends.coreml_library import Builder as mb  # noqa: N813  # coremltools' own name
from bakit.backends.coreml_library import Function, Program, coremltools
from bakit.backends.mil_operators import OPERATORS
from bakit.backends.ort import OrtSession
from bakit.errors import BundleError, InputError, MissingProgramError, UnsupportedTargetError
from bakit.export.coreml import convert, write_package
from bakit.export.coreml_graph import program
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import GraphWriter, make_model, serialize
from bakit.files import sha256
from bakit.hand.unrolled import initial_weights
from bakit.runtime import Runtime
from bakit.session import TensorSpec
from bakit.settings import UnrolledSettings
from bakit.targets import get_target
from bakit.verify import check_golden

OFF_A_MAC = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")


def write(model, folder):
    write_package(model, folder, {"description": "a model", "license": "none"})
    return folder


@OFF_A_MAC
def test_a_coreml_bundle_says_where_it_runs(exported):
    bundle = exported("coreml", "fp32")
    with pytest.raises(
        MissingProgramError, match=r"'coreml' runs on macOS only.*'coreml-reference'"
    ):
        Runtime(bundle)
    backend = get_target("coreml").load_checker()
    assert all(check.passed for check in check_golden(bundle, backend=backend))


@OFF_A_MAC
def test_verify_says_who_checked(exported, refused):
    from click.testing import CliRunner

    from bakit.cli import main

    root = str(exported("coreml", "fp32").root)
    result = CliRunner().invoke(main, ["verify", root])
    assert result.exit_code == 0
    assert "checked with coreml-reference instead" in result.stderr
    assert "runs on macOS only" in refused("verify", root, "--on-device", status=3)


def test_both_targets_hold_the_same_models(exported):
    pairs = [exported(name, "fp32").manifest for name in ("coreml", "coreml-reference")]
    assert pairs[0].artifacts == pairs[1].artifacts


def test_the_model_describes_itself(exported):
    bundle = exported("coreml-reference", "fp16")
    spec = coremltools.proto.Model_pb2.Model()
    spec.ParseFromString((bundle.root / bundle.artifact("regressor").path).read_bytes())
    assert spec.specificationVersion == 8  # iOS 17, macOS 14
    about = spec.description
    assert "months" in about.output[0].shortDescription
    assert [item.name for item in about.input] == ["image", "sex"]
    assert all(item.shortDescription for item in about.input)
    assert "unverified on Apple hardware" in about.metadata.userDefined["verified"]
    assert about.metadata.userDefined["checkpoint_sha256"] == bundle.manifest.checkpoint_sha256
    assert "com.github.apple.coremltools.conversion_date" not in about.metadata.userDefined


def test_coremltools_opens_the_package(exported):
    bundle = exported("coreml-reference", "int8")
    package = bundle.root / "regressor.mlpackage"
    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    kinds = {
        operation.type
        for block in model.get_spec().mlProgram.functions["main"].block_specializations.values()
        for operation in block.operations
    }
    assert (
        {"quantize", "dequantize", "constexpr_affine_dequantize"}
        <= kinds
        <= {
            *OPERATORS,
            "const",
        }
    )


@pytest.mark.parametrize("form", ["loop", "unrolled", "winograd"])
def test_every_form_of_the_localizer_says_what_onnx_runtime_says(tmp_path, form):
    settings = UnrolledSettings(size=32, features=4, labels=4, steps=3)
    graph = localizer_model(initial_weights(settings), settings, form)
    package = write(convert(program(graph), half=False), tmp_path / "localizer.mlpackage")
    feeds = {"image": np.random.default_rng(3).random((1, 1, 32, 32), np.float32)}
    got = mil.MilSession(package, {"labels": "int32"}).run(feeds)["labels"]
    expected = OrtSession(serialize(graph)).run(feeds)["labels"]
    assert (got == expected).mean() >= 0.99  # a tie of two labels may fall to either
    assert len(np.unique(got)) > 1


def test_float16_is_rounded_to_float16(exported, labelled):
    """The ages differ from float32's, by less than a tenth of a month."""
    sample = labelled.samples[0]
    ages = []
    for precision in ("fp32", "fp16"):
        with Runtime(exported("coreml-reference", precision)) as runtime:
            ages.append(runtime.predict(sample.path, "M").age_months)
    assert 0 < abs(ages[0] - ages[1]) < 0.1


def test_an_onnx_operator_that_is_not_translated_is_named():
    writer = GraphWriter()
    writer.node("Erf", "x", name="y")
    graph = writer.graph("g", [TensorSpec("x", (1, 2))], [TensorSpec("y", (1, 2))])
    with pytest.raises(UnsupportedTargetError, match="'Erf' of node 'y' is not translated"):
        program(make_model(graph))


def test_an_operator_that_the_reference_lacks_is_named(tmp_path):
    unknown = Program()
    with Function({"x": mb.placeholder((1, 64))}, opset_version=coremltools.target.iOS17) as main:
        moved = mb.add(x=main.inputs["x"], y=np.arange(64, dtype=np.float32))  # a weights file
        main.set_outputs([mb.erf(x=moved, name="y")])
    unknown.add_function("main", main)
    weights = tmp_path / "x.mlpackage"
    with pytest.raises(BundleError, match=r"does not implement the operator 'erf' \(y\)"):
        mil.MilSession(write(convert(unknown, half=False), weights), {"y": "float32"})


def test_a_file_that_is_no_program_is_refused(exported, tmp_path):
    package = tmp_path / "bad.mlpackage"
    shutil.copytree(exported("coreml", "fp32").root / "regressor.mlpackage", package)
    (package / mil.MODEL).write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match="not a readable Core ML program"):
        mil.MilSession(package, {"age_months": "float32"})


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (1, 2), (6, 1), (6, 2)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_is_onnx_runtimes(groups, stride, kernel):
    rng = np.random.default_rng(kernel)
    x = rng.standard_normal((1, 6, 9, 8), np.float32)
    weight = rng.standard_normal((6, 6 // groups, kernel, kernel), np.float32)
    bias = rng.standard_normal(6, np.float32)
    pad = kernel // 2
    got = OPERATORS["conv"](
        x, weight, np.array([stride] * 2), "custom", np.array([pad] * 4), groups=groups, bias=bias
    )
    writer = GraphWriter()
    names = (writer.constant(weight), writer.constant(bias))
    options = {"pads": [pad] * 4, "strides": [stride] * 2, "group": groups}
    writer.node("Conv", "x", *names, name="y", kernel_shape=[kernel] * 2, **options)
    graph = writer.graph("g", [TensorSpec("x", x.shape)], [TensorSpec("y", got.shape)])
    expected = OrtSession(serialize(make_model(graph))).run({"x": x})["y"]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_quantize_rounds_to_even_and_saturates():
    x = np.array([-1000, -1.5, -0.5, 0.5, 1.5, 2.5, 1000], np.float32)
    levels = OPERATORS["quantize"](x, np.float32(1), "int8")
    assert levels.tolist() == [-128, -2, 0, 0, 2, 2, 127]
    assert OPERATORS["dequantize"](levels, np.float32(0.5), np.int8(2))[0] == -65


def test_a_mac_asks_core_ml(exported, monkeypatch):
    """By a double of what is used of coremltools; real Core ML has not run it."""
    bundle = exported("coreml", "fp32")
    artifact = bundle.artifact("regressor")
    opened = {}

    class Model:
        def __init__(self, path, compute_units):
            opened[path] = compute_units

        def predict(self, feeds):
            assert set(feeds) == {"image", "sex"}
            return {"age_months": np.array([[96.0]])}

    double = SimpleNamespace(
        models=SimpleNamespace(MLModel=Model), ComputeUnit=coremltools.ComputeUnit
    )
    monkeypatch.setattr(coreml, "coremltools", double)
    monkeypatch.setenv(coreml.VARIABLE, "cpu-ne")
    feeds = {spec.name: np.zeros(spec.shape, np.float32) for spec in artifact.inputs}
    with coreml.open_session(bundle.files_of(artifact), artifact, None) as session:
        assert session.provider == "coreml-cpu-ne"
        ages = session.run(feeds)["age_months"]
    assert (ages.dtype, ages.tolist()) == (np.float32, [[96.0]])
    ((package, units),) = opened.items()
    assert units == coremltools.ComputeUnit.CPU_AND_NE
    assert not package.startswith(str(bundle.root)), "a copy of the checked bytes is opened"
    assert not Path(package).exists(), "and removed at the end"


def test_compute_units_that_there_are_not(monkeypatch):
    monkeypatch.setenv(coreml.VARIABLE, "tpu")
    with pytest.raises(InputError, match="use all, cpu, cpu-gpu, cpu-ne"):
        coreml.chosen(coreml.VARIABLE, coreml.COMPUTE_UNITS, "all")


def test_the_table_knows_the_stand_in():
    assert get_target("coreml").reference == "coreml-reference"


# A device at a Mac, by doubles that take what coremltools' own functions take


@pytest.fixture
def remote(monkeypatch):
    """What was asked of coremltools; ``devices`` are those that are connected."""
    model, credentials, device, kinds = coreml.remote_parts()
    asked = SimpleNamespace(devices=["phone"], signed=[], loaded=[], unloaded=0, fails=None)

    class Phone:
        async def prepare_for_model_debugging(self, *arguments, **named):
            inspect.signature(device.prepare_for_model_debugging).bind(self, *arguments, **named)
            if asked.fails:
                raise ValueError(asked.fails)
            asked.signed.append(arguments[0].development_team)
            return self

    class Devices:
        @staticmethod
        def get_connected_devices(device_type):
            assert device_type is kinds.IPHONE
            return [Phone() for _ in asked.devices]

    class Model:
        @staticmethod
        def from_spec_or_path(**named):
            inspect.signature(model.from_spec_or_path).bind(**named)
            asked.loaded.append(named)
            return Model()

        async def load(self):
            pass

        async def unload(self):
            asked.unloaded += 1

        async def predict(self, inputs):
            inspect.signature(model.predict).bind(self, inputs, None)
            return {"age_months": np.array([[96.0]])}

    monkeypatch.setattr(coreml, "remote_parts", lambda: (Model, credentials, Devices, kinds))
    monkeypatch.setenv(coreml.DEVICE, "iphone")
    monkeypatch.setenv(coreml.TEAM, "TEAM")
    coreml._connect.cache_clear()
    loops = []
    monkeypatch.setattr(coreml.atexit, "register", lambda close: loops.append(close))
    yield asked
    coreml._connect.cache_clear()
    for close in loops:
        close()


def test_an_iphone_at_a_mac_runs_the_package(exported, remote, monkeypatch):
    monkeypatch.setenv(coreml.VARIABLE, "cpu-ne")
    bundle = exported("coreml", "fp32")
    artifact = bundle.artifact("regressor")
    feeds = {spec.name: np.zeros(spec.shape, np.float32) for spec in artifact.inputs}
    for _ in range(2):
        with coreml.open_session(bundle.files_of(artifact), artifact, None) as session:
            assert session.provider == "coreml-iphone"
            ages = session.run(feeds)["age_months"]
            weights = Path(remote.loaded[-1]["weights_dir"]) / "weight.bin"
            assert sha256(weights.read_bytes()) in artifact.files.values()
        assert not weights.exists()
    assert (ages.dtype, ages.tolist()) == (np.float32, [[96.0]])
    assert remote.signed == ["TEAM"], "the app is put there once"
    assert remote.unloaded == 2
    named = remote.loaded[0]
    assert not named["spec_or_path"].startswith(str(bundle.root))
    assert named["compute_units"] is coremltools.ComputeUnit.CPU_AND_NE


def test_no_iphone_or_one_that_cannot_be_used(exported, remote):
    bundle = exported("coreml", "fp32")
    artifact = bundle.artifact("regressor")
    remote.devices = []
    with pytest.raises(MissingProgramError, match="no iphone is connected: plug it in"):
        coreml.open_session(bundle.files_of(artifact), artifact, None)
    remote.devices, remote.fails = ["phone"], "No team\nTry again"
    with pytest.raises(MissingProgramError, match="cannot be used: No team: install Xcode"):
        coreml.open_session(bundle.files_of(artifact), artifact, None)


def test_a_device_that_there_is_not(monkeypatch):
    monkeypatch.setenv(coreml.DEVICE, "watch")
    with pytest.raises(InputError, match="use iphone, ipad"):
        coreml.chosen(coreml.DEVICE, coreml.KINDS, "")
