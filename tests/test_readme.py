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

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)

LESS = {
    "-n 400": "-n 24",
    "--queries 30 --seconds 1": "--queries 3 --seconds 0",
    "--epochs 1": "--epochs 1 --crops 1",
}
"""What differs from README to save time: fewer radiographs, queries and crops. The gate's verdict
needs all 400, so here it may also be too few images."""


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


def test_every_kind_of_user_has_a_section():
    for name in ("Ship it", "Embed it", "Gate it", "Train it"):
        assert f"\n## {name}\n" in README
