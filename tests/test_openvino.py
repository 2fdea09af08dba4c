"""What is special about OpenVINO; what every target keeps to is in tests/contract."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.bench.local.ages import localizer_key
from bakit.bundle import Artifact, Bundle, seal
from bakit.cli import main
from bakit.export import export_bundle
from bakit.files import sha256
from bakit.runtime import Runtime
from bakit.targets import get_target
from bakit.types import Precision

pytest.importorskip("bakit.backends.openvino", exc_type=ImportError)

from bakit.backends.openvino import executed, open_session, openvino

ROOT = Path(__file__).parents[1]
X86 = platform.machine().lower() in {"x86_64", "amd64"}
HALF = "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def bundle(exported, tmp_path):
    """A bundle's folder, for one test to damage."""
    return shutil.copytree(exported("openvino", "fp32").root, tmp_path / "bundle")


def reseal(root, name):
    """Put a changed file's digest into the manifest."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    for item in manifest["artifacts"]:
        for file in (item, *item["companions"]):
            if file["path"] == name:
                file["sha256"] = sha256((root / name).read_bytes())
    path.write_text(json.dumps(manifest))
    seal(root)


def session(bundle):
    artifact = bundle.artifact("regressor")
    return open_session(bundle.files_of(artifact), artifact, 1)


def int8_share(shares):
    assert sum(item.share for item in shares) == pytest.approx(1, abs=1e-5)
    assert {item.unit for item in shares} == {"openvino-cpu"}
    return sum(item.share for item in shares if item.precision == "int8")


# What runs


@pytest.mark.skipif(not X86, reason="INT8 kernels are x86's")
def test_int8_really_runs_in_int8(exported):
    """All but the first three convolutions, the sex branch and the last layer."""
    bundle = exported("openvino", "int8")
    with session(bundle) as opened:
        share = int8_share(opened.executed)
        assert share == pytest.approx(0.9723, abs=0.001)
        assert share == pytest.approx(bundle.artifact("regressor").int8_share, abs=0.001)
        assert opened.provider == "openvino-cpu-int8"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_have_no_int8(exported, precision):
    with session(exported("openvino", precision)) as opened:
        assert int8_share(opened.executed) == 0
        assert opened.provider == (
            "openvino-cpu-f16" if HALF and precision == "fp16" else "openvino-cpu-f32"
        )


def test_multiply_adds_are_counted_by_hand():
    """A model with one INT8 convolution, one in groups that stays float, and a matrix product."""
    from openvino import opset13 as op

    def quantized(node, low, high, levels):
        edges = (np.float32(low), np.float32(high)) * 2
        return op.fake_quantize(node, *edges, levels)

    rng = np.random.default_rng(0)
    image = op.parameter([1, 4, 8, 8], np.float32, name="image")
    weights = quantized(op.constant(rng.uniform(-1, 1, (8, 4, 3, 3)).astype("f4")), -1, 1, 255)
    image8 = quantized(image, 0, 1, 256)
    zeros = ([0, 0], [0, 0], [1, 1])
    first = op.convolution(image8, weights, [1, 1], *zeros)  # 8 x 6 x 6 values of 4 x 3 x 3
    grouped = rng.uniform(-1, 1, (8, 1, 1, 3, 3)).astype("f4")
    second = op.group_convolution(first, grouped, [1, 1], *zeros)  # 8 x 4 x 4 values of 3 x 3
    flat = op.reshape(second, [1, 128], special_zero=False)
    last = op.matmul(flat, rng.uniform(-1, 1, (128, 5)).astype("f4"), False, False)  # 5 of 128
    model = openvino.Model([last], [image], "by hand")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    share = int8_share(executed(openvino.Core().compile_model(model, "CPU", options)))
    int8, floats = 8 * 36 * 36, 8 * 16 * 9 + 5 * 128
    assert share == pytest.approx(int8 / (int8 + floats) if X86 else 0.0)


def test_fp16_halves_the_weights_and_moves_ages_a_little(exported, labelled):
    full, half = exported("openvino", "fp32"), exported("openvino", "fp16")
    sizes = [(b.root / "regressor.bin").stat().st_size for b in (full, half)]
    assert sizes[1] / sizes[0] == pytest.approx(0.5, abs=0.01)
    for name in ("localizer.xml", "localizer.bin"):  # is float32 in all of them
        assert (full.root / name).read_bytes() == (half.root / name).read_bytes()
    with Runtime(full, 1) as one, Runtime(half, 1) as other:
        ages = np.array(
            [
                [runtime.predict(sample.path, "F").age_months for sample in labelled.samples[:4]]
                for runtime in (one, other)
            ]
        )
    assert 0 < np.abs(ages[0] - ages[1]).max() < 0.5


def test_int8_is_near_the_int8_of_onnx_runtime(exported, labelled):
    """The same quantized model: only roundings between its nodes differ."""
    with (
        Runtime(exported("onnx", "int8"), 1) as onnx,
        Runtime(exported("openvino", "int8"), 1) as other,
    ):
        ages = np.array(
            [
                [runtime.predict(sample.path, "F").age_months for sample in labelled.samples]
                for runtime in (onnx, other)
            ]
        )
    assert np.abs(ages[0] - ages[1]).mean() < 1


def test_both_forms_of_the_localizer_are_read(checkpoint, exported, tmp_path, few_goldens):
    """An export is verified before it appears."""
    unrolled = export_bundle(
        checkpoint, "openvino", Precision.FP32, tmp_path / "out", localizer_form="unrolled"
    )
    loop = exported("openvino", "fp32").artifact("localizer")
    assert unrolled.artifact("localizer").files != loop.files


# What is written


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_hardswish_is_one_operator(exported, precision):
    """HardSigmoid and Multiply are two, which OpenVINO fuses with no layer."""
    text = (exported("openvino", precision).root / "regressor.xml").read_text()
    kinds = dict(re.findall(r'<layer id="\d+" name="([^"]+)" type="(\w+)"', text))
    assert "HardSigmoid" not in kinds.values()
    whole = [kind for name, kind in kinds.items() if name.endswith("/hardswish")]
    gates = [kind for name, kind in kinds.items() if name.endswith("squeeze/gate")]
    assert whole == ["HSwish"] * 21
    assert gates == ["HSigmoid"] * 8


def test_the_weights_are_sealed_and_counted(exported):
    bundle = exported("openvino", "fp32")
    for artifact in bundle.manifest.artifacts:
        assert list(artifact.files) == [f"{artifact.role}.xml", f"{artifact.role}.bin"]
    sizes = [
        path.stat().st_size for path in bundle.root.iterdir() if path.suffix in {".xml", ".bin"}
    ]
    assert bundle.size_bytes == sum(sizes)


def test_the_manifest_names_the_library_that_wrote_the_files(exported):
    assert "openvino" in exported("openvino", "fp32").manifest.tool_versions
    assert "openvino" not in exported("onnx", "fp32").manifest.tool_versions


def test_a_model_of_one_file_is_written_as_before(exported):
    """Bundles of the other targets stay readable for what read them before there were two."""
    text = (exported("onnx", "fp32").root / "manifest.json").read_text()
    assert "companions" not in text
    later = {"companions", "builds"}
    fields = set(Artifact.__struct_fields__) - later
    assert msgspec.json.decode(text)["artifacts"][0].keys() == fields


def test_localizers_with_other_weights_share_no_boxes(exported):
    bundle = exported("openvino", "fp32")
    localizer, regressor = bundle.manifest.artifacts
    (weights,) = localizer.companions
    other = msgspec.structs.replace(
        localizer, companions=(msgspec.structs.replace(weights, sha256="0" * 64),)
    )
    manifest = msgspec.structs.replace(bundle.manifest, artifacts=(other, regressor))
    assert localizer_key(Bundle(bundle.root, manifest, "")) != localizer_key(bundle)


# What is refused


@pytest.mark.parametrize("name", ["regressor.bin", "localizer.bin"])
def test_missing_weights(refused, bundle, name):
    (bundle / name).unlink()
    assert f"{name}: named in the manifest but cannot be read" in refused("verify", bundle)


@pytest.mark.parametrize("name", ["regressor.bin", "regressor.xml"])
def test_one_changed_byte(refused, bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    assert f"{name}: changed since it was exported" in refused("verify", bundle)


def test_weights_that_are_not_sealed(refused, bundle):
    """A .bin that lies beside the .xml is not enough."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for item in manifest["artifacts"]:
        del item["companions"]
    path.write_text(json.dumps(manifest))
    seal(bundle)
    line = refused("verify", bundle)
    assert line.endswith("the manifest names no .bin with its weights; export the bundle again")


