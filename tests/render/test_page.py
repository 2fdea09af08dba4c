"""The page: well formed, escaped, self-contained, bounded, and right in what it says."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import msgspec
import pytest

import bakit.bench.render
from bakit.bench.render import check_html, render_html
from bakit.bench.render.scatters import EXTREMES, MAX_POINTS, thinned
from bakit.bench.report.drift import DriftRow
from bakit.errors import MissingBackendError

VOID = {"meta", "link", "br", "hr", "img", "input"}
SVG = {"svg", "g", "line", "rect", "circle", "path", "text"}


class Reader(HTMLParser):
    """Checks that elements are closed in turn; collects them and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    for picture in re.findall(r"<svg xmlns=.*?</svg>(?=\s*</div>)", html, re.DOTALL):
        root = ET.fromstring(picture.replace("&nbsp;", " "))
        assert root.get("role") == "img"
        assert root.get("aria-label")
    return reader


def test_the_page_says_what_to_ship_and_shows_every_figure(make_report):
    html = render_html(make_report())
    page = read(html)
    assert page.tags.count("h1") == 1
    assert "Ship onnx INT8: 5 ms a radiograph" in page.text
    shown = {"front", "drift", "latency", "stages", "truth", "agreement", "groups"}
    assert shown < set(page.ids)
    assert html.count("<details") >= len(shown)  # the numbers of each
    for name in ("model-onnx-int8", "model-openvino-fp32"):
        assert name in page.text
    for digest in ("b" * 64, "c" * 64, "d" * 64, "e" * 64, "f" * 64):
        assert digest in page.text
    assert "+0.030 [\N{MINUS SIGN}0.020, +0.080]" in page.text


def test_the_page_needs_nothing_else(make_report):
    html = render_html(make_report())
    page = read(html)
    assert not set(page.tags) & {"script", "img", "iframe", "object", "embed", "form", "base"}
    addresses = [value for name, value in page.attributes if name in {"href", "src", "action"}]
    assert addresses == ["data:,"]
    assert not re.search(r"@import|url\(", html)
    assert set(re.findall(r"https?://[^\"' <]*", html)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html


def test_names_are_text_wherever_they_come_from(hostile_report):
    page = read(render_html(hostile_report))
    assert not set(page.tags) & {"script", "img"}
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    assert page.tags.count("style") == 1
    assert "{{ 7*7 }}" in page.text
    assert "\x00" not in page.text


def test_the_same_numbers_give_the_same_page(make_report):
    assert render_html(make_report()) == render_html(make_report())


def test_ten_thousand_images_of_ten_bundles_stay_a_small_page(make_bundle, make_report):
    bundles = [make_bundle(name=f"b{index}", images=10_000) for index in range(10)]
    html = render_html(make_report(*bundles))
    assert len(html) < 2_000_000
    assert f"{MAX_POINTS:,} of 10,000 images are shown: the {EXTREMES} with the largest" in html
    panel = re.search(r'id="truth".*?</svg>\s*</div>', html, re.DOTALL)[0]
    assert panel.count("h0") == MAX_POINTS


def test_a_few_images_are_all_drawn(make_report):
    html = render_html(make_report())
    assert "All 400 images are shown." in html


def test_the_furthest_off_are_always_among_the_drawn():
    rows = [DriftRow(str(i), float(i % 200), 0.0, 0.0) for i in range(5000)]
    off = [0.0] * 5000
    off[77] = off[4321] = -30.0
    chosen = thinned(rows, off, 500)
    assert len(chosen) == len(set(chosen)) == 500
    assert chosen == sorted(chosen)
    assert {77, 4321} <= set(chosen)
    ages = sorted(rows[i].true_months for i in chosen)
    assert ages[0] == 0
    assert ages[-1] >= 195  # the rest is spread over all ages
    assert thinned(rows[:500], off[:500], 500) == list(range(500))


@pytest.mark.parametrize("fields", [{"drift": None}, {"provenance": None}, {"footprint": None}])
def test_what_is_missing_is_left_out(make_bundle, make_report, fields):
    page = read(render_html(make_report(make_bundle(**fields), make_bundle("openvino", **fields))))
    assert ("truth" in page.ids) == ("drift" not in fields)


def test_a_report_without_drift_says_what_it_lacks(make_bundle, make_report):
    page = read(render_html(make_report(make_bundle(drift=None))))
    assert "Drift was not measured" in page.text
    assert not {"drift", "groups", "agreement"} & set(page.ids)


def test_one_bundle(make_bundle, make_report):
    page = read(render_html(make_report(make_bundle())))
    assert "front" not in page.ids  # nothing to compare
    assert {"drift", "truth", "latency"} < set(page.ids)


def test_a_partial_report_with_a_failed_bundle(make_bundle, make_report):
    failed = make_bundle(
        "openvino", error="it crashed", latency=None, footprint=None, drift=None, provider=""
    )
    page = read(render_html(make_report(make_bundle(), failed, partial=True)))
    for words in ("The run was interrupted", "openvino INT8 failed: it crashed", "not measured"):
        assert words in page.text


def test_no_bundle_at_all(make_report):
    empty = msgspec.structs.replace(make_report(), bundles=(), data=None)
    assert "There is nothing to choose yet" in read(render_html(empty)).text


def test_numbers_that_are_none_are_dashes(make_bundle, make_report):
    bundle = make_bundle()
    nan = float("nan")
    rows = (DriftRow("x", 100.0, 100.0, nan), *bundle.drift.rows)
    broken = msgspec.structs.replace(
        bundle.drift, rows=rows, bundle_mae_months=nan, drift_ci95_months=(nan, nan)
    )
    footprint = msgspec.structs.replace(bundle.footprint, peak_rss_mb=None)
    report = make_report(msgspec.structs.replace(bundle, drift=broken, footprint=footprint))
    html = render_html(report)
    read(html)
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)


def test_a_report_of_schema_1_is_shown_as_far_as_it_goes(make_bundle, make_report):
    """It has no sexes, groups, single times or limits of agreement."""
    bundle = make_bundle()
    rows = tuple(msgspec.structs.replace(row, male=None) for row in bundle.drift.rows)
    old = msgspec.structs.replace(
        bundle.drift,
        rows=rows,
        groups=(),
        limits_of_agreement_months=None,
        mean_change_months=None,
        p99_abs_change_ci95_months=None,
        mean_abs_change_ci95_months=None,
    )
    latency = msgspec.structs.replace(bundle.latency, samples={}, stability=None)
    report = make_report(msgspec.structs.replace(bundle, drift=old, latency=latency))
    html = render_html(report)
    page = read(html)
    assert "groups" not in page.ids
    # 1.96 standard deviations of a wave of height 1.
    assert "limits of agreement [\N{MINUS SIGN}1.38, +1.39]" in page.text
    assert "Without samples in the report" in page.text
    assert 'class="points anyone"' in html


def test_the_group_that_may_be_worst_is_named(make_report):
    page = read(render_html(make_report()))
    assert "Highest upper end: girls of 0 to 72 months, +0.03" in page.text


def test_a_bundle_that_changes_nothing_has_no_empty_picture(make_report):
    assert (
        "Not shown, because no prediction changes by more than 0.05 months: openvino FP32."
        in read(render_html(make_report())).text
    )


def test_without_jinja_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "bakit.bench.render.page", raising=False)
    monkeypatch.delattr(bakit.bench.render, "page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingBackendError, match=r"bakit-edge\[report\]"):
        check_html()
