"""Starting is cheap: what is not needed is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW = {"numpy", "cv2", "msgspec", "rich", "torch", "onnx", "onnxruntime", "openvino"}


def test_starting_imports_nothing_slow():
    code = (
        "import sys, bakit.cli\n"
        "for words in (['--help'], ['--version'], ['targets']):\n"
        "    try:\n"
        "        bakit.cli.main(words)\n"
        "    except SystemExit as done:\n"
        "        assert not done.code\n"
        f"print('loaded:', *sorted({SLOW!r} & sys.modules.keys()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.splitlines()[-1] == "loaded:"


def test_reading_a_public_name_imports_only_its_module():
    code = "import sys, bakit; bakit.Box; print('bakit.runtime' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout == "False\n"


def test_nothing_is_reported_to_a_library_s_maker(tmp_path):
    """ONNX Runtime would write an identifier into the home folder and send its use."""
    code = "import bakit.backends.ort, bakit.export, bakit.export.onnx.int8"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
