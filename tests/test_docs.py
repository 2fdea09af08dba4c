"""The pages name files, modules and links that exist; generated parts are up to date."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

from bakit.targets import targets

ROOT = Path(__file__).parents[1]
# The changelog names what was there once.
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bakit/weights/README.md")
    if path.name != "CHANGELOG.md"
]
FILE = re.compile(r"(?<![\w/.~-])(?:bakit|bench|calib|docs|export|tests)/[\w./-]*[\w/]")
MODULE = re.compile(r"(?<![\w/.~-])bakit(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = runpy.run_path(str(ROOT / "docs/make_reference.py"))
REFERENCE = SCRIPT["PAGES"]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolves(name):
    """Return whether a dotted name is a module, or an attribute of one."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return name == "bakit"
    try:
        if importlib.util.find_spec(name):
            return True
    except ModuleNotFoundError:  # the parent is a class
        grandparent, _, owner = parent.rpartition(".")
        return hasattr(getattr(importlib.import_module(grandparent), owner, None), last)
    return hasattr(importlib.import_module(parent), last)


@every_page
def test_every_file_exists(page):
    text = page.read_text("utf-8")
    added = set(re.findall(r'```python title="(.*?)"', text))  # a reader of the page makes these
    named = {name for name in FILE.findall(text) if name not in added}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@every_page
def test_every_module_exists(page):
    text = page.read_text("utf-8")
    added = {
        name.removesuffix(".py").replace("/", ".")
        for name in re.findall(r'```python title="(.*?)"', text)
    }
    added |= {f"bakit.{name}" for name in added}
    named = set(MODULE.findall(text)) - added
    suffixes = (".json", ".md", ".png", ".git", ".xml")
    assert [n for n in sorted(named) if not n.endswith(suffixes) and not resolves(n)] == []


@every_page
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("name", REFERENCE)
def test_a_generated_page_is_up_to_date(name):
    written = (ROOT / "docs" / name).read_text("utf-8")
    assert written == REFERENCE[name](), "python docs/make_reference.py"


def test_every_page_is_in_the_navigation_once():
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"^ +- [^#]*?: ([\w-]+\.md)$", site, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in ROOT.glob("docs/*.md"))


def test_links_of_the_site_stay_inside_it():
    for page in ROOT.glob("docs/*.md"):
        assert [link for link in LINK.findall(page.read_text("utf-8")) if "../" in link] == [], page


def test_every_measured_table_has_one_place():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    names = re.findall(r"^<!-- measured: (\w+) -->\n\n\D[^<]*\n<!-- end -->$", text, re.MULTILINE)
    assert len(names) == text.count("<!-- measured: ") == len(set(names))
    figures = runpy.run_path(str(ROOT / "docs/make_figures.py"))["MEASURED"]
    assert set(figures) <= set(names)


def test_every_room_is_on_a_floor():
    found = {path.stem for path in (ROOT / "bakit").glob("*.py")} - {"__init__"}
    found |= {path.parent.name for path in (ROOT / "bakit").glob("*/__init__.py")}
    assert found == {room for floor in SCRIPT["floors"]() for room in floor}


def test_the_way_of_an_image_passes_rooms_once():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    passed = re.findall(r"^\| \d \| `(\w+)` \|", text, re.MULTILINE)
    assert len(passed) == len(set(passed)) > 5
    assert set(passed) <= {room for floor in SCRIPT["floors"]() for room in floor}


def test_the_readme_lists_every_target():
    table = (ROOT / "README.md").read_text("utf-8").split("\n## Targets\n")[1].split("\n## ")[0]
    rows = "".join(re.findall(r"^\|.*\n", table, re.MULTILINE))
    assert set(re.findall(r"`([\w-]+)`", rows)) == set(targets())


def test_scripts_that_import_tests_are_run_as_modules():
    """As files, they would not find the package ``tests``."""
    for script in ROOT.glob("tests/benchmarks/*.py"):
        text = script.read_text("utf-8")
        forms = [f"tests.benchmarks.{script.stem}", f"tests/benchmarks/{script.name}"]
        wrong = forms["from tests" in text]
        command = re.compile(rf"python (-m )?{re.escape(wrong)}")
        pages = [page.name for page in (*PAGES, script) if command.search(page.read_text("utf-8"))]
        assert not pages, f"{pages}: not {wrong}"