def test_weights_outside_the_bundle(refused, bundle, tmp_path):
    (bundle / "regressor.bin").rename(tmp_path / "regressor.bin")
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace("regressor.bin", "../regressor.bin"))
    seal(bundle)
    assert "names '../regressor.bin'; paths in a bundle are relative" in refused("verify", bundle)


@pytest.mark.parametrize(
    ("name", "data"), [("regressor.xml", b"not a model"), ("regressor.bin", b"short")]
)
def test_sealed_files_of_something_else(refused, bundle, name, data):
    (bundle / name).write_bytes(data)
    reseal(bundle, name)
    line = refused("verify", bundle)
    assert "regressor.xml: OpenVINO " in line
    assert "cannot load it: " in line


def test_a_file_of_a_newer_openvino(refused, bundle):
    """2024.4 reads none of what 2026.4 writes; the other way round works."""
    path = bundle / "regressor.xml"
    path.write_text(path.read_text().replace('version="opset1"', 'version="opset99"'))
    reseal(bundle, path.name)
    line = refused("verify", bundle)
    assert line.endswith("; a newer OpenVINO wrote it: pip install -U 'bakit-edge[openvino]'")


# What is left alone


def test_nothing_is_sent_or_left_behind(exported, tmp_path):
    """OpenVINO's telemetry writes an identifier into the home folder when it is imported."""
    root = exported("openvino", "int8").root
    code = (
        "import sys; from bakit.cli import main\n"
        f"try: main(['verify', {str(root)!r}])\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'openvino' in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment |= {"CI": "", "USERPROFILE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert {line.partition(": ")[0] for line in done.stderr.splitlines()} <= {"note", "next"}
    assert list(tmp_path.iterdir()) == []


def test_targets_says_what_the_precisions_mean():
    result = CliRunner().invoke(main, ["targets"])
    assert "openvino: OpenVINO on a CPU; fp16, fp32, int8\n  fp16: weights only," in result.stdout
    result = CliRunner().invoke(main, ["targets", "--json"])
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["openvino"]["note"] == get_target("openvino").note
