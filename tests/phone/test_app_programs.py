"""The programs of docs/samples print the months that bakit predicts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from bakit.export import export_bundle
from bakit.hand.weights import get_localizer
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.types import Precision

SAMPLES = Path(__file__).parents[2] / "docs/samples"
HEADERS = [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]

# Of ONNX Runtime's C++ interface, what the page uses.
DECLARATIONS = """
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
namespace Ort {
struct Env { Env(); };
struct SessionOptions { SessionOptions(); };
struct RunOptions { explicit RunOptions(std::nullptr_t); };
struct MemoryInfo { static MemoryInfo CreateCpu(OrtAllocatorType, OrtMemType); };
struct Value {
  Value(const Value&) = delete;
  Value(Value&&);
  template <typename T>
  static Value CreateTensor(const MemoryInfo&, T*, size_t, const int64_t*, size_t);
  template <typename T> T* GetTensorMutableData();
};
struct Session {
  Session(const Env&, const char*, const SessionOptions&);
  std::vector<Value> Run(const RunOptions&, const char* const*, const Value*, size_t,
                         const char* const*, size_t);
};
}
"""


def program(name):
    """A program of the page, at most 40 lines."""
    code = (SAMPLES / name).read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40
    return code


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    """The whole graph, a film, and the months that bakit predicts."""
    folder = tmp_path_factory.mktemp("app")
    student = checkpoint.with_localizer(get_localizer("student"))
    bundle = export_bundle(student, "onnx", Precision.FP32, folder / "bundle", whole=True)
    film = folder / "hand.png"
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
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not Path("/usr/include/png.h").exists():
        pytest.skip("no C++ compiler or no png.h")
    source = tmp_path / "months.cpp"
    source.write_text(program("months.cpp"), encoding="utf-8")
    headers = next((path for path in HEADERS if path.is_dir()), None)
    compile_it = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", source]
    if headers is None:
        (tmp_path / "onnxruntime_cxx_api.h").write_text(DECLARATIONS, encoding="utf-8")
        done = run([*compile_it, "-fsyntax-only", f"-I{tmp_path}"])
        assert done.returncode == 0, done.stderr
        return
    binary = tmp_path / "months"
    done = run([*compile_it, f"-I{headers}", "-lonnxruntime", "-lpng", "-o", binary])
    assert done.returncode == 0, done.stderr
    path, film, months = model
    for sex, expected in months.items():
        done = run([binary, path, film, sex])
        assert (done.stdout, done.returncode) == (f"{expected} months\n", 0), done.stderr


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
