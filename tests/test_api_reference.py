"""docs/api.md says what the docstrings say."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_is_in_it_with_its_errors():
    text = (DOCS / "api.md").read_text("utf-8")
    import bakit

    assert all(f"### {name}\n" in text for name in bakit.__all__)
    assert "* `ImageError`: If the image cannot be used." in text
