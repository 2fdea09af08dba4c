"""The programs of docs/samples print the months that bakit predicts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnxruntime")

import onnxruntime

from bakit.phantoms import make_phantom
from bakit.runtime import Runtime

SAMPLES = Path(__file__).parents[2] / "docs/samples"
HEADERS = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime")
"""Where packages put ONNX Runtime's headers; CPLUS_INCLUDE_PATH may name another folder."""


def program(name):
    """A program of the page, at most 40 lines."""
    code = (SAMPLES / name).read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40
    return code


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory):
    """The whole graph, a film, and the months that bakit predicts."""
    bundle = exported("onnx", "fp32", like="litert", whole=True)
    film = tmp_path_factory.mktemp("app") / "hand.png"
    cv2.imwrite(str(film), make_phantom(5, height=301).image, [cv2.IMWRITE_PNG_FILTER, 248])
    with Runtime(bundle, 1) as runtime:
        months = {sex: runtime.predict(film, sex).age_months for sex in "MF"}
    return bundle.root / "whole.onnx", film, {sex: f"{age:.1f}" for sex, age in months.items()}


def run(command, cwd=None):
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd
    )


def test_the_node_program(installed, model, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "months.mjs").write_text(program("months.mjs"), encoding="utf-8")
    path, film, months = model
    for sex, expected in months.items():
        done = run([node, "months.mjs", path, film, sex], tmp_path)
        assert (done.stdout, done.returncode) == (f"{expected} months\n", 0), done.stderr
    colour = tmp_path / "colour.png"
    cv2.imwrite(str(colour), cv2.cvtColor(cv2.imread(str(film), 0), cv2.COLOR_GRAY2BGR))
    done = run([node, "months.mjs", path, colour, "M"], tmp_path)
    assert done.returncode
    assert "not a PNG of 8-bit grey values" in done.stderr


def test_the_c_program(model, tmp_path):
    """It is built with the headers of any ONNX Runtime since 1.12, and runs on Python's library."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    compile_it = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    compile_it += [part for folder in HEADERS for part in ("-isystem", folder)]
    for header in ("png.h", "onnxruntime_cxx_api.h"):
        probe = tmp_path / "probe.cpp"
        probe.write_text(f"#include <{header}>\n", encoding="utf-8")
        if run([*compile_it, "-E", probe]).returncode:
            pytest.skip(f"no {header}")
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    source, binary = SAMPLES / "months.cpp", tmp_path / "months"
    assert program(source.name)
    link = [f"-L{tmp_path}", "-l:libonnxruntime.so.1", f"-Wl,-rpath,{tmp_path}", "-lpng"]
    done = run([*compile_it, source, *link, "-o", binary])
    assert done.returncode == 0, done.stderr
    path, film, months = model
    for sex, expected in months.items():
        done = run([binary, path, film, sex])
        assert (done.stdout, done.returncode) == (f"{expected} months\n", 0), done.stderr
    done = run([binary, path, tmp_path / "none.png", "F"])
    assert (done.stdout, done.returncode) == ("", 2)
    assert "No such file" in done.stderr


def test_the_code_for_browsers_parses(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    file = tmp_path / "page.mjs"
    for code, status in (
        (program("months-browser.mjs"), 0),
        (program("months-browser.mjs").rstrip()[:-1], 1),
    ):
        file.write_text(code, encoding="utf-8")
        assert run([node, "--check", file]).returncode == status
