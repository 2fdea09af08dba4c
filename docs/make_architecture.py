"""Write the list of rooms in docs/architecture.md, from the import contract and the docstrings.

    python docs/make_architecture.py

``tests/test_docs.py`` fails when the page differs from the output of this script.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- rooms: python docs/make_architecture.py -->\n"
END = "<!-- end of rooms -->\n"
MAPPED = ("bench", "calib", "export")


def floors() -> list[list[str]]:
    """Return the rooms of the contract "Rooms, from the top floor down", floor by floor."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")  # Python 3.10 has no reader of TOML
    contract = text.split('name = "Rooms, from the top floor down"')[1]
    body = re.search(r"^layers = \[\n(.*?)^\]", contract, re.DOTALL | re.MULTILINE)
    assert body
    return [re.findall(r"\w+", layer) for layer in re.findall(r'"(.+?)"', body[1])]


def home(room: str) -> Path:
    """Return the module of a room, or its package's ``__init__``."""
    folder = (ROOT if room.split("/")[0] in MAPPED else ROOT / "bakit") / room
    module = folder.with_suffix(".py")
    return module if module.is_file() else folder / "__init__.py"


def about(room: str) -> str:
    """Return the first line of a room's docstring."""
    docstring = ast.get_docstring(ast.parse(home(room).read_text("utf-8")))
    return (docstring or "").split("\n")[0].replace("``", "").rstrip(".")


def rooms() -> str:
    """Return the rooms, the top floor first."""
    lines = []
    for floor in floors():
        for place, room in enumerate(floor):
            marks = "┌" + "│" * (len(floor) - 2) + "└"
            mark = f"{marks[place]} " if len(floor) > 1 else "  "
            lines.append(f"{mark}{room:<14}{about(room)}")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the current rooms between its marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n```\n{rooms()}\n```\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
