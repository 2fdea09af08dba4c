"""README's commands and code, in order, in an empty folder; and what they have written."""

from __future__ import annotations

import json
import re
import runpy
import shlex
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
from bakit.prediction import Prediction
from bakit.targets import get_target
from bakit.types import Precision

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)

EXPORT = "bakit export --target onnx --precision fp32,int8"
"""README's first command, which the fixture ``shipped`` has run."""

IMAGES = 30  # the least of which an interval is trusted
LESS = {
    "-n 400": f"-n {IMAGES}",
    "-n 80": "-n 48",
    "--queries 30 --seconds 1": "--queries 3 --seconds 0",
    "--epochs 1": "--epochs 1 --crops 1",
}
"""What differs from README to save time: fewer radiographs, queries and crops. The gate's verdict
needs all 400, so here it may also be too few images."""


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory, shipped):
    """Return the folder in which all commands and code of README were run."""
    folder = tmp_path_factory.mktemp("readme")
    assert f"\n{EXPORT}\n" in README
    shutil.copytree(shipped.root.parent, folder / "bakit-bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, block in BLOCKS:
            if kind == "python":
                Path("example.py").write_text(block)
                runpy.run_path("example.py")
            else:
                for line in block.splitlines():
                    if line != EXPORT:
                        run_line(line)
    return folder


def run_line(line):
    for text, less in LESS.items():
        line = line.replace(text, less)
    program, *words = shlex.split(line, comments=True)
    assert program == "bakit"
    result = run(*words)
    if words[0] == "gate" and result.exit_code == 1:
        assert "too-few-images" in result.stdout, line
        assert not re.search("^fail ", result.stdout, re.MULTILINE), result.stdout
        return
    assert result.exit_code == 0, (line, result.output)
    then = "check " if words[0] == "export" and "tensorrt" in words else ""
    assert result.output.splitlines()[-1].startswith(f"next: bakit {then}"), (line, result.output)


def test_every_command_of_the_readme(done):
    assert {path.name for path in (done / "bakit-bundles").iterdir()} == {
        *(f"bakit-rsna299-{name}" for name in ("onnx-fp32", "onnx-int8", "tensorrt-fp16")),
        "run-onnx-fp32",
    }


def test_the_readme_is_short():
    assert README.count("\n") < 200


PROOFS = {  # what a cell of "Targets" may say, and the targets that may say it
    "executed under emulation": {"onnx"},
    "executed by the vendor's CPU runtime": {"litert", "coreai"},
    "executed": {"onnx", "openvino", "litert", "torch"},
    "compiled by the vendor's compiler": {"tensorrt"},
    "profile-checked": {"tensorrt", "coreml"},
}


def test_every_cell_of_the_targets_says_how_it_was_proven():
    """A board's evidence file in docs/evidence would make the Jetsons' cells untrue."""
    section = README.partition("\n## Targets\n")[2].partition("\n## ")[0]
    _, _, *rows = (line.split(" | ") for line in section.splitlines() if line[:1] == "|")
    assert len(rows) == 9
    for device, named, *cells in rows:
        names = re.findall("`([a-z]+)`", re.sub(r"\(.*?unproven\)", "", named))
        for precision, cell in zip(
            (Precision.FP32, Precision.FP16, Precision.INT8), cells, strict=True
        ):
            text = cell.strip(" |")
            able = {name for name in names if precision in get_target(name).precisions}
            if text == "unproven: no such export":
                assert not able, (device, precision)
                continue
            proof, _, only = text.partition(": refused")[0].partition(" (")
            assert able & PROOFS[proof], (device, precision)
            if only and "not" not in only and "Chromium" not in only:
                assert set(re.findall("[a-z]+", only)) == able, (device, precision)
    places = runpy.run_path(str(ROOT / "docs/make_reference.py"))["PLACES"]
    found = {path.name[:-8] for path in (ROOT / "docs/evidence").glob("*.json.gz")}
    assert found == set(places)


def test_every_kind_of_user_has_a_section():
    for name in ("Ship it", "Embed it", "Gate it", "Train it"):
        assert f"\n## {name}\n" in README


def test_shipped_checkpoint_is_small_and_says_what_it_is():
    checkpoint = Checkpoint.read(SHIPPED)
    record = checkpoint.header.training
    assert SHIPPED.stat().st_size <= 16_000_000
    assert "RSNA" in record.data
    assert "non-commercial" in record.terms
    assert checkpoint.header.ranges is not None
    # Guessing the mean gives 33.6 months: a model near that has learned nothing.
    assert record.metrics["test"].mae_months < 20


def test_report_holds_both_bundles(done):
    report = json.loads((done / "report.json").read_text())
    bundles = {bundle["name"]: bundle for bundle in report["bundles"]}
    int8 = bundles["bakit-rsna299-onnx-int8"]

    assert set(bundles) == {"bakit-rsna299-onnx-fp32", "bakit-rsna299-onnx-int8"}
    assert int8["drift"]["samples"] == IMAGES
    # An INT8 model that says exactly what the float model says was not quantized.
    assert 0 < int8["drift"]["mean_abs_change_months"] < 6
    assert bundles["bakit-rsna299-onnx-fp32"]["drift"]["drift_months"] == 0


@pytest.mark.parametrize(("limit", "status"), [(50, 0), (0, 1)])
def test_gate_follows_its_limit(done, limit, status):
    options = ("--no-drift", "--max-mean-change-months", limit)
    result = run("gate", done / "report.json", *options)
    assert result.exit_code == status, result.output


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_prediction_is_that_of_the_page(done, page):
    bundle = done / "bakit-bundles" / "bakit-rsna299-onnx-int8"
    image = done / "radiographs" / "images" / "0.png"
    result = run("predict", image, "--sex", "M", "--bundle", bundle, "--json")
    (shown,) = re.findall(r"\((\d+\.\d) months\), 90 %", (ROOT / page).read_text("utf-8"))
    assert json.loads(result.stdout)["age_months"] == pytest.approx(float(shown), abs=0.1)


def test_predict_prints_the_contract(done):
    image = read_samples(done / "radiographs")[0].path
    bundle = done / "bakit-bundles" / "bakit-rsna299-onnx-int8"
    result = run("predict", image, "--sex", "F", "--bundle", bundle, "--json")
    assert result.exit_code == 0, result.output
    prediction = json.loads(result.output)

    assert set(prediction) == set(Prediction.__struct_fields__)
    assert 0 < prediction["age_months"] < 240
    assert (prediction["target"], prediction["precision"]) == ("onnx", "int8")
    assert len(prediction["box"]) == 4


def test_localize_prints_one_object_an_image(done):
    images = [sample.path for sample in read_samples(done / "radiographs")[:2]]
    bundle = done / "bakit-bundles" / "bakit-rsna299-onnx-fp32"
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
        images = [decode(sample.path) for sample in read_samples(REAL / "rsna100")[::290]]
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


def test_python_310_with_onnx_runtime_alone_predicts(done, tmp_path, find_python):
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
    install = [*pip, "install", "--no-compile", f"{source}[ort]"]
    if subprocess.run(install, check=False).returncode:
        probe = [*pip, "download", "--no-deps", "--dest", tmp_path, "msgspec"]
        assert subprocess.run(probe, check=False, capture_output=True).returncode
        pytest.skip("there is no package index")
    image = read_samples(done / "radiographs")[0].path
    bundle = done / "bakit-bundles" / "bakit-rsna299-onnx-int8"
    command = [venv / "bin/bakit", "predict", image, "--sex", "M", "--bundle", bundle, "--json"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)

    assert 0 < json.loads(result.stdout)["age_months"] < 240
    assert not list(venv.glob("lib/*/site-packages/torch"))
