"""The wheel holds what the checkout holds, and importing it is cheap."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path

import pytest
from click.testing import CliRunner

import bakit
from bakit.cli import COMMANDS, HOMES, main
from bakit.errors import DISTRIBUTION, install_command
from bakit.model.checkpoint import SHIPPED

ROOT = Path(__file__).parents[1]
MAPPED = ("export", "bench", "calib")
HEAVY = {
    "ai_edge_litert",
    "coreai",
    "coremltools",
    "cv2",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pyarrow",
    "ray",
    "tensorrt",
    "torch",
}


def setting(table: str, key: str) -> str:
    """Return the text of one key of pyproject.toml: Python 3.10 has no reader for it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    body = text.split(f"[{table}]\n", 1)[1].split("\n[", 1)[0]
    found = re.search(rf'^"?{key}"? = (\[.*?\])$', body, re.DOTALL | re.MULTILINE)
    assert found, key
    return found[1]


def test_every_package_is_listed():
    linked = {ROOT / "bakit" / folder for folder in MAPPED}
    found = set()
    for file in (path for folder in ("bakit", *MAPPED) for path in (ROOT / folder).rglob("*.py")):
        if file.name == "__init__.py" and not linked & set(file.parents):
            parts = file.parent.relative_to(ROOT).parts
            found.add(".".join(parts if parts[0] == "bakit" else ("bakit", *parts)))
    assert set(re.findall(r'"(.*?)"', setting("tool.setuptools", "packages"))) == found


@pytest.mark.parametrize("folder", MAPPED)
def test_link_points_at_the_top_level_folder(folder):
    link = ROOT / "bakit" / folder
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.readlink() == Path("..") / folder


