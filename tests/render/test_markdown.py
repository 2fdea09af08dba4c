"""Markdown for a pull request."""

from __future__ import annotations

import pytest

from bakit.bench.render import render_markdown
from bakit.bench.render.markdown import escaped


def test_the_usual_five(make_report):
    lines = render_markdown(make_report()).splitlines()
    assert lines[0] == (
        "### Ship onnx INT8: 5 ms a radiograph (median), 8.9 MB, and an MAE at most 0.08 months "
        "above the float model's (95 % upper bound; the limit is 0.25)."
    )
    assert lines[2] == (
        "* If every prediction must stay nearest to the float model's: onnx FP32 (6 ms, 31.2 MB)."
    )
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        "bundle", "standing", "p50, ms", "p99, ms", "size, MB", "INT8", "MAE, months",
        "drift, months [95 %]", "change, months, mean / p99",
    ]  # fmt: skip
    assert lines[6] == (
        "| model-onnx-int8 | **ship this** | 5.00 | 11.0 | 8.9 | 98.0 % | 9.43 | "
        "+0.030 [\N{MINUS SIGN}0.020, +0.080] | 0.50 / 1.00 |"
    )
    assert lines[7].endswith("| \N{EN DASH} | 9.40 | reference | \N{EN DASH} |")


def test_it_ends_with_what_was_measured(make_report):
    lines = render_markdown(make_report()).splitlines()
    assert lines[-1] == (
        "<sub>A CPU, 2 logical cores; threads: 1; 400 held-out test images of radiographs; "
        "bakit 0.1.0</sub>"
    )
    assert "* model-openvino-int8: onnx INT8 is smaller, and nowhere worse" in lines


def test_every_row_has_every_cell(hostile_report):
    text = render_markdown(hostile_report)
    assert "<script" not in text
    assert "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert {row.count("|") for row in rows} == {10}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a&#124;b"),
        ("one\ntwo\r\n# three", "one two &#35; three"),
        ("[x](http://a.b)", "&#91;x&#93;(http&#58;//a.b)"),
        ("@someone #12 `code` *b* ~s~", "&#64;someone &#35;12 &#96;code&#96; &#42;b&#42; &#126;s&#126;"),  # noqa: E501
        ("<b>&", "&lt;b&gt;&amp;"),
    ],
)  # fmt: skip
def test_names_are_text(text, shown):
    assert escaped(text) == shown
