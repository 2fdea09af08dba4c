"""Write the table of evidence files into docs/tensorrt.md.

    python docs/make_evidence.py

Reads ``docs/evidence/*.json.gz``, each written on a board by ``agent.py evidence``.
``tests/test_evidence.py`` fails when the page differs from the output of this script.
"""

from __future__ import annotations

import re
from pathlib import Path

from bakit.bench.device.evidence import read_evidence, rows, table

PAGE = Path(__file__).parent / "tensorrt.md"
BLOCK = re.compile(r"(<!-- evidence: [^\n]* -->\n\n).*?(\n\n<!-- end of evidence -->)", re.DOTALL)


def page() -> str:
    """Return the page with the table of the files that are there."""
    files = sorted((PAGE.parent / "evidence").glob("*.json.gz"))
    made = table(line for file in files for line in rows(read_evidence(file)))
    return BLOCK.sub(lambda found: found[1] + made + found[2], PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