def test_every_data_file_is_packaged():
    """Every file that is no Python source matches a package-data pattern, and each matches."""
    patterns = re.findall(r'"(.*?)"', setting("tool.setuptools.package-data", "bakit"))
    package = ROOT / "bakit"
    packaged = {pattern: set(package.glob(pattern)) for pattern in patterns}
    folders = [package, *(path for path in package.iterdir() if not path.is_symlink())]
    files = {path for folder in folders if folder.is_dir() for path in folder.glob("*.*")}
    data = {path for path in files if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert data == set().union(*packaged.values())
    assert [pattern for pattern, found in packaged.items() if not found] == []


def test_every_file_of_the_page_is_packaged():
    patterns = re.findall(r'"(.*?)"', setting("tool.setuptools.package-data", "bakit.bench"))
    packaged = {path for pattern in patterns for path in (ROOT / "bench").glob(pattern)}
    assert packaged == {path for path in (ROOT / "bench/web").iterdir() if path.is_file()}


def test_the_template_of_the_report_is_packaged():
    """Packages below the mapped folders name their data themselves."""
    listed = re.findall(r'"(.*?)"', setting("tool.setuptools.package-data", "bakit.bench.render"))
    folder = ROOT / "bench/render"
    data = {path.name for path in folder.glob("*.*") if path.suffix not in {".py", ".pyc"}}
    assert data == set(listed)


def test_the_default_checkpoint_is_packaged():
    assert SHIPPED.is_file()


def test_no_import_loads_a_heavy_library():
    modules = ["bakit", "bakit.cli", "bakit.export", "bakit.bench", "bakit.calib"]
    modules += [f"bakit.cli.{HOMES.get(name, name)}" for name in COMMANDS]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, *sorted({HEAVY!r} & sys.modules.keys()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.splitlines() == modules


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f" bakit {name}" in result.stdout.split("Example:")[1]


def test_help_lists_every_command():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+)  +[A-Z]", result.stdout, re.MULTILINE)
    assert listed == list(COMMANDS)


def test_every_command_module_is_listed():
    helpers = {
        "__init__",
        "bench_devices",
        "interrupts",
        "options",
        "progress",
        "tables",
        "training_options",
    }
    found = {path.stem for path in (ROOT / "bakit/cli").glob("*.py")} - helpers
    assert COMMANDS.keys() - HOMES.keys() == found
    assert set(HOMES.values()) <= found


def test_public_names_are_sorted_and_resolve():
    assert bakit.__all__ == sorted(bakit.__all__)
    for name in bakit.__all__:
        home = importlib.import_module(f"bakit.{bakit._HOME[name]}")
        assert getattr(bakit, name) is getattr(home, name)
    assert set(bakit.__all__) <= set(dir(bakit))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'bakit' has no attribute 'nope'"):
        bakit.nope  # noqa: B018


def test_the_version_is_the_package_s():
    result = CliRunner().invoke(main, ["--version"])
    assert result.stdout.endswith(f" {bakit.__version__}\n")


def tracked():
    """Return the paths of the files that git tracks, without links."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = listing.stdout.decode().split("\0")[:-1]
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Build a source distribution of the tracked files; return its members by path."""
    pytest.importorskip("setuptools", "77")
    source = tmp_path_factory.mktemp("source")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    (archive,) = (source / "dist").iterdir()
    assert archive.name == f"bakit_edge-{bakit.__version__}.tar.gz"
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        return {m.name.split("/", 1)[1]: tar.extractfile(m).read() for m in members}


def test_the_sdist_holds_every_tracked_file(sdist):
    generated = {"PKG-INFO", "setup.cfg"}
    packed = {name for name in sdist if not name.startswith("bakit_edge.egg-info/")} - generated
    assert packed == set(tracked()) - {".gitignore"}


def test_the_metadata_names_distribution_version_and_licenses(sdist):
    about = Parser().parsestr(sdist["PKG-INFO"].decode())
    assert (about["Name"], about["Version"]) == (DISTRIBUTION, bakit.__version__)
    assert about["License-Expression"] == "Apache-2.0 AND LicenseRef-RSNA-noncommercial-research"
    assert about.get_all("License-File") == ["LICENSE", "bakit/weights/LICENSE.txt"]
    assert about["Author"] == "The bakit authors"
    urls = dict(url.split(", ") for url in about.get_all("Project-URL"))
    assert f'{DISTRIBUTION}[ort] @ git+{urls["Source"]}"' in (ROOT / "README.md").read_text("utf-8")


def test_the_changelog_dates_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert newest[1] == bakit.__version__


def test_install_commands():
    assert install_command() == "pip install bakit-edge"
    assert install_command("ort") == "pip install 'bakit-edge[ort]'"
    assert install_command("ort", upgrade=True) == "pip install -U 'bakit-edge[ort]'"


def test_no_file_installs_another_project_s_package():
    """``pip install bakit`` would install it."""
    wrong = re.compile(r"""pip install (-\S+ )*['"]?bakit(?!-edge)\b|\bbakit\[""")
    texts = {".md", ".py", ".toml", ".yml", ".html", ".j2", ".mjs"}
    for name in tracked():
        if Path(name).suffix in texts and name != "tests/test_packaging.py":
            found = wrong.search((ROOT / name).read_text("utf-8"))
            assert not found, f"{name}: {found[0]}"


def test_the_tests_end_with_a_list_of_what_was_not_run(tmp_path):
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    reasons = ["no Chromium: cannot start", "sshd does not start here", "Windows keeps open files"]
    lines = [
        f"def test_{i}():\n    import pytest\n    pytest.skip({reason!r})\n"
        for i, reason in enumerate([*reasons, reasons[0]])
    ]
    (tmp_path / "test_x.py").write_text("\n".join(lines))
    whole = "import pytest\npytest.skip('the emulated Arm device is slow', allow_module_level=True)"
    (tmp_path / "test_y.py").write_text(f"{whole}\ndef test_a(): pass\ndef test_b(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n1", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "5 not run" in done.stdout
    assert "   1  the emulated Arm device is slow\n      run: make test-arm" in done.stdout
    assert "   2  no Chromium: cannot start\n      run: .venv/bin/python -m playw" in done.stdout
    assert "openssh-server openssh-client, and root\n" in done.stdout
    assert "   1  Windows keeps open files\n" in done.stdout
