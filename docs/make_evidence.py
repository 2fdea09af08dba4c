"""Write the tables of evidence files into docs/tensorrt.md.

    python docs/make_evidence.py

Reads ``docs/evidence/*.json.gz``, each written by ``agent.py evidence``. A file that is not of a
board has a line in ``PLACES``, which says what ran it. ``tests/test_evidence.py`` fails when the
page differs from the output of this script.
"""

from __future__ import annotations

import re
from pathlib import Path

from bakit.bench.device.evidence import read_evidence, rows, table

PAGE = Path(__file__).parent / "tensorrt.md"
BLOCK = re.compile(r"(<!-- evidence: [^\n]* -->\n\n).*?(\n\n<!-- end of evidence -->)", re.DOTALL)
PLACES = {
    "x86-64": "A server without a GPU, two cores of an AMD EPYC, busy with other work:",
    "arm-emulated": "An emulated Arm machine ([Arm](arm.md)), FP32 alone; its times mean nothing:",
    "stand-in-8.6": (
        "The stand-in of TensorRT 8.6, which computes in ONNX Runtime; its layers and times mean "
        "nothing:"
    ),
}
"""What ran a file that is no board's, by the file's name."""


def page() -> str:
    """Return the page with the tables of the files that are there."""
    files = {path.name[:-8]: path for path in sorted((PAGE.parent / "evidence").glob("*.json.gz"))}
    boards = [
        row
        for name, path in files.items()
        if name not in PLACES
        for row in rows(read_evidence(path))
    ]
    made = [table(boards)]
    made += [
        f"{text}\n\n{table(rows(read_evidence(files[name])))}" for name, text in PLACES.items()
    ]
    text = "\n\n".join(made)
    return BLOCK.sub(lambda found: found[1] + text + found[2], PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
