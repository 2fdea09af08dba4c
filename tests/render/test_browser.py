"""The page in a real browser, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from bakit.bench.render import render_html

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}


class Seen(NamedTuple):
    """An open page and what it did."""

    page: Any
    trouble: list[str]


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Callable[..., Seen]:
    """Return what opens a report from a file."""

    def open_page(report: Any, size: dict[str, int] = DESK, scheme: str = "light") -> Seen:
        file = tmp_path / "report.html"
        file.write_text(render_html(report), encoding="utf-8")
        page = chromium.new_page(viewport=size, color_scheme=scheme)
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url == file.as_uri() or trouble.append(request.url),
        )
        page.goto(file.as_uri())
        return Seen(page, trouble)

    return open_page


@pytest.mark.parametrize("size", [PHONE, {"width": 320, "height": 600}, DESK])
def test_nothing_is_asked_for_and_nothing_sticks_out(show, make_report, size):
    page, trouble = show(make_report(), size)
    assert trouble == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.locator("svg[role=img]").count() > 10


def test_names_as_long_and_as_bad_as_can_be(show, hostile_report):
    page, trouble = show(hostile_report, PHONE)
    assert trouble == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("script, img, iframe").count() == 0
    assert page.evaluate("document.querySelectorAll('style').length") == 1


def test_dark_and_light_differ_and_both_can_be_read(show, make_report):
    """Contrast of text and of what carries meaning is 4.5 and 3, as WCAG 2.2 asks."""
    grounds = set()
    for scheme in ("light", "dark"):
        page, trouble = show(make_report(), DESK, scheme)
        assert trouble == []
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for colours, least in (
            (("--ink", "--soft", "--ship", "--bad", "--warn", "--plain"), 4.5),
            (("--male", "--female", "--p90", "--p99"), 3.0),
        ):
            for name in colours:
                assert page.evaluate(CONTRAST, [name, "--card"]) >= least, (scheme, name)
        for pair in (("--warn", "--warn-soft"), ("--bad", "--bad-soft"), ("--ship", "--ship-soft")):
            assert page.evaluate(CONTRAST, list(pair)) >= 4.5, (scheme, pair)
    assert len(grounds) == 2


CONTRAST = """([one, other]) => {
    const luminance = name => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        const parts = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""


def test_paper_is_white_whatever_the_screen_and_has_the_numbers(show, make_report):
    page, _ = show(make_report(), DESK, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    closed = page.locator("#truth details table")
    assert closed.evaluate("e => e.getBoundingClientRect().height") > 50
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_letters_keep_their_size_on_a_phone(show, make_report):
    page, _ = show(make_report(), PHONE)
    for figure in ("front", "drift", "latency", "stages", "groups"):
        height = page.locator(f"#{figure} svg[role=img] text").first.evaluate(
            "e => e.getBoundingClientRect().height"
        )
        assert height >= 11, figure


def test_names_in_the_plot_of_the_front_do_not_overlap(show, make_report):
    for size in (PHONE, DESK):
        page, _ = show(make_report(), size)
        boxes = page.locator("#front svg[role=img] text.name").evaluate_all(
            "all => all.map(e => { const r = e.getBoundingClientRect();"
            " return [r.left, r.top, r.right, r.bottom] })"
        )
        assert len(boxes) == 5
        for index, (a, b, c, d) in enumerate(boxes):
            for e, f, g, h in boxes[index + 1 :]:
                assert c <= e or g <= a or d <= f + 1 or h <= b + 1


def test_the_keyboard_reaches_what_opens_and_what_scrolls(show, make_report):
    page, _ = show(make_report())
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName"))
    assert {"SUMMARY", "DIV"} <= seen
