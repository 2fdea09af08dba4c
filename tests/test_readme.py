"""README's commands and code, in order, in an empty folder, as they are written."""

from __future__ import annotations

import os
import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from bakit.cli import main
from bakit.targets import get_target
from bakit.types import Precision

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)

LESS = {"-n 400": "-n 40"}
"""The one thing that differs from README: fewer generated radiographs, to save time. The gate's
verdict needs all 400, so here it may also be too few images."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def test_every_command_of_the_readme(empty):
    for kind, block in BLOCKS:
        if kind == "python":
            (empty / "example.py").write_text(block)
            runpy.run_path("example.py")
            continue
        for line in block.splitlines():
            for text, less in LESS.items():
                line = line.replace(text, less)
            program, *words = shlex.split(line, comments=True)
            assert program == "bakit"
            result = CliRunner().invoke(main, words)
            if words[0] == "gate" and result.exit_code == 1:
                assert "too-few-images" in result.stdout, line
                assert not re.search("^fail ", result.stdout, re.MULTILINE), result.stdout
                continue
            assert result.exit_code == 0, (line, result.output)
            then = "check " if words[0] == "export" and "tensorrt" in words else ""
            assert re.search(f"^next: bakit {then}", result.stderr, re.M), (line, result.stderr)


def test_the_readme_is_short():
    assert README.count("\n") < 200


PROOFS = {  # what a cell of "Targets" may say, and the targets that may say it
    "executed under emulation": {"onnx"},
    "executed by the vendor's CPU runtime": {"litert", "coreai"},
    "executed": {"onnx", "openvino", "litert", "torch"},
    "compiled by the vendor's compiler": {"tensorrt"},
    "profile-checked": {"tensorrt", "coreml"},
    "refused: no INT8 unit": {"tensorrt"},
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
            if text == "no such export":
                assert not able, (device, precision)
                continue
            proof, _, only = text.partition(" (")
            assert able & PROOFS[proof], (device, precision)
            if only and "not" not in only and "Chromium" not in only:
                assert set(re.findall("[a-z]+", only)) == able, (device, precision)
    places = runpy.run_path(str(ROOT / "docs/make_evidence.py"))["PLACES"]
    found = {path.name[:-8] for path in (ROOT / "docs/evidence").glob("*.json.gz")}
    assert found == set(places)


def test_every_kind_of_user_has_a_section():
    for name in ("Ship it", "Embed it", "Gate it", "Train it"):
        assert f"\n## {name}\n" in README
