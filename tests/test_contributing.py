"""CONTRIBUTING.md's page on a target, followed to the letter in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
NEW = ("bakit/backends/onnx_gz.py", "export/onnx_gz.py")
TABLE = "bakit/targets.py"
# What the page promises: golden answers, which are the float model's, declared outputs, and the
# same bytes again. The comparison with torch is left out, which takes long to import.
CONTRACT = "manifest or golden or session or same_bytes or complete or precision"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Copy the packages and the contract tests; add the example target by the page's blocks."""
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for folder in ("bakit", "bench", "calib", "export", "tests/contract"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, copy / file)
    blocks = dict(re.findall(r'```python title="(.*?)"\n(.*?)```', PAGE, re.DOTALL))
    assert set(blocks) == {*NEW, TABLE}
    for name in NEW:
        (copy / name).write_text(blocks[name], "utf-8")
    table = (copy / TABLE).read_text("utf-8")
    head, end, rest = table.partition("\n)\n\n\ndef targets()")
    assert head.split("\n_BUILT_IN = (\n")[1]
    row = textwrap.indent(blocks[TABLE].rstrip(), "    ")
    (copy / TABLE).write_text(f"{head}\n{row},{end}{rest}", "utf-8")
    return copy


@pytest.fixture(scope="module")
def run(checkout, labelled):
    """Return what runs Python in the copy; tests there have this run's checkpoint and phantoms."""
    environment = {"PYTHONPATH": str(checkout), "BAKIT_TESTS_SHARED": str(labelled.folder.parent)}

    def start(*words):
        return subprocess.run(
            [sys.executable, *words],
            cwd=checkout,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_the_contract_tests_find_the_target_by_its_row(run):
    wanted = f"(onnx-gz or onnx_gz) and ({CONTRACT})"
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed[1]) >= 10, done.stdout
    assert "skipped" not in done.stdout


def test_the_commands_find_the_target_by_its_row(run):
    doctor = run("-m", "bakit", "doctor", "onnx-gz").stdout
    assert re.search("^ *onnx-gz +ready +ready", doctor, re.MULTILINE)
    assert "onnx-gz" in run("-m", "bakit", "targets").stdout


def test_the_example_passes_the_linters(run):
    for words in (["check"], ["format", "--check"]):
        done = run("-m", "ruff", *words, "--no-cache", *NEW, TABLE)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = run("-c", rules)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_took_two_new_files_and_one_row(checkout):
    files = {p.relative_to(checkout).as_posix() for p in checkout.rglob("*.py") if p.is_file()}
    old = {name for name in files if (ROOT / name).exists()}
    changed = {name for name in old if (ROOT / name).read_bytes() != (checkout / name).read_bytes()}
    assert files - old == set(NEW)
    assert changed == {TABLE}
    before = (ROOT / TABLE).read_text("utf-8").splitlines()
    after = (checkout / TABLE).read_text("utf-8").splitlines()
    added = len(after) - len(before)
    start = before.index("def targets() -> dict[str, Target]:") - 3
    assert after[:start] + after[start + added :] == before
