"""The main job with the shipped checkpoint, as a user types it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bakit.backends.ort import OrtSession
from bakit.cli import main
from bakit.data.labels import read_samples
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.hand.prepare import crop
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.model.regressor import regressor_from_weights
from bakit.phantoms import write_phantoms

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
IMAGES = 32


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def exports(shipped, tmp_path_factory):
    """A folder as a user has it: bundles, data, and a report by the bench's own choices."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "bakit-bundles").symlink_to(shipped.root.parent)
    write_phantoms(folder / "data", IMAGES, height=320)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = ["bench", "--data", "data", "--queries", 3, "--seconds", 0]
        result = run(*arguments, "--json", "report.json")
    assert result.exit_code == 0, result.output
    return folder


def test_shipped_checkpoint_is_small_and_says_what_it_is():
    checkpoint = Checkpoint.read(SHIPPED)
    record = checkpoint.header.training
    assert SHIPPED.stat().st_size <= 16_000_000
    assert "RSNA" in record.data
    assert "non-commercial" in record.terms
    assert checkpoint.header.ranges is not None
    # Guessing the mean gives 33.6 months: a model near that has learned nothing.
    assert record.metrics["test"].mae_months < 20


def test_report_holds_both_bundles(exports):
    report = json.loads((exports / "report.json").read_text())
    bundles = {bundle["name"]: bundle for bundle in report["bundles"]}
    int8 = bundles["bakit-rsna299-onnx-int8"]

    assert set(bundles) == {"bakit-rsna299-onnx-fp32", "bakit-rsna299-onnx-int8"}
    assert int8["drift"]["samples"] == IMAGES
    # An INT8 model that says exactly what the float model says was not quantized.
    assert 0 < int8["drift"]["mean_abs_change_months"] < 6
    assert bundles["bakit-rsna299-onnx-fp32"]["drift"]["drift_months"] == 0


@pytest.mark.parametrize(("limit", "status"), [(50, 0), (0, 1)])
def test_gate_follows_its_limit(exports, limit, status):
    options = ("--no-drift", "--max-mean-change-months", limit)
    result = run("gate", exports / "report.json", *options)
    assert result.exit_code == status, result.output


def test_predict_prints_the_contract(exports):
    image = exports / "data" / "images" / f"{read_samples(exports / 'data')[0].id}.png"
    bundle = exports / "bakit-bundles" / "bakit-rsna299-onnx-int8"
    result = run("predict", image, "--sex", "F", "--bundle", bundle, "--json")
    assert result.exit_code == 0, result.output
    prediction = json.loads(result.output)

    assert {
        "age_months",
        "interval_months",
        "box",
        "quality",
        "stages_ms",
        "target",
        "precision",
        "bundle_sha256",
    } <= set(prediction)
    assert 0 < prediction["age_months"] < 240
    assert (prediction["target"], prediction["precision"]) == ("onnx", "int8")
    assert len(prediction["box"]) == 4


def test_localize_prints_one_object_an_image(exports):
    images = [sample.path for sample in read_samples(exports / "data")[:2]]
    bundle = exports / "bakit-bundles" / "bakit-rsna299-onnx-fp32"
    result = run("localize", *images, "--bundle", bundle, "--json")
    rows = [json.loads(line) for line in result.output.splitlines()]

    assert [row["image"] for row in rows] == [str(image) for image in images]
    fields = {"image", "box", "method", "ms", "reasons", "scores", "turn"}
    assert all(set(row) == fields for row in rows), rows


def test_shipped_graph_says_what_torch_says():
    """On real radiographs where they are at hand, on phantoms otherwise."""
    checkpoint = Checkpoint.read(SHIPPED)
    settings = checkpoint.header.preprocessing
    if (REAL / "rsna100" / "labels.csv").is_file():
        images = [decode(sample.path) for sample in read_samples(REAL / "rsna100")[::97]]
        pixels = np.stack([crop(grey, None, False, settings) for grey in images])
    else:
        pixels = checkpoint.reference.images.astype(np.float32) / 255
    sexes = (np.arange(len(pixels)) % 2).astype(np.float32)[:, None]
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
    model = regressor_from_weights(checkpoint.header.architecture, weights)
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels)[:, None], torch.from_numpy(sexes)).numpy()[:, 0]
    with OrtSession(serialize(regressor_model(checkpoint))) as session:
        found = [
            session.run({"image": image[None, None], "sex": sex[None]})["age_months"].item()
            for image, sex in zip(pixels, sexes, strict=True)
        ]
    assert np.abs(np.array(found) - expected).max() <= 0.01  # months


def test_python_310_with_onnx_runtime_alone_predicts(exports, tmp_path, find_python):
    python = find_python("3.10")
    if python is None:
        pytest.skip("there is no Python 3.10")
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", venv / "bin/python"]
    # A copy: pip builds in the tree, and an older build there would be packed as well.
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(
        ".*", "build", "*.egg-info", "bakit-demo", "bakit-bundles", "runs"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    if subprocess.run([*pip, "install", f"{source}[ort]"], check=False).returncode:
        probe = [*pip, "download", "--no-deps", "--dest", tmp_path, "msgspec"]
        assert subprocess.run(probe, check=False, capture_output=True).returncode
        pytest.skip("there is no package index")
    image = read_samples(exports / "data")[0].path
    bundle = exports / "bakit-bundles" / "bakit-rsna299-onnx-int8"
    command = [venv / "bin/bakit", "predict", image, "--sex", "M", "--bundle", bundle, "--json"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    listed = subprocess.run([*pip, "list"], check=True, capture_output=True, text=True).stdout

    assert 0 < json.loads(result.stdout)["age_months"] < 240
    assert "torch" not in listed
